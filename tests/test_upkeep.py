"""Commits that are told from their replays, ranges of a key, and tables that stay small; on real Delta tables."""

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from mmsrarec.config import Config
from mmsrarec.publishing.clean import clean
from mmsrarec.schemas import TABLES
from mmsrarec.storage import tables, upkeep
from mmsrarec.storage.tables import Commit


def users(*names: str) -> pa.Table:
    return tables.from_rows("retrievals", [{"user_id": name} for name in names])


def found(root: str) -> list[str]:
    return sorted(tables.read(root, "retrievals")["user_id"].to_pylist())


def test_a_replay_of_any_kind_of_commit_changes_nothing(tmp_path: Path) -> None:
    root = str(tmp_path)
    tables.append(root, "retrievals", users("a"), Commit("r", "work", 1))
    tables.append(root, "retrievals", users("a"), Commit("r", "work", 1))
    tables.append(root, "retrievals", users("b"), Commit("r", "work", 0))
    assert found(root) == ["a"]
    tables.append(root, "retrievals", users("b"), Commit("r", "other work", 0))
    tables.append(root, "retrievals", users("c"), Commit("r", "work", 2))
    assert found(root) == ["a", "b", "c"]
    tables.replace(root, "retrievals", users("d"), commit=Commit("r", "work", 2))
    tables.delete(root, "retrievals", "user_id = 'a'", Commit("r", "work", 2))
    assert found(root) == ["a", "b", "c"]
    tables.delete(root, "retrievals", "user_id = 'a'", Commit("s", "work", 2))
    assert found(root) == ["b", "c"] and tables.committed(root, "retrievals", Commit("r", "work", 2))
    last = DeltaTable(tables.address(root, "retrievals")).history(1)[0]
    assert (last["run_id"], last["work"]) == ("s", "work")
    tables.delete(root, "candidates", "user_id = 'a'")  # there is no such table
    assert not tables.exists(root, "candidates")


@pytest.mark.parametrize("rows, expected", [(2, [["a", "b"], ["c", "d"], ["e"]]), (5, [["a", "b", "c", "d", "e"]])])
def test_ranges_leave_nobody_out(tmp_path: Path, rows: int, expected: list) -> None:
    tables.append(str(tmp_path), "retrievals", users("d", "b", "e", "c", "a"))
    values = tables.read(str(tmp_path), "retrievals", ["user_id"])["user_id"]
    spans = list(tables.spans("user_id", values, rows))
    read = [sorted(tables.read(str(tmp_path), "retrievals", filters=span)["user_id"].to_pylist()) for span in spans]
    assert read == expected
    tables.append(str(tmp_path), "retrievals", users("_", "bb", "z"))  # whom the values do not name
    assert sum(tables.count(str(tmp_path), "retrievals", span) for span in spans) == 8


def test_tidy_joins_files_and_takes_what_killed_writers_left(tmp_path: Path) -> None:
    root, place = str(tmp_path), tmp_path / "retrievals"
    for name in "abc":
        tables.append(root, "retrievals", users(name), Commit("r", "work", ord(name)))
    (place / "part-never-committed.parquet").write_bytes(b"half")
    assert upkeep.tidy(root, "retrievals", 7) == 0 and len(list(place.glob("*.parquet"))) == 5
    assert upkeep.tidy(root, "retrievals", 0) == 4
    assert len(list(place.glob("*.parquet"))) == 1 and found(root) == ["a", "b", "c"]
    upkeep.tidy(root, "retrievals", 0)
    assert len(list(place.glob("*.parquet"))) == 1 and found(root) == ["a", "b", "c"]
    assert tables.committed(root, "retrievals", Commit("r", "work", ord("c")))
    assert upkeep.tidy(root, "candidates", 0) == 0


def test_clean_changes_no_row(tmp_path: Path) -> None:
    config = Config(inputs={"items": "-", "interactions": "-"}, lake={"root": str(tmp_path), "keep_days": 0})
    for name in ("recommendations", "staged_recommendations", "retrievals"):
        for night in ("2026-03-01", "2026-03-01", "2026-03-02"):
            row = {column: night for column in TABLES[name].names if column in ("run_date", "user_id")}
            tables.append(str(tmp_path), name, tables.from_rows(name, [row]))
    before = {name: tables.read(str(tmp_path), name).to_pylist() for name in TABLES}
    clean(config, "night")
    for name in TABLES.keys() - {"runs", "locks"}:
        assert sorted(map(repr, tables.read(str(tmp_path), name).to_pylist())) == sorted(map(repr, before[name])), name
    (row,) = tables.read(str(tmp_path), "runs").to_pylist()
    assert (row["stage"], row["status"]) == ("clean", "completed") and '"files_deleted": 7' in row["notes"]
