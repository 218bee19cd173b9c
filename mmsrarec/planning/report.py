"""The plan on the screen: a row per stage, what it rests on below, and what `budget` would say to it."""

import json

from rich.console import Console
from rich.table import Table

from mmsrarec import log
from mmsrarec.config import Config
from mmsrarec.engines import price
from mmsrarec.engines.price import UNITS, Planned
from mmsrarec.engines.workload import Workload
from mmsrarec.errors import PlanError
from mmsrarec.planning import pilot
from mmsrarec.planning.lake import tonight
from mmsrarec.planning.plan import plan
from mmsrarec.storage import tables

LOG_WIDTH = 140  # where standard output is no terminal, so that no cell is folded
HEADS = ("to do", "of", "requests", "pictures", "prompt tokens", "spared by prefixes", "output tokens", "hours")


def show(config: Config, fresh: bool, with_pilot: bool = False, console: Console | None = None) -> None:
    """Print what a run would ask its engines now. Writes nothing to the lake and, without a pilot, starts no engine."""
    console = console or log.console(LOG_WIDTH)
    with tonight(config, fresh) as planned_on:
        stages = plan(planned_on, piloted=pilot.ask(planned_on) if with_pilot else pilot.NONE)
    console.print(_table(config, stages))
    for planned in stages:
        console.print(f"{planned.stage}: {planned.basis}{_last(config, planned.stage)}", markup=False, highlight=False)
    console.print(_verdict(config, stages), markup=False, highlight=False)


def _table(config: Config, stages: list[Planned]) -> Table:
    table = Table(show_lines=False)
    table.add_column("stage")
    for head in (*HEADS, config.plan.currency):
        table.add_column(head, justify="right")
    for planned in stages:
        unit = UNITS[planned.stage]
        done = planned.work.groups if unit == "items" else planned.work.judged
        table.add_row(
            planned.stage, f"{done:,} {unit}", f"{planned.total:,}", *_cells(planned.work),
            _number(planned.seconds and planned.seconds / 3600, planned.seconds), _number(planned.money, planned.money),
        )  # fmt: skip
    total = sum((planned.work for planned in stages), Workload())
    sums = price.totals(config, stages)
    table.add_section()
    table.add_row("total", "", "", *_cells(total), *(_number(sums[name], sums[name]) for name in ("hours", "money")))
    return table


def _cells(work: Workload) -> list[str]:
    return [
        f"{count:,}"
        for count in (work.requests, work.pictures, work.prompt_tokens, work.cached_tokens, work.output_tokens)
    ]


def _number(value: float | None, known: float | None) -> str:
    return "unknown" if known is None else f"{value:,.3f}"


def _last(config: Config, stage: str) -> str:
    """How far the plan of the last run that asked an engine was from what it took."""
    rows = tables.read(config.lake.root, "runs", filters=[("stage", "=", stage), ("status", "=", "completed")])
    for row in rows.sort_by([("finished_at", "descending")]).to_pylist():
        planned = json.loads(row["notes"] or "{}").get("planned")
        if planned:
            actual = row["prompt_tokens"] + row["output_tokens"]
            off = 100 * (planned["tokens"] / max(actual, 1) - 1)
            return f"; run {row['run_id']} planned {planned['tokens']:,} tokens and took {actual:,} ({off:+.1f}%)"
    return ""


def _verdict(config: Config, stages: list[Planned]) -> str:
    try:
        price.require(config, "", stages)
    except PlanError as error:
        return f"A run would be refused. {error}"
    missing = [f"plan.{UNITS[one.stage]}_per_second" for one in stages if one.seconds is None]
    if missing:
        return f"Hours: no earlier run tells them; set {' and '.join(sorted(set(missing)))}."
    return "Within budget." if config.budget.limited else "No budget is set."
