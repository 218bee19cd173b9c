"""Speeds from the ledger or the configuration, and what `budget` refuses before any engine starts."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import ray

from mmsrarec.config import Config
from mmsrarec.engines import batch, price
from mmsrarec.engines.price import Past
from mmsrarec.engines.template import Template
from mmsrarec.engines.types import Group, Request
from mmsrarec.engines.workload import Workload
from mmsrarec.errors import PlanError
from mmsrarec.storage import runs, tables

STARTED = datetime(2026, 3, 1, tzinfo=UTC)
ITEMS, PAIRS = Workload(100, 200, 100, 20_000, 0, 1_200), Workload(10, 300, 0, 60_000, 40_000, 300)


def settings(folder: Path, **sections) -> Config:
    return Config(inputs={"items": "-", "interactions": "-"}, lake={"root": str(folder)}, **sections)


def past(config: Config) -> Past:
    return Past(config, Template(config.model_path))


def ledger(config: Config, stage: str, seconds: float, run_id: str = "r", **notes) -> None:
    row = {"run_id": run_id, "stage": stage, "status": notes.pop("status", "completed"), "started_at": STARTED}
    row |= {"finished_at": STARTED + timedelta(seconds=seconds), "prompt_tokens": 9_000, "output_tokens": 1_000}
    model = notes.pop("model", Template(config.model_path).identity)
    row |= {"versions": json.dumps({"model": model}), "notes": json.dumps(notes)}
    tables.append(config.lake.root, "runs", tables.from_rows("runs", [row]))


def test_the_ledger_tells_speed_start_and_length_of_answers(tmp_path: Path) -> None:
    config = settings(tmp_path, plan={"price_per_hour": 36})
    ledger(config, "summarize_items", 60, engine_requests=500, requests_per_second=10)  # 10 s to start
    ledger(config, "summarize_items", 5, "small", engine_requests=3)
    ledger(config, "summarize_items", 1, "failed", engine_requests=9_000, status="failed")
    ledger(config, "summarize_items", 1, "other", engine_requests=9_000, model="another")
    ledger(config, "recommend", 100, engine_requests=1_000)
    known = past(config)
    assert known.answer_tokens == 2_000 / 503
    items = known.priced("summarize_items", ITEMS)
    assert (items.seconds, items.money) == (10 + 200 / 10, pytest.approx(0.3))
    assert known.priced("evaluate", PAIRS).seconds == 300 / 10, "evaluate scores as recommend does"
    assert known.priced("recommend", Workload()).seconds == 0


def test_what_is_given_wins(tmp_path: Path) -> None:
    config = settings(tmp_path, plan={"items_per_second": 50, "pairs_per_second": 100, "answer_tokens": 6})
    ledger(config, "recommend", 100, engine_requests=1_000)
    known = past(config)
    assert known.priced("summarize_items", ITEMS).seconds == 100 / 50
    assert known.priced("recommend", PAIRS).seconds == 300 / 100
    assert known.answer_tokens == 6 and known.priced("recommend", PAIRS).money is None
    assert past(settings(tmp_path / "new")).answer_tokens == 24
    assert past(settings(tmp_path / "new")).priced("recommend", PAIRS).seconds is None


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        ({"tokens": 81_499}, ["summarize_items, recommend", "81,500 tokens", "budget.tokens=81,499"]),
        ({"hours": 0.001}, ["0.001 hours", "budget.hours=0.001"]),
        ({"money": 0.01}, ["EUR", "budget.money=0.01"]),
    ],
)
def test_a_budget_refuses(tmp_path: Path, budget: dict, words: list[str]) -> None:
    speeds = {"items_per_second": 50, "pairs_per_second": 100, "price_per_hour": 36}
    config = settings(tmp_path, plan=speeds, budget=budget)
    ahead = [past(config).priced("summarize_items", ITEMS), past(config).priced("recommend", PAIRS)]
    with pytest.raises(PlanError) as error:
        price.require(config, "r", ahead)
    assert all(word in str(error.value) for word in [*words, "No engine was started"]), str(error.value)
    plenty = {name: 1_000 * value for name, value in budget.items()}
    price.require(settings(tmp_path, plan=speeds, budget=plenty), "r", ahead)


def test_what_this_run_has_spent_counts(tmp_path: Path) -> None:
    config = settings(tmp_path, budget={"tokens": 65_000})
    ahead = [past(config).priced("recommend", PAIRS)]
    price.require(config, "r", ahead)
    ledger(config, "summarize_items", 60, "r", engine_requests=500)
    price.require(config, "another run", ahead)
    with pytest.raises(PlanError, match="after 10,000 tokens spent by this run"):
        price.require(config, "r", ahead)
    price.require(config, "r", [past(config).priced("recommend", Workload())])  # nothing is ahead


def test_what_a_stage_was_answered_before_it_was_stopped_counts(tmp_path: Path) -> None:
    config = settings(tmp_path, budget={"tokens": 65_000})
    ahead = [past(config).priced("recommend", PAIRS)]
    with runs.stage(config, "recommend", "r") as stage:
        for period in ("2026-02-01", "2026-03-01"):  # the same answer, kept on
            row = {"period": period, "key": "k", "kind": "yes_no", "p_yes": 0.5, "stage": "recommend", "run_id": "r"}
            row |= {"prompt_tokens": 4_900, "cached_tokens": 0, "output_tokens": 100}
            tables.append(config.lake.root, "answers", tables.from_rows("answers", [row]))
        with pytest.raises(PlanError, match="after 5,000 tokens spent by this run"):
            price.require(config, "r", ahead)
        price.require(config, "another run", ahead)
        stage.prompt_tokens, stage.output_tokens = 4_900, 100
    with pytest.raises(PlanError, match="after 5,000 tokens spent by this run"):
        price.require(config, "r", ahead)


def test_hours_that_nobody_knows_are_refused(tmp_path: Path) -> None:
    config = settings(tmp_path, budget={"hours": 100})
    with pytest.raises(PlanError, match="plan.items_per_second"):
        price.require(config, "r", [past(config).priced("summarize_items", ITEMS)])


def test_no_engine_starts_above_the_budget(tmp_path: Path) -> None:
    config = settings(tmp_path, budget={"tokens": 10})
    with pytest.raises(PlanError, match="budget.tokens=10"), runs.stage(config, "recommend", "r") as stage:
        batch.answer(config, stage, [Group("u", (Request("a mug " * 20, "yes_no"),))])
    assert not ray.is_initialized()
    (row,) = tables.read(config.lake.root, "runs").to_pylist()
    assert row["status"] == "failed" and "PlanError" in row["notes"]
    assert not list((tmp_path / "staging").iterdir())
