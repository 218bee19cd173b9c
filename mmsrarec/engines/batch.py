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
from dataclasses import asdict
from itertools import compress, islice
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray
import ray.data

from mmsrarec.config import Config
from mmsrarec.engines.answers import Answers
from mmsrarec.engines.template import Template
from mmsrarec.engines.types import Answer, Group, Request
from mmsrarec.engines.vllm import VLLMEngine, environment
from mmsrarec.errors import ModelError
from mmsrarec.progress import Progress
from mmsrarec.schemas import TABLES
from mmsrarec.storage import runs, tables

COMMIT_SECONDS = 60.0
OBJECT_STORE_BYTES = 256 * 2**20

REQUEST = pa.struct(
    [
        ("prompt", pa.string()),
        ("kind", pa.string()),
        ("max_tokens", pa.int64()),
        ("image", pa.string()),
        ("image_hash", pa.string()),
    ]
)
GROUPS = pa.schema([("name", pa.string()), ("keys", pa.list_(pa.string())), ("requests", pa.list_(REQUEST))])
ANSWERS = pa.schema([field for field in TABLES["answers"] if field.name not in ("stage", "run_id")])


def answer(config: Config, stage: runs.Stage, groups: Iterable[Group]) -> Answers:
    """Answers to every request of `groups`, by `request.key(Template(config.model_path).identity)`.

    An answer with `error` is returned but not remembered, so it is asked again next time; reject its row. Raises
    ModelError where the engine cannot start or stops.
    """
    answers = Answers()
    parent = Path(config.lake.root) / "staging"
    parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f"{stage.name}-{stage.run_id}-", dir=parent))
    try:
        _stage(config, groups, answers, staging / "asked.parquet")
        known = answers.recall(config.lake.root)
        noted = {"answers_known": known, "engine_requests": 0, "engine_errors": 0, "cached_tokens": 0}
        stage.notes |= {note: stage.notes.get(note, 0) + count for note, count in noted.items()}
        files, count = _stage_new(config, answers, staging)
        if files:
            _ask(config, stage, answers, files, count)
        return answers
    finally:
        shutil.rmtree(staging, ignore_errors=True)


class Replica:
    """One engine in one Ray actor."""

    def __init__(self, config: Config):
        self.engine = VLLMEngine(config)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Names of files with rows of GROUPS to rows of ANSWERS."""
        rows = [row for file in batch["file"].to_pylist() for row in pq.read_table(file, schema=GROUPS).to_pylist()]
        requests = [Request(**request) for row in rows for request in row["requests"]]
        keys = [key for row in rows for key in row["keys"]]
        return pa.Table.from_pylist([asdict(one) for one in self.engine.answer(requests, keys)], schema=ANSWERS)


def _stage(config: Config, groups: Iterable[Group], answers: Answers, path: Path) -> None:
    """Write every group to one file, with the key of each request; one that was asked before is left out."""
    identity = Template(config.model_path, config.engine.trust_remote_code).identity
    with pq.ParquetWriter(path, GROUPS, compression="zstd") as writer:
        for some in _batches(groups, config.engine.batch_rows):
            rows = []
            for group in some:
                keys = [request.key(identity) for request in group.requests]
                new = answers.ask(keys)
                rows.append(_row(group.name, keys, map(asdict, group.requests), new))
            writer.write_table(pa.Table.from_pylist(rows, schema=GROUPS))


def _stage_new(config: Config, answers: Answers, staging: Path) -> tuple[list[str], int]:
    """Write what has no answer yet to files of engine.batch_rows groups each; those files and how many requests."""
    files, count = [], 0
    for some in _batches(_unanswered(answers, staging / "asked.parquet"), config.engine.batch_rows):
        files.append(str((staging / f"{len(files):06d}.parquet").resolve()))
        pq.write_table(pa.Table.from_pylist(some, schema=GROUPS), files[-1], compression="zstd")
        count += sum(len(row["keys"]) for row in some)
    return files, count


def _unanswered(answers: Answers, path: Path) -> Iterator[dict]:
    for batch in pq.ParquetFile(path).iter_batches(1024):
        for row in batch.to_pylist():
            missing = answers.missing(row["keys"])
            if missing:
                yield _row(row["name"], row["keys"], row["requests"], [key in missing for key in row["keys"]])


def _row(name: str, keys: list[str], requests: Iterable[dict], kept: list[bool]) -> dict:
    """A row of GROUPS with the requests that are `kept`."""
    return {"name": name, "keys": list(compress(keys, kept)), "requests": list(compress(requests, kept))}


def _batches(rows: Iterable, size: int) -> Iterator[list]:
    rows = iter(rows)
    while some := list(islice(rows, size)):
        yield some


def _ask(config: Config, stage: runs.Stage, answers: Answers, files: list[str], count: int) -> None:
    """Start Ray where it is not running, let the engines answer `files`, and keep what they say."""
    started = _start_ray(config)
    try:
        results = _engine_answers(config, files)
        _keep(config, stage, answers, results, count)
    except ray.exceptions.RayError as error:
        raise ModelError(
            f"{stage.name}: the engine stopped: {_cause(error)}. What it answered before is kept; mend this and run "
            "again to go on from there"
        ) from error
    finally:
        if started:
            ray.shutdown()


def _engine_answers(config: Config, files: list[str]) -> Iterator[pa.Table]:
    """Ray Data: one row per staged file in, its answers out, in the order in which the engines are done."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
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
    stage.notes |= _rate(marks)
    if progress.done != count:
        raise ModelError(f"{stage.name}: the engines answered {progress.done:,} of {count:,} requests; run again")


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


def _start_ray(config: Config) -> bool:
    """Connect to the cluster of RAY_ADDRESS, else start Ray here; True where there is something to shut down."""
    if ray.is_initialized():
        return False
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")  # workers run the environment that is there
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if os.environ.get("RAY_ADDRESS"):
        ray.init(runtime_env={"env_vars": environment(config)}, **quiet)
        return True
    os.environ.setdefault("RAY_worker_niceness", "0")  # by default Ray's workers give way to everything else
    threads = max(1, len(os.sched_getaffinity(0)) // config.engine.replicas)
    local = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads))} if not config.engine.num_gpus else {}
    ray.init(
        address="local",
        num_cpus=config.engine.replicas + 1,
        include_dashboard=False,
        object_store_memory=OBJECT_STORE_BYTES,
        runtime_env={"env_vars": environment(config) | local},
        **quiet,
    )
    return True


def _cause(error: BaseException) -> str:
    """The last line of the first traceback, which is the innermost: the others are Ray's own path to it."""
    innermost = str(error).split("\n\nThe above exception was")[0]
    lines = [line.strip() for line in innermost.splitlines() if line.strip()]
    return lines[-1][:500] if lines else type(error).__name__
