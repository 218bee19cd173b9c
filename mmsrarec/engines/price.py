"""From work to hours and money, and the refusal of what `budget` does not allow, before any engine starts.

Speeds are given in the configuration (`plan:`) or those of the largest earlier run of the stage with the same model;
so is the length of a text answer. What a run may still spend is its budget less what its ledger rows say it has spent.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property

from mmsrarec.config import Config
from mmsrarec.engines import delivery
from mmsrarec.engines.template import Template
from mmsrarec.engines.workload import Workload, measure
from mmsrarec.errors import PlanError
from mmsrarec.storage import tables
from mmsrarec.storage.runs import Stage, seconds

UNITS = {  # of the stages that ask an engine
    "tune_summarizer": "items",
    "summarize_items": "items",
    "recommend": "pairs",
    "evaluate": "pairs",
}
COLUMNS = ["stage", "status", "started_at", "finished_at", "prompt_tokens", "output_tokens", "versions", "notes"]


@dataclass(frozen=True)
class Planned:
    """Workload of a stage with its price, None where it cannot be told; `total` are its items or pairs, asked or not;
    `basis` says in words where the figures come from."""

    stage: str
    work: Workload
    seconds: float | None
    money: float | None
    total: int = 0
    basis: str = ""


class Past:
    """What earlier runs on this lake, and a pilot's rows of the ledger, have shown about the configured model."""

    def __init__(self, config: Config, template: Template, pilot: Iterable[dict] = ()):
        self._config, self._model, self._pilot = config, template.identity, pilot

    @cached_property
    def answer_tokens(self) -> float:
        """Tokens of a keyword answer: the mean of all earlier ones, else plan.answer_tokens."""
        runs = self._runs.get("summarize_items", [])
        if runs:
            return sum(row["output_tokens"] for row in runs) / sum(row["requests"] for row in runs)
        return self._config.plan.answer_tokens or self._config.summarize_items.max_tokens / 2

    def priced(self, stage: str, work: Workload, total: int = 0, basis: str = "") -> Planned:
        seconds, price = self._seconds(stage, work), self._config.plan.price_per_hour
        money = None if seconds is None or price is None else seconds / 3600 * price
        return Planned(stage, work, seconds, money, total, basis)

    def _seconds(self, stage: str, work: Workload) -> float | None:
        """With a speed from the ledger the start of the engine counts too."""
        items, plan = UNITS.get(stage) == "items", self._config.plan
        given = plan.items_per_second if items else plan.pairs_per_second
        if not work.requests:
            return 0.0
        if given:
            return (work.groups if items else work.judged) / given
        alike = (self._scored(like) for like in _alike(stage))
        runs = self._scored(stage) or [row for like in alike for row in like]
        if not runs:
            return None
        largest = max(runs, key=lambda row: row["requests"])
        start = max(0.0, largest["seconds"] - largest["requests"] / largest["rate"])
        return start + work.requests / largest["rate"]

    def _scored(self, stage: str) -> list[dict]:
        """Runs of the stage; where it scores, those that asked as the configuration does (pointwise or choice)."""
        runs, scoring = self._runs.get(stage, []), self._config.recommend.scoring
        if UNITS.get(stage) == "items":
            return runs
        return [row for row in runs if ("choice" in row["prompt"]) == (scoring == "choice")]

    @cached_property
    def _runs(self) -> dict[str, list[dict]]:
        """Per stage its completed runs with this model that asked an engine."""
        found: dict[str, list[dict]] = {}
        for row in [*tables.read(self._config.lake.root, "runs", COLUMNS).to_pylist(), *self._pilot]:
            versions, notes = json.loads(row["versions"] or "{}"), json.loads(row["notes"] or "{}")
            answered = notes.get("engine_requests", 0) - notes.get("engine_errors", 0)
            if row["status"] == "completed" and versions.get("model", self._model) == self._model and answered > 0:
                took = seconds(row)
                rate = notes.get("requests_per_second") or answered / max(took, 1e-9)
                known = {"requests": answered, "seconds": took, "rate": rate, "prompt": versions.get("prompt") or ""}
                found.setdefault(row["stage"], []).append(row | known)
        return found


