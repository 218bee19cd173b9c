"""From groups of requests to answers by Ray Data; the Ray itself is cluster.py's.

`answer` asks only what the `answers` table does not know; where it knows everything, neither Ray nor an engine starts.
Groups pass through Parquet files in the lake's staging folder, one row per group and one file per call of an engine, so
that millions of them need little memory and a user's prompts stay together on one engine. Only the names of files go
through Ray: answers stay in staging until they are committed (delivery.py), so that a run that dies keeps them, and a
node that dies costs what its engine had not written yet: Ray starts that engine again, where there is room.
"""

import logging
import os
import re
import sys
import time
import traceback
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import dropwhile
from pathlib import Path
from threading import Thread

import psutil
import pyarrow as pa
import ray
import ray.data

from mmsrarec import errors, log
from mmsrarec.config import Config
from mmsrarec.engines import cluster, delivery, price, staging
from mmsrarec.engines.answers import Answers
from mmsrarec.engines.delivery import Delivery, Origin
from mmsrarec.engines.types import Answer, Group
from mmsrarec.engines.vllm import VLLMEngine
from mmsrarec.errors import ConfigError, ModelError, UserError, shortened
from mmsrarec.redact import hidden
from mmsrarec.storage import files, runs
from mmsrarec.storage.scratch import Scratch

COMMIT_SECONDS = 60.0
RESTARTS = 3  # of an engine whose process dies; then the stage fails, since its next request may be what kills it
LOST_NODES = 20  # the same on a cluster, whose spot nodes come and go; a request still has only RESTARTS
LOOK_EVERY_SECONDS = 2.0  # whether an engine's processes are alive
OWN = re.compile(r"^mmsrarec\.errors\.(\w+): ")  # what Python puts before an error of ours


def answer(config: Config, stage: runs.Stage, groups: Iterable[Group]) -> Answers:
    """Answers to every request of `groups`, by `request.key(Template.of(config).identity)`.

    An answer with `error` is returned but not remembered, so it is asked again next time; reject its row. Raises
    ModelError where the engine cannot start or stops, PlanError where the work ahead is more than `budget` allows.
    """
    delivery.recover(config)
    answers = Answers()
    origin = Origin(delivery.period(config), stage.name, stage.run_id)
    with Scratch("asking") as scratch, Delivery(config, f"{stage.name}-{stage.run_id}") as delivered:
        asked = scratch.path / "asked.parquet"
        kinds = staging.stage(config, groups, answers, asked)
        known = answers.recall(config.lake.root, kinds, origin.period, config.lake.learned)
        noted = {"answers_known": known, "engine_requests": 0, "engine_errors": 0, "cached_tokens": 0}
        stage.notes |= {note: stage.notes.get(note, 0) + count for note, count in noted.items()}
        _account_earlier(stage)
        files, count = staging.stage_new(config, answers, asked, delivered.folder)
        if files:
            stage.notes["planned"] = price.admit(config, stage, files)
            _ask(config, stage, answers, delivered, Work(files, count, origin))
    return answers


@dataclass(frozen=True)
class Work:
    """Staged files, how many requests they hold, and what their answers have in common."""

    files: list[str]
    count: int
    origin: Origin


class Replica:
    """One engine in one Ray actor."""

    def __init__(self, config: Config, origin: Origin):
        self._origin, self._failure = origin, None
        try:
            _check_reach(config)
            self._engine = VLLMEngine(config)
            Thread(target=_end_with, args=(self._engine.processes,), daemon=True).start()
        except Exception as error:  # raised here, Ray would print it and build the actor anew
            print(hidden(traceback.format_exc()), file=sys.stderr, flush=True)  # for the log file
            error.__cause__, error.__suppress_context__ = None, True
            self._failure = error

    def __call__(self, batch: pa.Table) -> pa.Table:
        """The name of a staged file to that of its answers. What an actor that died has finished is not done again."""
        if self._failure:
            raise self._failure
        (file,) = batch["file"].to_pylist()
        answers = delivery.written(file)
        if answers is None:
            answers = delivery.write(file, self._engine.answer(*staging.read(file)), self._origin)
        return pa.table({"file": [answers]})


def _end_with(processes: set[psutil.Process]) -> None:
    """End this process, an actor, when one of its engine's has ended: Ray starts another."""
    while processes:
        time.sleep(LOOK_EVERY_SECONDS)
        for process in processes:
            if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                log.say(f"the engine's process {process.pid} has died", "engine_process_died", logging.ERROR)
                os._exit(1)


def _ask(config: Config, stage: runs.Stage, answers: Answers, delivered: Delivery, work: Work) -> None:
    """Let the engines answer, and keep what they say."""
    try:
        with cluster.joined(config), _patient(config, stage):
            _keep(stage, answers, delivered, _engine_answers(config, work), work.count)
    except ray.exceptions.RayError as error:
        kind, said = _cause(error)
        raise kind(
            f"{stage.name}: the engine stopped: {said}. What it answered before is kept; mend this and run again to go "
            "on from there"
        ) from error


@contextmanager
def _patient(config: Config, stage: runs.Stage) -> Iterator[None]:
    """Tell the end of Ray Data's patience, while the cluster can still be asked."""
    try:
        yield
    except ray.data.exceptions.ExecutionTimeoutError as error:
        waited = ray.data.DataContext.get_current().execution_no_progress_timeout_s / 60
        raise ModelError(
            f"{stage.name}: no engine had anything to show for {waited:.0f} minutes: {cluster.room(config)}. What was "
            "answered before is kept; run again when there is room (RAY_DATA_EXECUTION_NO_PROGRESS_TIMEOUT_S says how "
            "many seconds to wait)"
        ) from error


