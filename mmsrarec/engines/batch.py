"""From groups of requests to answers by Ray Data: the only file that knows Ray.

`answer` asks only what the `answers` table does not know; where it knows everything, neither Ray nor an engine starts.
Groups pass through Parquet files in the lake's staging folder, one row per group and one file per call of an engine, so
that millions of them need little memory and a user's prompts stay together on one engine. Answers are committed as they
come back: a run that is stopped keeps what was answered.
"""

import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import dropwhile
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import ray
import ray.data

from mmsrarec.config import Config
from mmsrarec.engines import price, staging
from mmsrarec.engines.answers import Answers
from mmsrarec.engines.types import Answer, Group
from mmsrarec.engines.vllm import VLLMEngine, environment
from mmsrarec.errors import ModelError
from mmsrarec.progress import Progress
from mmsrarec.schemas import TABLES
from mmsrarec.storage import runs, tables

COMMIT_SECONDS = 60.0
START_ATTEMPTS = 3
OBJECT_STORE_BYTES = 256 * 2**20

ANSWERS = pa.schema([field for field in TABLES["answers"] if field.name not in ("stage", "run_id")])


def answer(config: Config, stage: runs.Stage, groups: Iterable[Group]) -> Answers:
    """Answers to every request of `groups`, by `request.key(Template(config.model_path).identity)`.

    An answer with `error` is returned but not remembered, so it is asked again next time; reject its row. Raises
    ModelError where the engine cannot start or stops, PlanError where the work ahead is more than `budget` allows.
    """
    answers = Answers()
    parent = Path(config.lake.root) / "staging"
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{stage.name}-{stage.run_id}-", dir=parent))
    try:
        staging.stage(config, groups, answers, folder / "asked.parquet")
        known = answers.recall(config.lake.root)
        noted = {"answers_known": known, "engine_requests": 0, "engine_errors": 0, "cached_tokens": 0}
        stage.notes |= {note: stage.notes.get(note, 0) + count for note, count in noted.items()}
        files, count = staging.stage_new(config, answers, folder)
        if files:
            stage.notes["planned"] = price.admit(config, stage.name, stage.run_id, files)
            _ask(config, stage, answers, files, count)
        return answers
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Replica:
    """One engine in one Ray actor."""

    def __init__(self, config: Config):
        self._failure = None
        try:
            self._engine = VLLMEngine(config)
        except Exception as error:  # raised here, Ray would print it and build the actor anew
            self._failure = error

    def __call__(self, batch: pa.Table) -> pa.Table:
        """The name of a staged file to rows of ANSWERS."""
        if self._failure:
            raise self._failure
        (file,) = batch["file"].to_pylist()
        answers = self._engine.answer(*staging.read(file))
        return pa.Table.from_pylist([asdict(answer) for answer in answers], schema=ANSWERS)


def _ask(config: Config, stage: runs.Stage, answers: Answers, files: list[str], count: int) -> None:
    """Let the engines answer `files`, and keep what they say."""
    try:
        with _ray(config):
            _keep(config, stage, answers, _engine_answers(config, files), count)
    except ray.exceptions.RayError as error:
        raise ModelError(
            f"{stage.name}: the engine stopped: {_cause(error)}. What it answered before is kept; mend this and run "
            "again to go on from there"
        ) from error


