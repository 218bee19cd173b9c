"""The stage tune_summarizer on Ray: two workers, a worker that is killed, a driver that is killed, and the night after
it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tuning_lake
from conftest import ROOT

from mmsrarec.config import Config
from mmsrarec.engines import adapters
from mmsrarec.engines.template import Template
from mmsrarec.progress import Progress
from mmsrarec.storage import runs, tables
from mmsrarec.training import distributed, summarizer_data, summarizer_grpo
from mmsrarec.training.distributed import Job

STAGE = """
import sys
sys.path.insert(0, sys.argv[1])
import tuning_lake
from pathlib import Path
from mmsrarec.training.summarizer_stage import tune_summarizer
if __name__ == "__main__":
    tune_summarizer(tuning_lake.settled(Path(sys.argv[2]), workers=2, steps=int(sys.argv[3])), sys.argv[4])
"""
STEPS = 8
PATIENCE = 400.0
KNOWN = "checkpoint_manager_snapshot.json"  # Ray Train's list of the checkpoints that it goes on from


def rewards_by_step(history: list[dict]) -> dict[int, float]:
    return {row["step"]: row["reward"] for row in history if "reward" in row}


@pytest.mark.slow
def test_a_worker_that_dies_is_started_again_from_the_last_checkpoint(tmp_path: Path) -> None:
    config = tuning_lake.write(tmp_path, workers=2, steps=3)
    learned, _ = summarizer_data.drawn(config, Template.of(config))
    file, died, begun = str(tmp_path / "questions.parquet"), tmp_path / "died", tmp_path / "begun"
    known = Path(config.table("models/tuning")) / "one" / KNOWN
    summarizer_grpo.write(file, summarizer_data.questions(config, learned))

    def build(job: Job) -> summarizer_grpo.Summarizer:
        from transformers import TrainerCallback

        class Dies(TrainerCallback):
            def on_train_begin(self, arguments, state, *_, **__):
                with open(begun, "a") as file:
                    file.write(f"{state.global_step}\n")

            def on_step_end(self, arguments, state, *_, **__):
                if arguments.process_index == 1 and state.global_step == 2 and not died.exists():
                    while not known.exists():  # Ray hears of a checkpoint at its next look
                        time.sleep(0.1)
                    died.touch()
                    os.kill(os.getpid(), signal.SIGKILL)

        trainer = summarizer_grpo.build(job)
        trainer.add_callback(Dies())
        return trainer

    (tmp_path / "home").mkdir()
    before = signal.getsignal(signal.SIGINT)
    with Progress("tune_summarizer", None, "steps") as progress:
        job = Job(config, config.tune_summarizer, file, {})
        points = distributed.run(job, "one", build, tmp_path / "home", progress)
    assert sorted(begun.read_text().split()) == ["0", "0", "1", "1"]  # both workers, both times
    assert [step for step, name, _ in points if name == "reward"] == [1, 2, 3]
    assert (tmp_path / "home" / "adapter_model.safetensors").stat().st_size > 0
    assert signal.getsignal(signal.SIGINT) is before  # of a later stage Ctrl-C asks no trainer that is gone
    distributed.forget(config, "one")
    assert not (Path(config.table("models/tuning")) / "one").exists()


def checkpoints(config: Config) -> list[Path]:
    """Finished ones of the training that is under way, oldest first."""
    found = Path(config.table("models/tuning")).glob("summarizer-*/checkpoint_*/checkpoint/trainer_state.json")
    return sorted(found, key=lambda file: file.stat().st_mtime)


def started(folder: Path, run_id: str) -> subprocess.Popen:
    """The stage in a process of its own, which takes all that it starts with it."""
    command = [sys.executable, "-c", STAGE, str(ROOT / "tests"), str(folder), str(STEPS), run_id]
    kept = [sys.executable, str(ROOT / "tests" / "kept.py"), *command]
    with open(folder / f"{run_id}.log", "w") as log:
        return subprocess.Popen(kept, cwd=folder, stdin=subprocess.PIPE, stdout=log, stderr=log)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_driver_that_is_killed_goes_on_from_the_last_checkpoint(tmp_path: Path) -> None:
    config = tuning_lake.write(tmp_path, workers=2, steps=STEPS)
    first = started(tmp_path, "first")
    end = time.monotonic() + PATIENCE
    while not list(Path(config.table("models/tuning")).glob(f"*/{KNOWN}")):
        assert first.poll() is None and time.monotonic() < end, (tmp_path / "first.log").read_text()[-3000:]
        time.sleep(0.2)
    first.send_signal(signal.SIGTERM)  # kept.py sends SIGKILL to the driver and all of its Ray
    first.wait()
    before = rewards_by_step(json.loads(checkpoints(config)[0].read_text())["log_history"])
    assert before and len(before) < STEPS and adapters.describe(config, "summarizer") is None

    second = started(tmp_path, "second")
    assert second.wait(PATIENCE) == 0, (tmp_path / "second.log").read_text()[-3000:]
    row = runs.ledger(config, "second")[0]
    assert row["status"] == "completed" and row["versions"]["adapter"] == adapters.serving(config, "summarizer").name
    curve = tables.read(config.lake.root, "training_curves").to_pylist()
    after = {point["step"]: point["value"] for point in curve if point["name"] == "reward"}
    assert sorted(after) == list(range(1, STEPS + 1))
    assert {step: after[step] for step in before} == before  # the same training, not another one
    assert not checkpoints(config)  # what is kept is the adapter, or the card that says why there is none
    facts = adapters.describe(config, "summarizer").facts
    assert facts["held_out"] == 6 and {"reward", "downstream", "alarms"} <= facts.keys()

    third = started(tmp_path, "third")
    assert (
        third.wait(PATIENCE) == 0 and runs.ledger(config, "third")[0]["notes"]["skipped"] == "same model and settings"
    )
