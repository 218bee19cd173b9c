"""Groups in files, between whoever asks and the engines: one Parquet row per group. Knows no engine and no Ray.

What is asked for stays on the disk of whoever asks; what an engine is to answer goes where every engine can read it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from io import BytesIO
from itertools import compress, islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mmsrarec.config import Config
from mmsrarec.engines.answers import Answers
from mmsrarec.engines.template import Template
from mmsrarec.engines.types import Group, Request
from mmsrarec.storage import files

REQUEST = pa.struct(
    [
        ("prompt", pa.string()),
        ("kind", pa.string()),
        ("max_tokens", pa.int64()),
        ("image", pa.string()),
        ("image_hash", pa.string()),
        ("adapter", pa.string()),
        ("letters", pa.int64()),
    ]
)
GROUPS = pa.schema([("name", pa.string()), ("keys", pa.list_(pa.string())), ("requests", pa.list_(REQUEST))])


def stage(config: Config, groups: Iterable[Group], answers: Answers, path: Path) -> set[str]:
    """Write every group to one file, with the key of each request; one that was asked before is left out. The kinds."""
    identity, kinds = Template.of(config).identity, set()
    with pq.ParquetWriter(path, GROUPS, compression="zstd") as writer:
        for some in _batches(groups, config.engine.batch_rows):
            rows = []
            for group in some:
                keys = [request.key(identity) for request in group.requests]
                new = answers.ask(keys)
                kinds |= {request.kind for request in group.requests}
                rows.append(_row(group.name, keys, map(asdict, group.requests), new))
            writer.write_table(pa.Table.from_pylist(rows, schema=GROUPS))
    return kinds


def stage_new(config: Config, answers: Answers, asked: Path, folder: str | Path) -> tuple[list[str], int]:
    """Write what has no answer yet of the file `asked` to files of engine.batch_rows groups each in `folder`; those
    files and how many requests."""
    places: list[str] = []
    count = 0
    for some in _batches(_unanswered(answers, asked), config.engine.batch_rows):
        places.append(f"{folder}/{len(places):06d}.parquet")
        content = BytesIO()
        pq.write_table(pa.Table.from_pylist(some, schema=GROUPS), content, compression="zstd")
        files.write(places[-1], content.getvalue())
        count += sum(len(row["keys"]) for row in some)
    return places, count


def opened(file: str) -> pq.ParquetFile:
    """A staged file, whose rows are GROUPS."""
    return pq.ParquetFile(BytesIO(files.content(file)))


def read(file: str) -> tuple[list[Request], list[str]]:
    """All requests of a staged file with their keys."""
    rows = opened(file).read().to_pylist()
    requests = [Request(**request) for row in rows for request in row["requests"]]
    return requests, [key for row in rows for key in row["keys"]]


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
