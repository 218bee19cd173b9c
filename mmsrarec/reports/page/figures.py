"""All figures of the page: those of lists, keywords and outcome, and what they come to: the funnel, the cost, what has
changed since the night before."""

from collections.abc import Callable
from dataclasses import dataclass

from mmsrarec.config import Config
from mmsrarec.reports.page import lists, outcome, words
from mmsrarec.reports.page.lists import Lists, Overlap
from mmsrarec.reports.page.outcome import Course, Evaluation, Rejected
from mmsrarec.reports.page.tally import BATCH_ROWS, Tally
from mmsrarec.reports.page.tonight import Tonight, seconds
from mmsrarec.reports.page.words import Words
from mmsrarec.storage import tables


@dataclass(frozen=True)
class Source:
    """What names candidates: how many it named, each counting for the first that did; and how many are on a list."""

    name: str
    candidates: int
    listed: int


@dataclass(frozen=True)
class Step:
    """One of the funnel; `unit` is what is counted, `part` what it is a part of."""

    name: str
    count: int
    unit: str
    part: str = ""


@dataclass(frozen=True)
class Change:
    """A figure before and now; `form` names how it is shown (a filter of page.py)."""

    name: str
    before: float | None
    now: float | None
    form: str = "number"

    @property
    def by(self) -> float | None:
        return None if self.before is None or self.now is None else self.now - self.before


@dataclass(frozen=True)
class Figures:
    """Everything that is counted; None where there is nothing to count yet. `expected` are the users of histories."""

    tonight: Tonight
    expected: int
    lists: Lists | None
    lists_before: Lists | None
    overlap: Overlap | None
    funnel: list[Step]
    sources: list[Source]
    words: Words
    rejected: list[Rejected]
    evaluation: Evaluation | None
    courses: list[Course]
    changes: list[Change]

    @property
    def coverage(self) -> float | None:
        """Share of the items in the shop that are on at least one list."""
        return self.lists.items.num_rows / max(self.words.available, 1) if self.lists else None

    @property
    def seconds(self) -> float:
        return sum(map(seconds, self.tonight.stages.values()))

    @property
    def tokens(self) -> tuple[int, int]:
        """Read and written by the engine."""
        rows = self.tonight.stages.values()
        return sum(row["prompt_tokens"] for row in rows), sum(row["output_tokens"] for row in rows)

    @property
    def cached_tokens(self) -> int:
        return sum(row["notes"].get("cached_tokens", 0) for row in self.tonight.stages.values())


def measure(config: Config, tonight: Tonight) -> Figures:
    """Reads columns, never a whole large table."""
    night = tonight.night
    now = lists.measure(config, night.table, night.run_date) if night else None
    before = lists.measure(config, "recommendations", night.before) if night and night.before else None
    expected = tables.count(config.lake.root, "histories")
    named = _named(config)
    return Figures(
        tonight,
        expected,
        now,
        before,
        lists.overlap(config, night) if night else None,
        _funnel(tonight, expected, now, sum(named.values())),
        [Source(name, count, now.sources.get(name, 0) if now else 0) for name, count in named.items()],
        words.measure(config),
        outcome.rejected(config, tonight),
        outcome.evaluation(config, tonight),
        outcome.courses(config, tonight),
        _changes(tonight, now, before),
    )


def _named(config: Config) -> dict[str, int]:
    tally = Tally()
    for batch in tables.stream(config.lake.root, "candidates", ["source"], BATCH_ROWS):
        tally.add(batch["source"])
    return tally.counts()


def _funnel(tonight: Tonight, users: int, now: Lists | None, candidates: int) -> list[Step]:
    pairs = "pairs of user and item"
    steps = [Step("candidates", candidates, pairs)]
    scored = tonight.count("recommend", "rows_in")[1]
    if scored:
        steps.append(Step("scored", scored, pairs, "of the candidates"))
    if now and tonight.night:
        steps.append(Step("listed", now.rows, pairs, "of the scored"))
        steps.append(Step("published", now.rows if tonight.night.published else 0, pairs, "of the listed"))
    return [Step("users", users, "users with a history"), *steps]


def _changes(tonight: Tonight, now: Lists | None, before: Lists | None) -> list[Change]:
    def of_stage(name: str, stage: str, column: str) -> Change:
        return Change(name, *tonight.count(stage, column))

    def of_lists(name: str, read: Callable[[Lists], float], form: str = "number") -> Change:
        return Change(name, read(before) if before else None, read(now) if now else None, form)

    def of_run(name: str, read: Callable[[dict], float], form: str = "number") -> Change:
        earlier, latest = (sum(map(read, rows.values())) if rows else None for rows in (tonight.before, tonight.stages))
        return Change(name, earlier, latest, form)

    changes = [
        of_lists("users with a list", lambda found: found.users),
        of_lists("items on at least one list", lambda found: found.items.num_rows),
        of_lists("mean score", lambda found: found.mean, "score"),
        of_stage("rows of the inputs", "build_cf", "rows_in"),
        of_stage("items with keywords", "summarize_items", "rows_out"),
        of_stage("candidates", "retrieve", "rows_out"),
        of_run("rows rejected", lambda row: row["rows_rejected"]),
        of_run("engine tokens", lambda row: row["prompt_tokens"] + row["output_tokens"]),
        of_run("time of all stages", seconds, "duration"),
    ]
    return [change for change in changes if change.now is not None]
