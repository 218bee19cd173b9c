"""The stage build_cf on a shop with known answers: histories, splits, catalog, three readers, a second run."""

import json
import random
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from pyarrow import csv
from pyspark.sql import SparkSession

from mmsrarec.config import Config
from mmsrarec.preparation.build_cf import build_cf
from mmsrarec.schemas import KEYS, TABLES
from mmsrarec.storage import tables

WRITTEN = ("histories", "catalog", "item_cooccurrence", "item_transitions")
START = 1_700_000_000  # seconds
LONG_ID = "x" * 1000
ODD_IDS = ["it's", 'say "hi"', "a/b\\c", "emoji 🧵👟", "comma, id", "line\nbreak", "per%20cent", LONG_ID]


def shop() -> tuple[list[dict], list[dict]]:
    """40 users, 20 items and the odd ones; users of 1 to 12 interactions, with ties in time and repeats."""
    chance = random.Random(3)
    names = [f"i{number}" for number in range(20)] + ODD_IDS
    items = [{"item_id": name, "title": f"Title of {name}", "image": ""} for name in [*names, "nobody took this"]]
    taken = []
    for user in range(40):
        for place, item in enumerate(chance.choices(names, k=1 + user % 12)):
            taken.append({"user_id": f"u{user}", "item_id": item, "timestamp": START + place // 2})
    return items, taken


def expected_histories(taken: list[dict]) -> dict[str, list[tuple[int, str]]]:
    """user -> the first take of each item, as (microseconds, item) in the order of time alone."""
    first: dict[str, dict[str, int]] = {}
    for row in taken:
        items = first.setdefault(row["user_id"], {})
        items[row["item_id"]] = min(row["timestamp"], items.get(row["item_id"], row["timestamp"]))
    return {user: sorted((time * 10**6, item) for item, time in items.items()) for user, items in first.items()}


def settings(folder: Path, items: str = "items.parquet", interactions: str = "interactions.parquet", **more) -> Config:
    return Config(
        inputs={"items": str(folder / items), "interactions": str(folder / interactions), **more.pop("inputs", {})},
        lake={"root": str(folder / "lake")},
        spark={"shuffle_partitions": 2},
        **more,
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, spark: SparkSession) -> Config:
    folder = tmp_path_factory.mktemp("built")
    items, taken = shop()
    pq.write_table(pa.Table.from_pylist(items), folder / "items.parquet")
    pq.write_table(pa.Table.from_pylist([*taken, *taken[:7]]), folder / "interactions.parquet")
    config = settings(folder, build_cf={"test_fraction": 0.3, "validation_fraction": 0.3})
    build_cf(config, "first")
    return config


def rows(config: Config, name: str) -> list[dict]:
    return sorted(tables.read(config.lake.root, name).to_pylist(), key=lambda row: [row[key] for key in KEYS[name]])


def test_histories_hold_the_first_takes_in_the_order_of_time(built: Config) -> None:
    expected = expected_histories(shop()[1])
    found = rows(built, "histories")
    assert [row["user_id"] for row in found] == sorted(expected)
    for row in found:
        pairs = list(zip(row["timestamps"], row["item_ids"], strict=True))
        assert row["timestamps"] == sorted(row["timestamps"])
        assert sorted(pairs) == expected[row["user_id"]]


def test_equal_times_are_not_in_the_order_of_ids(built: Config) -> None:
    tied = [
        tuple(
            item for time, item in zip(row["timestamps"], row["item_ids"], strict=True) if time == row["timestamps"][0]
        )
        for row in rows(built, "histories")
    ]
    tied = [items for items in tied if len(items) > 1]
    assert 0 < sum(items == tuple(sorted(items)) for items in tied) < len(tied)


def test_splits_follow_the_fractions_and_short_histories_train(built: Config) -> None:
    found = rows(built, "histories")
    assert {row["split"] for row in found if len(row["item_ids"]) < 3} == {"train"}
    assert {row["split"] for row in found} == {"train", "validation", "test"}


def test_the_catalog_counts_training_interactions_only(built: Config) -> None:
    counts = {row["item_id"]: row["interactions"] for row in rows(built, "catalog")}
    expected = dict.fromkeys(counts, 0)
    for row in rows(built, "histories"):
        for item in row["item_ids"] if row["split"] == "train" else row["item_ids"][:-1]:
            expected[item] += 1
    assert counts == expected and counts["nobody took this"] == 0
    assert set(ODD_IDS) < set(counts)
    assert {row["image"] for row in rows(built, "catalog")} == {None}


def test_pairs_know_nothing_of_held_out_items(built: Config) -> None:
    seen = {
        tuple(sorted((first, second)))
        for row in rows(built, "histories")
        for items in [row["item_ids"] if row["split"] == "train" else row["item_ids"][:-1]]
        for first in items
        for second in items
        if first != second
    }
    for name, other in (("item_cooccurrence", "neighbor_id"), ("item_transitions", "next_item_id")):
        found = {tuple(sorted((row["item_id"], row[other]))) for row in rows(built, name)}
        assert found and found <= seen, name


def test_the_ledger_says_what_was_dropped(built: Config) -> None:
    items, taken = shop()
    row = rows(built, "runs")[0]
    notes = json.loads(row["notes"])
    kept = sum(map(len, expected_histories(taken).values()))
    distinct = len({tuple(row.values()) for row in taken})
    assert row["rows_in"] == len(items) + len(taken) + 7 and row["rows_out"] == len(items) + kept
    assert notes["duplicate_interactions_dropped"] == len(taken) + 7 - distinct
    assert notes["repeated_interactions_dropped"] == distinct - kept
    assert sum(notes["users"].values()) == 40 and row["rows_rejected"] == 0


@pytest.mark.parametrize("name", WRITTEN)
def test_spark_deltalake_and_duckdb_read_the_same(built: Config, spark: SparkSession, name: str) -> None:
    table = DeltaTable(built.table(name))
    arrow = table.to_pyarrow_table().cast(TABLES[name])
    by_spark = spark.read.format("delta").load(built.table(name)).toArrow().cast(TABLES[name])
    by_duckdb = duckdb.connect().from_arrow(table.to_pyarrow_dataset()).to_arrow_table().cast(TABLES[name])
    order = [(key, "ascending") for key in KEYS[name]]
    assert arrow.num_rows > 0
    assert by_spark.sort_by(order).equals(arrow.sort_by(order)) and by_duckdb.sort_by(order).equals(
        arrow.sort_by(order)
    )
    assert not table.protocol().reader_features and not table.protocol().writer_features


def test_a_second_run_changes_no_row_in_one_commit_each(built: Config) -> None:
    before = {name: (rows(built, name), tables.version(built.lake.root, name)) for name in WRITTEN}
    build_cf(built, "second")
    for name, (content, version) in before.items():
        assert rows(built, name) == content, name
        assert tables.version(built.lake.root, name) == version + 1, name


def test_delta_and_csv_inputs_and_mapped_columns_give_the_same_tables(built: Config, tmp_path: Path) -> None:
    items, taken = shop()
    renamed = [{"sku": row["item_id"], "name": row["title"], "image": row["image"]} for row in items]
    csv.write_csv(pa.Table.from_pylist(renamed), tmp_path / "items.csv")
    moments = [datetime.fromtimestamp(row["timestamp"], UTC) for row in taken]
    clicks = {
        "customer": [row["user_id"] for row in taken],
        "item_id": [row["item_id"] for row in taken],
        "at": pa.array(moments, pa.timestamp("us", tz="UTC")),
    }
    write_deltalake(tmp_path / "clicks", pa.table(clicks))
    columns = {"item_id": "sku", "title": "name", "user_id": "customer", "timestamp": "at"}
    config = settings(
        tmp_path, "items.csv", "clicks", inputs={"columns": columns}, build_cf=built.build_cf.model_dump()
    )
    build_cf(config, "mapped")
    for name in WRITTEN:
        assert rows(config, name) == rows(built, name), name


def test_all_takes_stay_where_asked(tmp_path: Path, spark: SparkSession) -> None:
    taken = [
        {"user_id": 1, "item_id": item, "timestamp": place} for place, item in enumerate([7.0, 8.0, 7.0, None, 7.0])
    ]
    pq.write_table(pa.Table.from_pylist(taken), tmp_path / "interactions.parquet")
    pq.write_table(pa.table({"item_id": [7, 8], "title": ["seven", "eight"]}), tmp_path / "items.parquet")
    build_cf(settings(tmp_path, build_cf={"repeats": "all"}), "all")
    (history,) = tables.read(str(tmp_path / "lake"), "histories").to_pylist()
    assert history["item_ids"] == ["7", "8", "7", "7"] and history["timestamps"] == [0, 10**6, 2 * 10**6, 4 * 10**6]
    assert [row["error"] for row in tables.read(str(tmp_path / "lake"), "rejects").to_pylist()] == ["null_item_id"]