def _check_reach(config: Config) -> None:
    """Raises ConfigError where this node does not see the lake's disk."""
    root = config.lake.root
    if files.is_local(root) and not Path(root).is_dir():
        raise ConfigError(
            f"lake.root={root} is not on the node {os.uname().nodename}, where engines read what they are asked: put "
            "the lake on S3, or on a disk that every node has at the same place"
        )


def for_any_node(config: Config) -> Config:
    """The configuration where relative paths start elsewhere."""

    def whole(place: str | None) -> str | None:
        return str(Path(place).resolve()) if place and files.is_local(place) and Path(place).exists() else place

    inputs = config.inputs.model_copy(update={"images": whole(config.inputs.images)})
    lake = config.lake.model_copy(update={"root": whole(config.lake.root), "learned": whole(config.lake.learned)})
    found: dict = {
        "inputs": inputs,
        "lake": lake,
        "model": config.model if config.model == "bundled" else whole(config.model),
    }
    for name in ("tune_summarizer", "tune_recommender"):
        section = getattr(config, name)
        places = {"adapter": whole(section.adapter)}
        if name == "tune_summarizer":
            places["language_model"] = whole(section.language_model)
        found[name] = section.model_copy(update=places)
    return config.model_copy(update=found)


def _engine_answers(config: Config, work: Work) -> Iterator[str]:
    """Ray Data: one row per staged file in, the file of its answers out, in the order in which the engines are done."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.max_consecutive_actor_init_deaths = RESTARTS
    if not log.diverted():
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what goes wrong is in the error that we raise
    engine = config.engine
    rows = [{"file": file} for file in work.files]
    # The engine reads its file itself: reader processes would cost more than they bring on a small machine.
    dataset = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        Replica,
        fn_constructor_args=(for_any_node(config), work.origin),
        batch_size=1,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(min_size=engine.replicas, max_size=engine.most_replicas),
        num_cpus=1,
        num_gpus=engine.num_gpus or None,
        **_restarts(config),
    )
    for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
        yield from batch["file"].to_pylist()


def _restarts(config: Config) -> dict[str, int]:
    """Ray takes these in no other way yet, and warns that it will."""
    warnings.filterwarnings("ignore", message=".*ray_remote_args", category=DeprecationWarning)
    return {"max_restarts": LOST_NODES if config.engine.cluster else RESTARTS, "max_task_retries": RESTARTS}


def _keep(stage: runs.Stage, answers: Answers, delivered: Delivery, files: Iterator[str], count: int) -> None:
    """Commit answers as they come, count them, and check that none is missing at the end."""
    committed, marks = time.monotonic(), []
    with stage.progress(count, "requests") as progress:
        try:
            for file in files:
                found = delivered.add(file)
                answers.put(found)
                _account(stage, found)
                progress.advance(len(found))
                marks.append((time.monotonic(), progress.done))
                if marks[-1][0] - committed > COMMIT_SECONDS:
                    delivered.commit()
                    committed = marks[-1][0]
        finally:
            delivered.commit()
    if progress.done != count:
        raise ModelError(f"{stage.name}: the engines answered {progress.done:,} of {count:,} requests; run again")
    stage.notes |= _rate(marks)


def _rate(marks: list[tuple[float, int]]) -> dict[str, float]:
    """Requests a second after the first result, which carries the start of the engines; marks are (time, done)."""
    (start, before), (end, after) = marks[0], marks[-1]
    return {"requests_per_second": round((after - before) / (end - start), 1)} if end > start else {}


def _account(stage: runs.Stage, found: list[Answer]) -> None:
    notes = stage.notes
    stage.prompt_tokens += sum(answer.prompt_tokens for answer in found)
    stage.output_tokens += sum(answer.output_tokens for answer in found)
    notes["engine_requests"] += len(found)
    notes["engine_errors"] += sum(answer.error is not None for answer in found)
    notes["cached_tokens"] += sum(answer.cached_tokens for answer in found)
    notes["prefix_cache_hit_rate"] = round(notes["cached_tokens"] / max(stage.prompt_tokens, 1), 4)


def _account_earlier(stage: runs.Stage) -> None:
    """Count what a driver that died had answered for this very stage of this run: the run has paid for it."""
    if not stage.notes["engine_requests"] and (earlier := delivery.earlier(stage.config, stage.run_id, stage.name)):
        _account(stage, earlier)
        stage.notes["answers_known"] -= len(earlier)


def _cause(error: BaseException) -> tuple[type[UserError], str]:
    """Of which kind it is, and in words what Ray itself tells of; else what the first traceback ends with: that is the
    innermost, the others are Ray's own path to it."""
    if isinstance(error, ray.exceptions.OutOfMemoryError):
        memory = "the machine's memory ran out; lower engine.kv_cache_gb or engine.replicas, or take a larger machine"
        return ModelError, memory
    if isinstance(error, (ray.exceptions.RayActorError, ray.exceptions.WorkerCrashedError)):
        return ModelError, "its process or its machine died again and again"
    lines = str(error).split("\n\nThe above exception was")[0].splitlines()
    frames = [number for number, line in enumerate(lines) if line.startswith('  File "')]
    rest = dropwhile(lambda line: line.startswith("    "), lines[frames[-1] + 1 :] if frames else lines)
    said = shortened(" ".join(rest), 500)
    kind = getattr(errors, own[1]) if (own := OWN.match(said)) else ModelError
    return kind, OWN.sub("", said) or type(error).__name__
