"""What storage/tables.py promises beyond what every stage uses of it: deleting, and reading a table as it was."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from deltalake import write_deltalake

from mmsrarec.storage import tables

ROWS = [
    {"run_id": run, "stage": stage, "key": key}
    for run, stage, key in [("a", "x", "1"), ("a", "y", "2"), ("b", "x", "3")]
]


def keys(root: str, filters: list | None = None) -> list[str]:
    return sorted(tables.read(root, "rejects", ["key"], filters)["key"].to_pylist())


def test_what_a_delete_leaves_can_be_read_with_filters(tmp_path: Path) -> None:
    root = str(tmp_path)
    tables.replace(root, "rejects", tables.from_rows("rejects", ROWS))
    tables.delete(root, "rejects", "run_id = 'a' AND stage = 'x'")
    assert keys(root) == ["2", "3"]
    assert keys(root, [("key", "=", "2")]) == ["2"] and keys(root, [("key", "in", ["1", "3"])]) == ["3"]
    tables.append(root, "rejects", tables.from_rows("rejects", ROWS[:1]))
    tables.delete(root, "rejects", "stage = 'nothing'")
    assert keys(root, [("stage", "=", "x")]) == ["1", "3"]


def test_a_table_as_it_was(tmp_path: Path) -> None:
    root = str(tmp_path)
    assert tables.read_before(root, "rejects", datetime.now(UTC)) is None
    tables.replace(root, "rejects", tables.from_rows("rejects", ROWS[:1]))
    (first,) = (tmp_path / "rejects").glob("*.parquet")
    between = datetime.now(UTC)
    tables.replace(root, "rejects", tables.from_rows("rejects", ROWS))
    assert tables.read_before(root, "rejects", between, ["key"])["key"].to_pylist() == ["1"]
    assert tables.read_before(root, "rejects", datetime.now(UTC), ["key"], [("key", "=", "3")]).num_rows == 1
    assert tables.read_before(root, "rejects", datetime(2020, 1, 1, tzinfo=UTC)) is None
    first.unlink()
    assert tables.read_before(root, "rejects", between) is None


@pytest.mark.parametrize("predicate", [None, "run_id = 'a' AND key = '1'"])
def test_a_table_of_an_earlier_version_gets_the_columns_that_it_lacks(tmp_path: Path, predicate: str | None) -> None:
    root, place = str(tmp_path), str(tmp_path / "rejects")
    write_deltalake(place, tables.from_rows("rejects", ROWS[:2]).drop_columns(["message"]))
    new = tables.from_rows("rejects", [ROWS[0] | {"message": "told"}])
    if predicate:
        tables.replace(root, "rejects", new, predicate)
    else:
        tables.append(root, "rejects", new)
    found = tables.read(root, "rejects", ["key", "message"]).to_pylist()
    kept = [("2", "")] if predicate else [("1", ""), ("2", "")]
    assert sorted((row["key"], row["message"] or "") for row in found) == sorted([*kept, ("1", "told")])
    tables.append(root, "rejects", new)
    metadata = [file for file in (tmp_path / "rejects/_delta_log").glob("*.json") if '"metaData"' in file.read_text()]
    assert len(metadata) == 2, "the same columns again are no change of the table"