def _engine_answers(config: Config, files: list[str]) -> Iterator[pa.Table]:
    """Ray Data: one row per staged file in, its answers out, in the order in which the engines are done."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what goes wrong is in the error that we raise
    engine = config.engine
    # The engine reads its file itself: reader processes would cost more than they bring on a small machine.
    dataset = ray.data.from_items([{"file": file} for file in files], override_num_blocks=len(files)).map_batches(
        Replica,
        fn_constructor_args=(config,),
        batch_size=1,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=engine.replicas),
        num_cpus=1,
        num_gpus=engine.num_gpus or None,
    )
    yield from dataset.iter_batches(batch_size=None, batch_format="pyarrow")


def _keep(config: Config, stage: runs.Stage, answers: Answers, results: Iterator[pa.Table], count: int) -> None:
    """Commit answers as they come, count them, and check that none is missing at the end."""
    pending: list[pa.Table] = []
    committed, marks = time.monotonic(), []
    with Progress(stage.name, count, "requests") as progress:
        try:
            for result in results:
                found = [Answer(**row) for row in result.to_pylist()]
                answers.put(found)
                _account(stage, found)
                pending.append(result.filter(pc.is_null(result["error"])))
                progress.advance(len(found))
                marks.append((time.monotonic(), progress.done))
                if marks[-1][0] - committed > COMMIT_SECONDS:
                    _commit(config, stage, pending)
                    committed = marks[-1][0]
        finally:
            _commit(config, stage, pending)
    if progress.done != count:
        raise ModelError(f"{stage.name}: the engines answered {progress.done:,} of {count:,} requests; run again")
    stage.notes |= _rate(marks)


def _rate(marks: list[tuple[float, int]]) -> dict[str, float]:
    """Requests a second after the first result, which carries the start of the engines; marks are (time, done)."""
    (start, before), (end, after) = marks[0], marks[-1]
    return {"requests_per_second": round((after - before) / (end - start), 1)} if end > start else {}


def _commit(config: Config, stage: runs.Stage, pending: list[pa.Table]) -> None:
    """Append to `answers` and empty `pending`."""
    if pending:
        data = pa.concat_tables(pending)
        for name, value in (("stage", stage.name), ("run_id", stage.run_id)):
            data = data.append_column(name, pa.repeat(value, data.num_rows))
        tables.append(config.lake.root, "answers", data)
        pending.clear()


def _account(stage: runs.Stage, found: list[Answer]) -> None:
    notes = stage.notes
    stage.prompt_tokens += sum(answer.prompt_tokens for answer in found)
    stage.output_tokens += sum(answer.output_tokens for answer in found)
    notes["engine_requests"] += len(found)
    notes["engine_errors"] += sum(answer.error is not None for answer in found)
    notes["cached_tokens"] += sum(answer.cached_tokens for answer in found)
    notes["prefix_cache_hit_rate"] = round(notes["cached_tokens"] / max(stage.prompt_tokens, 1), 4)


def _start(arguments: dict) -> None:
    """Start or join Ray. It waits a fixed 30 s for its own processes, which a busy machine may need longer for."""
    for attempt in range(1, START_ATTEMPTS + 1):
        try:
            ray.init(**arguments)
            return
        except Exception as error:  # Ray raises plain Exception where its processes do not come up
            ray.shutdown()
            if attempt == START_ATTEMPTS:
                reason = " ".join(str(error).split())
                raise ModelError(f"Ray does not start: {reason}; run again when less is going on") from error


@contextmanager
def _ray(config: Config) -> Iterator[None]:
    """Ray as it runs already, else the cluster of RAY_ADDRESS, else one of our own on this machine."""
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")  # workers run the environment that is there
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_worker_niceness", "0")  # by default Ray's workers give way to everything else
    variables, own = environment(config), {}
    if not os.environ.get("RAY_ADDRESS"):
        own = {"address": "local", "num_cpus": config.engine.replicas + 1, "include_dashboard": False}
        own["object_store_memory"] = OBJECT_STORE_BYTES
        if not config.engine.num_gpus:  # Ray would give an engine one thread
            threads = max(1, len(os.sched_getaffinity(0)) // config.engine.replicas)
            variables["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", str(threads))
    _start({"runtime_env": {"env_vars": variables}, "log_to_driver": False, "logging_level": logging.ERROR, **own})
    try:
        yield
    finally:
        ray.shutdown()


def _cause(error: BaseException) -> str:
    """What the first traceback ends with: that is the innermost, the others are Ray's own path to it."""
    lines = str(error).split("\n\nThe above exception was")[0].splitlines()
    frames = [number for number, line in enumerate(lines) if line.startswith('  File "')]
    said = dropwhile(lambda line: line.startswith("    "), lines[frames[-1] + 1 :] if frames else lines)
    return " ".join(" ".join(said).split())[:500] or type(error).__name__