def admit(config: Config, stage: Stage, files: list[str]) -> dict:
    """The plan of these staged requests, as a note for the ledger; raises PlanError as `require` does. What the stage
    has been answered before, in this run, is in the note as it was, so that the note stays comparable."""
    template = Template.of(config)
    past = Past(config, template)
    planned = past.priced(stage.name, measure(config, template, files, past.answer_tokens))
    require(config, stage.run_id, [planned])
    noted = asdict(planned.work)
    noted["requests"] += stage.notes.get("engine_requests", 0)
    noted |= {name: noted[name] + getattr(stage, name) for name in ("prompt_tokens", "output_tokens")}
    noted["tokens"] = noted["prompt_tokens"] + noted["output_tokens"]
    known = {"seconds": planned.seconds, "money": planned.money}
    return noted | {name: round(value, 4) for name, value in known.items() if value is not None}


def require(config: Config, run_id: str, ahead: Iterable[Planned]) -> None:
    """Raise PlanError where the work ahead, with what this run has spent, is more than `budget` allows."""
    ahead = [planned for planned in ahead if planned.work.requests]
    if not config.budget.limited or not ahead:
        return
    stages = ", ".join(planned.stage for planned in ahead)
    plan, spent = totals(config, ahead), _spent(config, run_id)
    for name, allowed in config.budget.model_dump().items():
        if allowed is None:
            continue
        if (planned_cost := plan[name]) is None:
            unknown = next(planned.stage for planned in ahead if planned.seconds is None)
            raise PlanError(
                f"{stages}: budget.{name}={allowed:,} cannot be checked, for no earlier run tells the speed of "
                f"{unknown}. No engine was started; set plan.{UNITS.get(unknown, 'pairs')}_per_second"
            )
        if planned_cost + spent[name] > allowed:
            before = f", after {_shown(name, spent[name], config)} spent by this run," if spent[name] else ""
            raise PlanError(
                f"{stages}: the plan is {_shown(name, planned_cost, config)} ({_figures(ahead)}){before} and "
                f"budget.{name}={allowed:,} allows less. No engine was started; raise budget.{name}, or see with "
                "`mmsrarec plan` what costs how much"
            )


def totals(config: Config, ahead: Iterable[Planned]) -> dict[str, float | None]:
    """Over stages, by the names of `budget`; None where one stage's cannot be told."""
    ahead = list(ahead)
    seconds = [planned.seconds for planned in ahead]
    money = [planned.money for planned in ahead]
    return {
        "tokens": sum(planned.work.tokens for planned in ahead),
        "hours": _sum(seconds, 3600),
        "money": _sum(money),
    }


def _sum(parts: list[float | None], unit: float = 1) -> float | None:
    """None where a part is not known."""
    known = [part for part in parts if part is not None]
    return sum(known) / unit if len(known) == len(parts) else None


def _spent(config: Config, run_id: str) -> dict[str, float]:
    """What the ledger says of the stages that ended; of one that runs, or was stopped, what it was answered."""
    rows = tables.read(config.lake.root, "runs", COLUMNS, [("run_id", "=", run_id)]).to_pylist()
    rows = [row for row in rows if row["stage"] in UNITS]
    hours = sum(seconds(row) for row in rows) / 3600
    tokens = sum((row["prompt_tokens"] or 0) + (row["output_tokens"] or 0) for row in rows)
    for row in rows:
        if row["status"] == "running":
            tokens += sum(
                one.prompt_tokens + one.output_tokens for one in delivery.earlier(config, run_id, row["stage"])
            )
    return {"tokens": tokens, "hours": hours, "money": hours * (config.plan.price_per_hour or 0)}


def _alike(stage: str) -> list[str]:
    """Other stages that ask for the same kind of answer."""
    return [other for other, unit in UNITS.items() if unit == UNITS.get(stage) and other != stage]


def _shown(name: str, value: float, config: Config) -> str:
    return {
        "tokens": f"{value:,.0f} tokens",
        "hours": f"{value:,.3f} hours",
        "money": f"{value:,.2f} {config.plan.currency}",
    }[name]


def _figures(ahead: list[Planned]) -> str:
    return "; ".join(
        f"{planned.stage}: {planned.work.requests:,} requests, {planned.work.prompt_tokens:,} prompt and "
        f"{planned.work.output_tokens:,} output tokens"
        for planned in ahead
    )
