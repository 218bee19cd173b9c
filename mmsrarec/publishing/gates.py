"""The gates between a staged night and its readers. Pure: figures and settings in, a verdict per gate out."""

from typing import NamedTuple

from mmsrarec.config import Publish
from mmsrarec.publishing.figures import Figures

QUANTILES = (0.1, 0.5, 0.9)


class Gate(NamedTuple):
    """`setting` names the limit in the configuration, None where there is nothing to set."""

    name: str
    figure: float
    limit: float
    at_least: bool
    setting: str | None

    @property
    def passed(self) -> bool:
        return self.figure >= self.limit if self.at_least else self.figure <= self.limit

    def __str__(self) -> str:
        relation = "at least" if self.at_least else "at most"
        remedy = f"publish.{self.setting}" if self.setting else "no setting loosens it"
        return f"{self.name}: {self.figure:g}, allowed is {relation} {self.limit:g} ({remedy})"


def judge(figures: Figures, settings: Publish) -> list[Gate]:
    """Every gate that applies; those that compare need a night before."""
    covered, full = figures.covered / max(figures.expected, 1), figures.full / max(figures.lists, 1)
    found = [
        Gate("users covered", round(covered, 4), settings.users_covered, True, "users_covered"),
        Gate("lists full", round(full, 4), settings.lists_full, True, "lists_full"),
        *(
            Gate(f"{name} in the lists", getattr(figures, name), 0, False, None)
            for name in ("unavailable", "seen", "excluded", "repeated")
        ),
        Gate("lists with missing ranks", figures.malformed, 0, False, None),
    ]
    return found if figures.night_before is None else found + _compared(figures, settings)


def _compared(figures: Figures, settings: Publish) -> list[Gate]:
    now, before = figures.scores, figures.scores_before
    mean = abs(now.mean - before.mean)
    quantile = max(abs(now.quantile(share) - before.quantile(share)) for share in QUANTILES)
    overlap = round(figures.again / max(figures.comparable, 1), 4)
    return [
        Gate("shift of the mean score", round(mean, 4), settings.mean_shift, False, "mean_shift"),
        Gate("shift of a score quantile", round(quantile, 4), settings.quantile_shift, False, "quantile_shift"),
        Gate("overlap with the night before", overlap, settings.overlap_min, True, "overlap_min"),
        Gate("overlap with the night before", overlap, settings.overlap_max, False, "overlap_max"),
    ]
