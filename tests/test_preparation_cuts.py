"""Every protocol's cut against a slow reference, and that nothing which `test` asks was known in `fit`."""

import numpy as np
import pytest
from pyspark.sql import SparkSession

from mmsrarec.config import Config
from mmsrarec.preparation import cuts, histories

DAY = 24 * 3600 * 1_000_000


def make_rows() -> dict[str, tuple[list[str], list[int]]]:
    """user -> items and times; lengths 1 to 12, some times equal, some users only late."""
    generator = np.random.default_rng(8)
    rows = {}
    for number in range(60):
        length = 1 + number % 12
        start = 80 if number % 7 == 0 else 0
        times = sorted((generator.integers(start, 100, length) * DAY).tolist())
        rows[f"u{number:02d}"] = ([f"i{number}-{place}" for place in range(length)], times)
    return rows


ROWS = make_rows()


def cut(spark: SparkSession, protocol: str | None, part: str | None, positions: int = 1) -> tuple[dict, list]:
    """user -> (split, held_out, items), and the rows of the training part."""
    config = Config(
        inputs={"items": "-", "interactions": "-"},
        build_cf={"test_fraction": 0.3, "validation_fraction": 0.3},
        evaluation={"protocol": protocol, "part": part, "positions": positions},
    )
    given = [(user, items, times) for user, (items, times) in ROWS.items()]
    built = spark.createDataFrame(given, "user_id string, item_ids array<string>, timestamps array<bigint>").persist()
    found = cuts.cut(built, config).persist()
    rows = {row["user_id"]: row for row in found.collect()}
    for row in rows.values():
        items, times = ROWS[row["user_id"]]
        assert (row["item_ids"], row["timestamps"]) == (items[: len(row["item_ids"])], times[: len(row["item_ids"])])
        assert (row["split"] == "train") == (row["held_out"] == 0)
    training = {row["user_id"]: row["item_ids"] for row in histories.training(found).collect()}
    assert training == {user: row["item_ids"][: len(row["item_ids"]) - row["held_out"]] for user, row in rows.items()}
    return rows, training


def asked(rows: dict) -> set[str]:
    return {item for row in rows.values() for item in row["item_ids"][len(row["item_ids"]) - row["held_out"] :]}


@pytest.mark.parametrize("protocol", [None, "user_split"])
def test_the_night_holds_out_the_last_item_of_some_users(spark: SparkSession, protocol: str | None) -> None:
    rows, _ = cut(spark, protocol, None)
    assert {row["split"] for row in rows.values()} == {"train", "validation", "test"}
    assert {row["held_out"] for row in rows.values()} == {0, 1}
    assert all(row["held_out"] == 0 for row in rows.values() if len(row["item_ids"]) < 3)
    assert {user: row["item_ids"] for user, row in rows.items()} == {user: items for user, (items, _) in ROWS.items()}


@pytest.mark.parametrize("positions", [1, 4])
def test_leave_one_out_cuts_twice_from_the_end(spark: SparkSession, positions: int) -> None:
    fit, _ = cut(spark, "leave_one_out", "fit", positions)
    test, learned = cut(spark, "leave_one_out", "test", positions)
    for user, (items, _) in ROWS.items():
        last = max(0, min(positions, len(items) - 2))
        assert (test[user]["held_out"], test[user]["item_ids"]) == (last, items)
        before = items[: len(items) - last]
        assert fit[user]["item_ids"] == before
        assert fit[user]["held_out"] == max(0, min(positions, len(before) - 2))
    assert {row["split"] for row in fit.values()} == {"train", "validation"}
    assert {row["split"] for row in test.values()} == {"train", "test"}
    known = {item for row in fit.values() for item in row["item_ids"]}
    assert not asked(test) & known
    assert asked(fit) <= {item for items in learned.values() for item in items}


def test_a_split_by_time_knows_nothing_later(spark: SparkSession) -> None:
    fit, before = cut(spark, "time_split", "fit")
    test, learned = cut(spark, "time_split", "test")
    times = np.concatenate([times for _, times in ROWS.values()])
    first, second = np.quantile(times, [0.8, 0.9]).astype(np.int64)
    time_of = {item: time for items, times in ROWS.values() for item, time in zip(items, times, strict=True)}
    assert asked(test) == {item for item, time in time_of.items() if time >= second}
    assert asked(fit) == {item for item, time in time_of.items() if first <= time < second}
    assert all(time_of[item] < second for items in learned.values() for item in items)
    assert all(time_of[item] < first for items in before.values() for item in items)
    assert all(len(row["item_ids"]) > 0 for row in fit.values())
    assert any(row["held_out"] == len(row["item_ids"]) for row in test.values()), "somebody is new"
