"""The lock of a lake, with real processes: refused, killed, suspended, racing for it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mmsrarec.config import Config
from mmsrarec.errors import LockError
from mmsrarec.storage import guard, lock, runs, tables

ROOT = Path(__file__).parent.parent
# Holds the lake in a stage of the run "other" until a line comes in, then writes.
OTHER = """
import sys
from mmsrarec.config import Config
from mmsrarec.errors import UserError
from mmsrarec.storage import runs
config = Config.model_validate_json(sys.argv[1])
try:
    with runs.stage(config, "retrieve", "other") as stage:
        print("held", flush=True)
        sys.stdin.readline()
        stage.reject("late", "late", "written after the lease")
        stage.flush()
except UserError as error:
    print(error, flush=True)
    sys.exit(error.exit_status)
"""


def settings(folder: Path, lease: int = 300) -> Config:
    return Config(inputs={"items": "-", "interactions": "-"}, lake={"root": str(folder / "lake")}, run={"lease": lease})


@contextmanager
def other_run(config: Config) -> Iterator[subprocess.Popen]:
    command = [sys.executable, "-c", OTHER, config.model_dump_json()]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, **pipes) as process:
        try:
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def leave(config: Config, **changes) -> None:
    """A lock as a run on another machine has left it."""
    with lock.held(config, "elsewhere"):
        seen, mine = lock._last(config.lake.root)
        row = asdict(replace(mine, token="theirs", machine="elsewhere", host="node-7", **changes))
        assert tables.swap(config.lake.root, "locks", tables.from_rows("locks", [row]), seen)


def test_the_second_run_is_refused_at_once_and_told_by_whom(tmp_path):
    config = settings(tmp_path)
    with other_run(config) as process:
        started = time.monotonic()
        with pytest.raises(LockError) as refused, lock.held(config, "mine"):
            pass
        assert time.monotonic() - started < 5
        told = str(refused.value)
        assert all(part in told for part in ("run other since 20", f"process {process.pid} on", "kill", "heartbeat"))
        process.communicate("go on\n")
        assert process.returncode == 0
    with lock.held(config, "mine"):
        assert lock.holder(config.lake.root).run_id == "mine"
    assert lock.holder(config.lake.root) is None


def test_the_lock_of_a_killed_process_is_free_at_once(tmp_path, capsys):
    config = settings(tmp_path)
    with other_run(config) as process:
        process.kill()
        while lock.holder(config.lake.root):  # still alive, or a zombie of ours
            assert time.sleep(0.05) is None
        with lock.held(config, "mine"):
            assert "taken over from run other" in capsys.readouterr().err
    (row,) = runs.ledger(config)
    assert (row["run_id"], row["stage"], row["status"]) == ("other", "retrieve", "lost")


def test_the_lock_of_another_machine_is_free_after_its_lease(tmp_path):
    config = settings(tmp_path, lease=60)
    leave(config)
    with pytest.raises(LockError, match="on node-7"), lock.held(config, "mine"):
        pass
    silent = replace(lock._last(config.lake.root)[1], heartbeat_at=datetime.now(UTC) - timedelta(seconds=61))
    seen = tables.version(config.lake.root, "locks")
    assert tables.swap(config.lake.root, "locks", tables.from_rows("locks", [asdict(silent)]), seen)
    with lock.held(config, "mine"):
        assert lock.holder(config.lake.root).run_id == "mine"


def test_a_heartbeat_keeps_the_lock_beyond_its_lease(tmp_path):
    config = settings(tmp_path, lease=2)
    with other_run(config) as process:
        first = lock.holder(config.lake.root)
        time.sleep(3)
        _, now = lock._last(config.lake.root)
        assert (now.token, now.acquired_at) == (first.token, first.acquired_at)
        assert now.heartbeat_at > first.heartbeat_at
        process.communicate("go on\n")
        assert process.returncode == 0
    assert tables.count(config.lake.root, "rejects") == 1


def test_a_suspended_run_that_lost_the_lake_writes_no_more(tmp_path):
    config = settings(tmp_path, lease=1)
    with other_run(config) as process:
        os.kill(process.pid, signal.SIGSTOP)
        while lock.holder(config.lake.root):
            time.sleep(0.1)
        with lock.held(config, "mine"):
            os.kill(process.pid, signal.SIGCONT)
            said, _ = process.communicate("go on\n")
            assert process.returncode == LockError.exit_status and "run mine" in said
            assert tables.count(config.lake.root, "rejects") == 0
            tables.append(config.lake.root, "rejects", tables.from_rows("rejects", [{"run_id": "mine"}]))
    assert [row["status"] for row in runs.ledger(config)] == ["lost"]


def test_a_run_that_was_suspended_but_not_replaced_goes_on(tmp_path):
    config = settings(tmp_path, lease=1)
    with other_run(config) as process:
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(1.5)
        os.kill(process.pid, signal.SIGCONT)
        process.communicate("go on\n")
        assert process.returncode == 0
    assert [row["status"] for row in runs.ledger(config)] == ["completed"]


def test_of_many_that_ask_at_once_exactly_one_gets_it(tmp_path):
    root = settings(tmp_path).lake.root
    tables.append(root, "rejects", tables.from_rows("rejects", [{"run_id": "0"}]))
    for seen in (None, 0, 1, 2):
        rows = [tables.from_rows("locks", [{"token": str(number)}]) for number in range(8)]
        with ThreadPoolExecutor(8) as threads:
            won = list(threads.map(lambda row, seen=seen: tables.swap(root, "locks", row, seen), rows))
        assert won.count(True) == 1
        version, now = tables.snapshot(root, "locks")
        assert now.equals(rows[won.index(True)]) and version == (0 if seen is None else seen + 1)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_or_an_interruption_releases(tmp_path, error):
    config = settings(tmp_path)
    with pytest.raises(error), lock.held(config, "mine"):
        with lock.held(config, "mine"):  # a stage within its run
            assert guard.guarded(config.lake.root)
        assert lock.holder(config.lake.root).run_id == "mine"
        raise error
    assert lock.holder(config.lake.root) is None and not guard.guarded(config.lake.root)


def test_the_command_is_refused_with_its_own_exit_status_and_json_lines(tmp_path):
    config = settings(tmp_path)
    (tmp_path / "c.yaml").write_text(
        f"inputs: {{items: a.csv, interactions: b.csv}}\nlake: {{root: {tmp_path}/lake}}\n"
    )
    command = [sys.executable, "-c", "from mmsrarec.cli import main; main()", "run", str(tmp_path / "c.yaml")]
    with lock.held(config, "mine"):
        done = subprocess.run([*command, "--log-format", "json"], cwd=ROOT, capture_output=True, text=True, timeout=300)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert done.returncode == LockError.exit_status == lines[-1]["fields"]["exit_status"]
    assert [line["event"] for line in lines] == ["run_started", "error"] and "run mine" in lines[-1]["message"]
    assert len({line["run_id"] for line in lines}) == 1 and lines[0]["run_id"]
    assert tables.read(config.lake.root, "runs").num_rows == 0


def test_a_run_that_may_wait_takes_the_lake_when_it_is_given_back(tmp_path):
    config = settings(tmp_path)
    patient = config.model_copy(update={"run": config.run.model_copy(update={"wait": 60})})
    with other_run(config) as process, ThreadPoolExecutor(1) as pool:

        def mine() -> str:
            with lock.held(patient, "mine"):
                return lock.holder(config.lake.root).run_id

        waiting = pool.submit(mine)
        time.sleep(2)
        assert not waiting.done()
        process.communicate("go on\n")
        assert waiting.result(30) == "mine"


def test_a_run_that_has_waited_long_enough_is_refused(tmp_path):
    config = settings(tmp_path)
    leave(config)
    patient = config.model_copy(update={"run": config.run.model_copy(update={"wait": 2})})
    started = time.monotonic()
    with pytest.raises(LockError, match="held by run elsewhere"), lock.held(patient, "mine"):
        pass
    assert 2 <= time.monotonic() - started < 10


def test_a_run_that_may_wait_outlasts_the_lease_of_a_dead_one(tmp_path):
    config = settings(tmp_path, lease=3)
    leave(config)
    patient = config.model_copy(update={"run": config.run.model_copy(update={"wait": 60})})
    with lock.held(patient, "mine"):
        assert lock.holder(config.lake.root).run_id == "mine"
