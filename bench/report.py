"""How long the report page takes on a lake of many users, and how much memory: tables by chance, no engine.

    python bench/report.py [--users 200000] [--items 50000] [--folder build/bench_report]

Two published nights of ten items per user, thirty candidates per user, six keywords per item.
"""

import argparse
import resource
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from mmsrarec.config import Config
from mmsrarec.reports.page import stage
from mmsrarec.schemas import TABLES
from mmsrarec.storage import runs, tables

NIGHTS = ("2026-03-01", "2026-03-02")
LISTED, CANDIDATES, HISTORY, KEYWORDS = 10, 30, 12, 6
SOURCES = pa.array(["sasrec", "content", "cooccurrence", "similar_users", "popular"])
PART = 20_000  # users written at a time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=200_000)
    parser.add_argument("--items", type=int, default=50_000)
    parser.add_argument("--folder", type=Path, default=Path("build/bench_report"))
    arguments = parser.parse_args()
    shutil.rmtree(arguments.folder, ignore_errors=True)
    config = Config(inputs={"items": "-", "interactions": "-"}, lake={"root": str(arguments.folder / "lake")})
    fill(config, arguments.users, arguments.items)
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    stage.write(config)
    seconds, peak = time.monotonic() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"{arguments.users:,} users, {arguments.items:,} items: page in {seconds:.1f} s")
    print(f"peak memory {peak / 2**20:.2f} GiB, {before / 2**20:.2f} GiB of it while the tables were written")


def fill(config: Config, users: int, items: int) -> None:
    """Write the tables that the page reads, and a ledger of two runs."""
    chance, root = np.random.default_rng(1), config.lake.root
    ids = pa.array([f"item-{number:07d}" for number in range(items)])
    words = pa.array([f"word {number}" for number in range(2000)])
    keywords = nested(words.take(pa.array(popular(chance, 2000, items * KEYWORDS))), KEYWORDS)
    write(root, "catalog", [{"item_id": ids, "title": ids, "text": ids, "available": pa.array([True] * items)}])
    columns = {name: keywords for name in ("keywords", "image_keywords", "text_keywords")}
    write(root, "item_keywords", [{"item_id": ids, **columns}])
    write(root, "histories", (history(chance, part, ids) for part in parts(users)))
    write(root, "candidates", (pairs(chance, part, ids, CANDIDATES) for part in parts(users)))
    for number, night in enumerate(NIGHTS):
        lists = (pairs(chance, part, ids, LISTED, night) for part in parts(users))
        write(root, "recommendations", lists, f"run_date = '{night}'")
        with runs.stage(config, "publish", f"run-{number}") as row:
            row.notes["run_date"] = night


def parts(users: int) -> Iterator[pa.Array]:
    for start in range(0, users, PART):
        yield pa.array([f"user-{number:08d}" for number in range(start, min(start + PART, users))])


def popular(chance: np.random.Generator, values: int, count: int) -> np.ndarray:
    """Indices of which the first are the most frequent."""
    return (values * chance.random(count) ** 3).astype(np.int64)


def nested(values: pa.Array, each: int) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array(np.arange(0, len(values) + 1, each), pa.int32()), values)


def history(chance: np.random.Generator, users: pa.Array, ids: pa.Array) -> dict[str, pa.Array]:
    return {"user_id": users, "item_ids": nested(ids.take(popular(chance, len(ids), len(users) * HISTORY)), HISTORY)}


def pairs(chance: np.random.Generator, users: pa.Array, ids: pa.Array, each: int, night: str = "") -> dict:
    count = len(users) * each
    columns = {
        "user_id": users.take(pa.array(np.repeat(np.arange(len(users)), each))),
        "item_id": ids.take(pa.array(popular(chance, len(ids), count))),
        "rank": pa.array(np.tile(np.arange(1, each + 1), len(users))),
        "source": SOURCES.take(pa.array(chance.integers(0, len(SOURCES), count))),
    }
    scored = {"run_date": pa.array([night] * count), "score": pa.array(chance.random(count))} if night else {}
    return columns | scored


def write(root: str, name: str, data: object, predicate: str | None = None) -> None:
    """Columns that are not given become null."""
    schema = TABLES[name]

    def batches() -> Iterator[pa.RecordBatch]:
        for columns in data:
            rows = len(next(iter(columns.values())))
            arrays = [columns[field.name] if field.name in columns else pa.nulls(rows, field.type) for field in schema]
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)

    tables.replace(root, name, batches(), predicate)


if __name__ == "__main__":
    main()
