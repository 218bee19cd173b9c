"""How build_cf grows, and beside what: seconds, CPU seconds and peak memory at 1, 3 and 10 million interactions.

    .venv/bin/python bench/build_cf.py --rows 1000000 3000000 10000000 --other build/bench/bin/python

Interactions are synthetic: users of 20 on average, items drawn by Zipf's law. The whole stage (validation, histories,
catalog, co-occurrence, transitions, as Delta) runs as its own process; memory is that of all its processes, the JVM
included. `--other` is a Python with polars, pandas and recommenders, which do not go with our own pinned versions:
with it the same co-occurrence is made by a polars self-join, and SAR is fitted on the same Parquet file.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).parent.parent
PER_USER, SETTINGS = 20, {"window": 5, "decay": 0.8, "top_n": 50, "max_history": 200}

POLARS = """
import sys
import polars as pl
folder, window, decay, top_n, longest = sys.argv[1], *map(float, sys.argv[2:])
taken = pl.scan_parquet(f"{folder}/interactions.parquet").group_by("user_id", "item_id").agg(pl.min("timestamp"))
taken = taken.sort("user_id", "timestamp", "item_id").with_columns(
    place=pl.int_range(pl.len()).over("user_id"), length=pl.len().over("user_id"))
taken = taken.filter(pl.col("place") >= pl.col("length") - longest).select("user_id", "item_id", "place").collect()
steps = []
for distance in range(1, int(window) + 1):
    later = taken.lazy().with_columns(place=pl.col("place") - distance)
    joined = taken.lazy().join(later, on=["user_id", "place"], suffix="_after").select(
        before="item_id", after="item_id_after", weight=pl.lit(decay ** (distance - 1)))
    steps.append(joined)
moves = pl.concat(steps).filter(pl.col("before") != pl.col("after"))
moves = moves.group_by("before", "after").agg(count=pl.len(), weight=pl.sum("weight")).collect()
weights = taken.group_by("item_id").len()
both = pl.concat([moves.lazy(), moves.lazy().select(before="after", after="before", count="count", weight="weight")])
near = both.group_by("before", "after").agg(pl.sum("count"), pl.sum("weight"))
near = near.join(weights.lazy().rename({"len": "n_before"}), left_on="before", right_on="item_id")
near = near.join(weights.lazy().rename({"len": "n_after"}), left_on="after", right_on="item_id")
near = near.with_columns(score=pl.col("weight") / (pl.col("n_before") * pl.col("n_after")).cast(pl.Float64).sqrt())
near = near.sort("score", descending=True).group_by("before").head(int(top_n)).collect()
near.write_parquet(f"{folder}/cooccurrence.parquet")
total = moves.group_by("before").agg(total=pl.sum("weight"))
best = moves.sort("weight", descending=True).group_by("before").head(int(top_n))
best.join(total, on="before").write_parquet(f"{folder}/transitions.parquet")
"""
SAR = """
import sys
import pandas as pd
from recommenders.models.sar import SAR
taken = pd.read_parquet(f"{sys.argv[1]}/interactions.parquet").drop_duplicates(["user_id", "item_id"])
taken["rating"] = 1.0
names = {"col_user": "user_id", "col_item": "item_id", "col_rating": "rating", "col_timestamp": "timestamp"}
# Its other similarities make a dense matrix of all items: 75 GB for 100,000.
SAR(similarity_type="cooccurrence", timedecay_formula=False, **names).fit(taken)
"""


def write_input(folder: Path, rows: int, items: int) -> None:
    """items.parquet and interactions.parquet with about `rows` interactions."""
    chance = np.random.default_rng(7)
    popularity = 1 / np.arange(1, items + 1)
    taken = np.searchsorted(np.cumsum(popularity / popularity.sum()), chance.random(rows)).clip(0, items - 1)
    users = chance.integers(0, max(rows // PER_USER, 1), rows)
    table = {
        "user_id": pa.array(users.astype(str)),
        "item_id": pa.array(taken.astype(str)),
        "timestamp": pa.array(1_700_000_000 + chance.integers(0, 90 * 86_400, rows)),
    }
    pq.write_table(pa.table(table), folder / "interactions.parquet", row_group_size=1_000_000)
    names = np.arange(items).astype(str)
    pq.write_table(pa.table({"item_id": names, "title": np.char.add("Item ", names)}), folder / "items.parquet")


def measured(command: list[str]) -> dict:
    """Run a command; its seconds, CPU seconds and peak memory (GiB) with all its children."""
    started, peak, spent = time.monotonic(), 0, {}
    running = psutil.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while running.poll() is None:
        memory = 0
        for process in [running, *running.children(recursive=True)]:
            try:
                memory += process.memory_info().rss
                spent[process.pid] = sum(process.cpu_times()[:2])
            except psutil.Error:
                continue
        peak = max(peak, memory)
        time.sleep(0.2)
    if running.returncode:
        return {"error": running.stderr.read()[-300:]}
    return {
        "seconds": round(time.monotonic() - started, 1),
        "cpu_seconds": round(sum(spent.values()), 1),
        "peak_gib": round(peak / 2**30, 2),
    }


def compare(rows: int, items: int, other: str | None, memory: str) -> dict:
    with tempfile.TemporaryDirectory(prefix="build_cf-") as name:
        folder = Path(name)
        write_input(folder, rows, items)
        settings = {
            "inputs": {key: str(folder / f"{key}.parquet") for key in ("items", "interactions")},
            "lake": {"root": str(folder / "lake")},
            "spark": {"driver_memory": memory},
            "build_cf": {**SETTINGS, "validation_fraction": 0, "test_fraction": 0},
        }
        (folder / "bench.yaml").write_text(json.dumps(settings))
        job = [sys.executable, str(ROOT / "jobs" / "build_cf.py"), "--config", str(folder / "bench.yaml")]
        found = {"rows": rows, "items": items, "build_cf": measured(job)}
        if other:
            found["polars"] = measured([other, "-c", POLARS, name, *map(str, SETTINGS.values())])
            found["sar"] = measured([other, "-c", SAR, name])
            for rival in ("polars", "sar"):
                if "seconds" in found[rival] and "seconds" in found["build_cf"]:
                    found[f"{rival}_is_faster"] = round(found["build_cf"]["seconds"] / found[rival]["seconds"], 2)
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000])
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--other", help="a Python with polars, pandas and recommenders")
    parser.add_argument("--memory", default="2g", help="heap of the JVM")
    arguments = parser.parse_args()
    found = []
    for rows in arguments.rows:
        found.append(compare(rows, arguments.items, arguments.other, arguments.memory))
        print(json.dumps(found[-1]), flush=True)
    if len(found) > 1 and all("seconds" in row["build_cf"] for row in found):
        first, last = found[0], found[-1]
        for measure in ("seconds", "cpu_seconds"):
            growth = math.log(last["build_cf"][measure] / first["build_cf"][measure])
            print(f"growth exponent of {measure}: {growth / math.log(last['rows'] / first['rows']):.2f}")


if __name__ == "__main__":
    main()
