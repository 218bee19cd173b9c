"""A run that was stopped goes on under its id after what it completed; anything else is a new run."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from mmsrarec.cli import commands, endings
from mmsrarec.config import Config
from mmsrarec.errors import DiskFullError, disk_full
from mmsrarec.pipeline import STAGES, StageEntry, run_stages
from mmsrarec.storage import lock, runs, tables
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
    """A run that completed its first stage."""
    run = Run(settings(shop), NAMES)
    assert run.begin() == NAMES
    with runs.stage(run.config, "build_cf", run.run_id):
        pass
    return run


def test_the_same_command_goes_on(shop: Path) -> None:
    before = stopped(shop)
    again = Run(settings(shop), NAMES)
    assert (again.run_id, again.begin()) == (before.run_id, ["recommend"])
    with pytest.raises(ValueError), runs.stage(again.config, "recommend", again.run_id):
        raise ValueError
    assert Run(settings(shop), NAMES).begin() == ["recommend"]
    with runs.stage(again.config, "recommend", again.run_id):
        pass
    assert Run(settings(shop), NAMES).begin() == []


def test_a_finished_run_is_not_gone_on_with(shop: Path) -> None:
    before = stopped(shop)
    before.finish()
    again = Run(settings(shop), NAMES)
    assert again.run_id != before.run_id and again.begin() == NAMES


def test_a_run_that_is_under_way_is_not_gone_on_with(shop: Path) -> None:
    before = stopped(shop)
    with lock.held(before.config, before.run_id):
        assert Run(settings(shop), NAMES).run_id != before.run_id
    assert Run(settings(shop), NAMES).run_id == before.run_id


def test_the_next_try_of_a_run_that_was_given_its_id_goes_on_while_its_lock_is_still_held(shop: Path) -> None:
    given = {"run": {"date": "2026-03-01", "id": "20260301T010000-abc123", "wait": 60}}
    before = Run(settings(shop, **given), NAMES)
    before.begin()
    with lock.held(before.config, before.run_id), runs.stage(before.config, "build_cf", before.run_id):
        pass
    with lock.held(before.config, before.run_id):  # as of a head that was lost a moment ago
        again = Run(settings(shop, **given), NAMES)
    assert (before.run_id, again.run_id) == 2 * ("20260301T010000-abc123",)
    assert again.begin() == ["recommend"]


def test_a_run_may_start_with_a_later_stage() -> None:
    assert commands._stages_from("build_cf") == list(STAGES)
    assert commands._stages_from("train_sasrec") == list(STAGES)[1:]
    with pytest.raises(typer.BadParameter, match="no stage train_sasrek; the stages are build_cf"):
        commands._stages_from("train_sasrek")


def test_anything_else_is_a_new_run_and_ends_the_old_one(shop: Path) -> None:
    before = stopped(shop)
    for other in (
        Run(settings(shop), ["recommend"]),
        Run(settings(shop, run={"date": "2026-03-02"}), NAMES),
        Run(settings(shop, recommend={"top_k": 3}), NAMES),
    ):
        assert other.run_id != before.run_id
    assert Run(settings(shop), NAMES).run_id == before.run_id  # they have not begun
    assert other.begin() == list(other.names)
    assert Run(settings(shop), NAMES).run_id != before.run_id


@pytest.mark.parametrize("changed", ["items.csv", "excluded.csv"])
def test_other_inputs_are_another_run(shop: Path, changed: str) -> None:
    (shop / "excluded.csv").write_text("item_id\n")
    config = settings(shop, rules={"exclude_items_file": str(shop / "excluded.csv")})
    before = Run(config, NAMES)
    before.begin()
    assert Run(config, NAMES).run_id == before.run_id
    (shop / changed).write_text("item_id\n7\n")
    assert Run(config, NAMES).run_id != before.run_id


def test_a_stage_that_is_run_again_has_its_rejects_and_its_ledger_row_once(shop: Path) -> None:
    config, run = settings(shop), Run(settings(shop), NAMES)
    run.begin()
    with runs.stage(config, "build_cf", run.run_id) as stage:
        stage.reject("u1", "null_item_id", "none")
    with pytest.raises(ValueError), runs.stage(config, "recommend", run.run_id, ("histories",)) as stage:
        stage.reject("u1", "no_candidates", "none")
        raise ValueError
    again = Run(config, NAMES)
    again.begin()
    with runs.stage(config, "recommend", again.run_id, ("histories",)) as stage:
        stage.reject("u1", "no_candidates", "none")
    rejects = tables.read(config.lake.root, "rejects").to_pylist()
    assert sorted(row["stage"] for row in rejects) == ["build_cf", "recommend"]
    ledger = [(row["run_id"], row["stage"], row["status"]) for row in runs.ledger(config)]
    assert ledger == [(run.run_id, name, "completed") for name in NAMES]


class Entry(StageEntry):
    """A stage that does what it is told."""

    def function(self, name):
        def stage(config, run_id):
            with runs.stage(config, name, run_id):
                self.module(name)

        return stage


def test_a_run_of_stages_skips_what_it_completed(shop: Path, monkeypatch, capsys) -> None:
    did, broken = [], [True]

    def work(name: str) -> None:
        did.append(name)
        if name == "recommend" and broken:
            raise ValueError("today not")

    for name in NAMES:
        monkeypatch.setitem(STAGES, name, Entry(work, "none"))
    before = Run(settings(shop), NAMES)
    with pytest.raises(ValueError):
        run_stages(before)
    broken.clear()
    run_stages(Run(settings(shop), NAMES))
    assert did == ["build_cf", "recommend", "recommend"]
    assert "build_cf: completed before this run was stopped" in capsys.readouterr().err
    assert {row["run_id"] for row in runs.ledger(before.config)} == {before.run_id}
    run_stages(Run(settings(shop), NAMES))
    assert did[3:] == NAMES


# Runs two stages, and is killed in the second.
KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from test_resume import NAMES, Entry, settings
from mmsrarec.pipeline import STAGES, run_stages
from mmsrarec.storage.resume import Run
for name in NAMES:
    STAGES[name] = Entry(lambda name: name == "recommend" and os.kill(os.getpid(), signal.SIGKILL), "none")
run_stages(Run(settings(Path(sys.argv[1])), NAMES))
"""


