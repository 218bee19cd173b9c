"""What storage/tables.py promises beyond what every stage uses of it: deleting, and reading a table as it was."""

from datetime import UTC, datetime
from pathlib import Path

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
