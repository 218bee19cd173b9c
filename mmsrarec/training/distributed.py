"""A trainer of Hugging Face's on the workers of Ray Train: started, gone on with after a kill, and brought home. The
only file that knows Ray Train.

Checkpoints lie in the lake (models/tuning). A run is named by what it is made from, so the same command finds the last
one and goes on; a worker that dies is started again from there by Ray. When all is done, what is left is the adapter.
"""

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow.fs
import ray
import ray.train
from ray.train.torch import TorchTrainer

from mmsrarec import signals
from mmsrarec.config import Config, Tuning
from mmsrarec.engines import adapters, cluster
from mmsrarec.engines.batch import for_any_node
from mmsrarec.errors import ModelError, UserError
from mmsrarec.progress import Progress
from mmsrarec.storage import files, s3
from mmsrarec.training import curve

if TYPE_CHECKING:
    from transformers import Trainer

Answer = TypeVar("Answer")

RESTARTS = 3  # of the workers, from the last checkpoint; then the stage fails
KEPT = 2  # checkpoints
CHECKPOINT = "checkpoint"  # folder of Hugging Face's checkpoint in one of Ray's
EXAMPLES = ".parquet"
STATE = "trainer_state.json"
LOOK_SECONDS = 2.0


@dataclass(frozen=True)
class Job:
    """What a worker needs: the configuration as it holds on any node, the settings of its tuning, the file of the
    examples, and whatever else the trainer is told."""

    config: Config
    settings: Tuning
    examples: str
    more: dict


def run(job: Job, name: str, build: Callable[[Job], "Trainer"], home: Path, progress: Progress) -> list[curve.Point]:
    """Train what `build` makes of the job, by settings.workers processes, and put the adapter's files into `home`;
    what the trainer logged, step by step, before a kill, too. `name` is of all that decides the outcome.

    Raises ModelError where the workers fail again and again; the same call goes on from their last checkpoint.
    """
    config, settings = job.config, job.settings
    place, system = _storage(config)
    with cluster.joined(config, settings.workers), _followed(progress) as steps:
        examples = str(Path(job.examples).resolve()) if files.is_local(job.examples) else job.examples
        anywhere = replace(job, config=for_any_node(config), examples=examples)
        trainer = TorchTrainer(
            _work,
            train_loop_config={"job": anywhere, "build": build, "steps": steps},
            scaling_config=ray.train.ScalingConfig(
                num_workers=settings.workers,
                use_gpu=bool(settings.num_gpus),
                resources_per_worker={"CPU": 1, **({"GPU": 1} if settings.num_gpus else {})},
            ),
            run_config=ray.train.RunConfig(
                name=name,
                storage_path=place,
                storage_filesystem=system,
                failure_config=ray.train.FailureConfig(max_failures=RESTARTS),
                checkpoint_config=ray.train.CheckpointConfig(num_to_keep=KEPT),
            ),
        )
        try:
            with signals.given_back(signal.SIGINT):  # Ray Train keeps it for a controller that is gone later
                result = trainer.fit()
        except ray.train.TrainingFailedError as error:
            raise ModelError(f"{_said(error)}; the same command goes on from the last checkpoint") from error
        with result.checkpoint.as_directory() as folder:
            return _brought(Path(folder) / CHECKPOINT, home)


def once(job: Job, work: Callable[..., Answer], *arguments: Any) -> Answer:
    """What `work(job, *arguments)` returns in one process with what a worker has, its GPU if it has one."""
    with cluster.joined(job.config, 1):
        anywhere = replace(job, config=for_any_node(job.config))
        options = {"num_cpus": 1, "num_gpus": job.settings.num_gpus, "max_retries": RESTARTS}
        try:
            return ray.get(ray.remote(**options)(work).remote(anywhere, *arguments))
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, UserError):
                raise error.cause from None
            raise
        except ray.exceptions.RayError as error:
            raise ModelError(f"{_said(error)}; run the same command again") from error


def forget(config: Config, kind: str) -> None:
    """Delete the checkpoints and the examples of all runs of a kind: the outcome of one is kept elsewhere, and others,
    of earlier settings or data, were given up."""
    folder = config.table("models/tuning")
    for name in {one.name.partition("/")[0] for one in files.listing(folder)}:
        if name.startswith(kind):
            (files.delete if name.endswith(EXAMPLES) else files.delete_folder)(f"{folder}/{name}")


@ray.remote(num_cpus=0)
class Steps:
    """How far the first worker is, for the driver's progress."""

    def __init__(self) -> None:
        self._done, self._total = 0, 0

    def tell(self, done: int, total: int) -> None:
        self._done, self._total = done, total

    def told(self) -> tuple[int, int]:
        return self._done, self._total


@contextmanager
def _followed(progress: Progress) -> Iterator[Any]:
    """A counter for the workers, whose count the progress shows meanwhile."""
    steps, over = Steps.remote(), Event()  # type: ignore[attr-defined]

    def follow() -> None:
        while not over.wait(LOOK_SECONDS):
            done, progress.total = ray.get(steps.told.remote())
            if done > progress.done:
                progress.advance(done - progress.done)

    thread = Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield steps
    finally:
        over.set()
        thread.join()


def _storage(config: Config) -> tuple[str, pyarrow.fs.FileSystem | None]:
    place = config.table("models/tuning")
    if files.is_local(place):
        Path(place).mkdir(parents=True, exist_ok=True)
        return str(Path(place).resolve()), None
    return "tuning", s3.arrow(config.table("models"))


def _work(told: dict[str, Any]) -> None:
    """One worker: build the trainer, go on from the last checkpoint if there is one, report each that is saved."""
    from ray.train.huggingface.transformers import RayTrainReportCallback
    from transformers import TrainerCallback

    class Tell(TrainerCallback):
        def on_step_end(self, _: Any, state: Any, *__: Any, **___: Any) -> None:
            if ray.train.get_context().get_world_rank() == 0:
                told["steps"].tell.remote(state.global_step, state.max_steps)

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    trainer = told["build"](told["job"])
    trainer.add_callback(RayTrainReportCallback())
    trainer.add_callback(Tell())
    before = ray.train.get_checkpoint()
    if before is None:
        trainer.train()
        return
    with before.as_directory() as folder:
        state = json.loads((Path(folder) / CHECKPOINT / STATE).read_text())
        if state["global_step"] < state["max_steps"]:  # else it had ended, and its driver was killed behind it
            trainer.train(resume_from_checkpoint=str(Path(folder) / CHECKPOINT))


def _brought(checkpoint: Path, home: Path) -> list[curve.Point]:
    for file in (adapters.SETTINGS, adapters.WEIGHTS):
        (home / file).write_bytes((checkpoint / file).read_bytes())
    return logged(json.loads((checkpoint / STATE).read_text())["log_history"])


def logged(history: list[dict]) -> list[curve.Point]:
    """Points of a curve from what a trainer of Hugging Face's logs."""
    beside = {"step", "epoch"}
    rows = [(row["step"], {name: value for name, value in row.items() if name not in beside}) for row in history]
    return [
        (step, name, float(value))
        for step, row in rows
        for name, value in row.items()
        if isinstance(value, int | float)
    ]


def _said(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:500] if lines else type(error).__name__