def test_a_killed_run_is_taken_over_and_gone_on_with(shop: Path, monkeypatch, capsys) -> None:
    command = [sys.executable, "-c", KILLED, str(shop), str(Path(__file__).parent)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    killed = runs.ledger(settings(shop))
    assert [(row["stage"], row["status"]) for row in killed] == [("build_cf", "completed"), ("recommend", "lost")]
    did: list[str] = []
    for name in NAMES:
        monkeypatch.setitem(STAGES, name, Entry(did.append, "none"))
    run_stages(Run(settings(shop), NAMES))
    assert did == ["recommend"] and f"taken over from run {killed[0]['run_id']}" in capsys.readouterr().err
    after = [(row["run_id"], row["stage"], row["status"]) for row in runs.ledger(settings(shop))]
    assert after == [(killed[0]["run_id"], name, "completed") for name in NAMES]


@pytest.mark.parametrize(
    "error, full",
    [
        (OSError(28, os.strerror(28)), True),
        (RuntimeError("Generic LocalFileSystem error: … (os error 28)"), True),
        (ValueError("other"), False),
    ],
)
def test_a_full_disk_is_told_whoever_met_it(tmp_path: Path, monkeypatch, capsys, error: Exception, full: bool) -> None:
    def work() -> None:
        try:
            raise error
        finally:
            raise RuntimeError("and the ledger could not be written either")

    monkeypatch.chdir(tmp_path)  # where the trace of an unexpected error goes
    assert bool(disk_full(error)) == full
    assert endings.guarded(work) == (DiskFullError.exit_status if full else 1)
    assert ("run the same command again" in capsys.readouterr().err) == full
