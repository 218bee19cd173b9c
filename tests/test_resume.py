"""A run that was stopped goes on under its id after what it completed; anything else is a new run."""

import os
from pathlib import Path

import pytest

from mmsrarec.config import Config
from mmsrarec.errors import DiskFullError, disk_full
from mmsrarec.pipeline import STAGES, StageEntry, run_stage
from mmsrarec.storage import runs, tables
from mmsrarec.storage.resume import Run

NAMES = ["build_cf", "recommend"]


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    for name in ("items.csv", "interactions.csv"):
        (tmp_path / name).write_text("item_id\n")
    return tmp_path


def settings(shop: Path, **sections) -> Config:
    inputs = {"items": str(shop / "items.csv"), "interactions": str(shop / "interactions.csv")}
    sections = {"run": {"date": "2026-03-01"}} | sections
    return Config(inputs=inputs, lake={"root": str(shop / "lake")}, **sections)


def stopped(shop: Path) -> Run:
    run = Run(settings(shop), NAMES)
    run.complete("build_cf")
    return run


def test_the_same_command_goes_on(shop: Path) -> None:
    before = stopped(shop)
    again = Run(settings(shop), NAMES)
    assert (again.run_id, again.done) == (before.run_id, ("build_cf",))
    again.complete("recommend")
    assert Run(settings(shop), NAMES).done == ("build_cf", "recommend")


def test_a_finished_run_is_not_gone_on_with(shop: Path) -> None:
    before = stopped(shop)
    before.finish()
    again = Run(settings(shop), NAMES)
    assert again.run_id != before.run_id and again.done == ()


def test_anything_else_is_a_new_run_and_ends_the_old_one(shop: Path) -> None:
    before = stopped(shop)
    for other in (
        Run(settings(shop), ["recommend"]),
        Run(settings(shop, run={"date": "2026-03-02"}), NAMES),
        Run(settings(shop, recommend={"top_k": 3}), NAMES),
        Run(settings(shop), NAMES),
    ):
        assert other.run_id != before.run_id and other.done == ()


def test_other_inputs_are_another_run(shop: Path) -> None:
    before = stopped(shop)
    (shop / "items.csv").write_text("item_id\n7\n")
    assert Run(settings(shop), NAMES).run_id != before.run_id


def test_a_stage_that_is_run_again_has_its_rejects_and_its_ledger_row_once(shop: Path) -> None:
    config, run = settings(shop), stopped(shop)
    for name in ("build_cf", "recommend"):
        with runs.stage(config, name, run.run_id) as stage:
            stage.reject("u1", "no_candidates", "none")
    again = Run(config, NAMES)
    with runs.stage(config, "recommend", again.run_id) as stage:
        stage.reject("u1", "no_candidates", "none")
    rejects = tables.read(config.lake.root, "rejects").to_pylist()
    assert sorted(row["stage"] for row in rejects) == ["build_cf", "recommend"]
    ledger = tables.read(config.lake.root, "runs").to_pylist()
    assert sorted((row["run_id"], row["stage"]) for row in ledger) == [(run.run_id, n) for n in sorted(NAMES)]


@pytest.mark.parametrize(
    "error",
    [OSError(28, os.strerror(28)), RuntimeError("Generic LocalFileSystem error: … (os error 28)"), ValueError("other")],
)
def test_a_full_disk_is_told_whoever_met_it(shop: Path, monkeypatch, error: Exception) -> None:
    class Entry(StageEntry):
        def function(self, name):
            def stage(config, run_id):
                try:
                    raise error
                finally:
                    raise RuntimeError("and the ledger could not be written either")

            return stage

    monkeypatch.setitem(STAGES, "recommend", Entry("none", "none"))
    expected = RuntimeError if isinstance(error, ValueError) else DiskFullError
    with pytest.raises(expected) as caught:
        run_stage("recommend", settings(shop), "run")
    assert disk_full(error) == (expected is DiskFullError)
    assert expected is RuntimeError or "run the same command again" in str(caught.value)
