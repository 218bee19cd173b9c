"""`mmsrarec forget` on real Delta tables, Milvus Lite and Spark: nothing of a user stays, nothing of others goes."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from mmsrarec.collaborative import index, sasrec
from mmsrarec.config import Config, Sasrec
from mmsrarec.errors import ConfigError
from mmsrarec.preparation.build_cf import build_cf
from mmsrarec.publishing.forget import forget, named, user_hash
from mmsrarec.schemas import TABLES
from mmsrarec.storage import tables

GONE = 'o\'hara "7"/☕ 100%'  # the user who asks; it sorts first and last nowhere
OTHERS = ["alice", "zoe", GONE + "s", "u/7"]
USERS = [*OTHERS, GONE]
DATES = ["2026-03-01", "2026-03-02"]


def settings(folder: Path, **inputs: str) -> Config:
    return Config(
        inputs={"items": "", "interactions": ""} | inputs,
        lake={"root": str(folder / "lake")},
        sasrec={"dim": 32, "max_length": 8, "device": "cpu"},
        spark={"shuffle_partitions": 2},
    )


def rows_of(name: str) -> list[dict]:
    """Rows of every table that names users, others' and the one's."""
    if name in ("staged_recommendations", "recommendations"):
        return [{"run_date": d, "user_id": u, "rank": 1, "item_id": "a"} for d in DATES for u in USERS if d in known(u)]
    if name == "similar_users":
        near = [(u, n) for u in USERS for n in USERS if u != n]
        return [{"user_id": u, "rank": rank, "neighbor_user_id": n} for rank, (u, n) in enumerate(near)]
    if name == "histories":
        return [{"user_id": u, "item_ids": ["a", "b", "c"], "split": "train"} for u in USERS]
    if name == "rejects":
        keys = [("build_cf", f"{u}/b") for u in USERS] + [("recommend", u) for u in USERS]
        keys += [("build_cf", GONE), ("summarize_items", GONE), ("summarize_items", f"{GONE}/b")]  # ids of items
        return [{"run_id": "r", "stage": stage, "key": key, "error": "e", "row": key} for stage, key in keys]
    return [{"user_id": user} for user in USERS]


def known(user: str) -> list[str]:
    return DATES[1:] if user == GONE else DATES


NAMING = [name for name, schema in TABLES.items() if any(column.endswith("user_id") for column in schema.names)]
NAMING.append("rejects")


@pytest.fixture
def lake(tmp_path: Path) -> Config:
    config = settings(tmp_path)
    for name in NAMING:
        for _ in range(2):  # an old version of each
            tables.replace(config.lake.root, name, tables.from_rows(name, rows_of(name)))
    torch.manual_seed(0)
    network = sasrec.SasRec(3, config.sasrec)
    sasrec.save(sasrec.folder(config), network, pa.array(["a", "b", "c"]), Sasrec(dim=32, max_length=8), {})
    index.index_cf(config, "before")
    (tmp_path / "lake" / "staging").mkdir()
    (tmp_path / "lake" / "staging" / "asked").write_text(GONE)
    (tmp_path / "lake" / "report.html").write_text(GONE)
    return config


def mentions(config: Config, text: str) -> list[str]:
    """Files under the lake that hold the text as it is, in a Parquet column or in its statistics."""
    found = []
    for path in Path(config.lake.root).rglob("*"):
        if path.is_dir():
            continue
        plain = path.read_bytes()
        content = json.dumps(pq.read_table(path).to_pylist(), default=str, ensure_ascii=False).encode()[: 1 << 20] if (
            path.suffix == ".parquet"
        ) else b""  # fmt: skip
        written = [text, json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]]
        written.append(json.dumps(written[2])[1:-1])  # statistics are JSON within JSON
        if any(word.encode() in part for word in written for part in (plain, content)):
            found.append(str(path.relative_to(config.lake.root)))
    return found


def test_every_table_that_names_users_is_known() -> None:
    known = {"histories", "similar_users", "candidates", "evidence", "recommendations", "staged_recommendations"}
    assert known | {"evaluation_candidates", "rejects"} <= set(NAMING)
    others = {column for name, schema in TABLES.items() if name not in NAMING for column in schema.names}
    assert not [column for column in others if "user" in column and column not in ("users", "user_hash")]


def test_nothing_of_the_user_is_left_and_nothing_of_others_goes(lake: Config) -> None:
    root = lake.lake.root
    assert mentions(lake, GONE)
    with index.UserIndex(lake) as opened:
        old = opened.version
    forget(lake, "f1", [GONE])
    for name in NAMING:
        found = tables.read(root, name).to_pylist()
        kept = [row for row in tables.from_rows(name, rows_of(name)).to_pylist() if not of_user(name, row)]
        assert sorted(map(repr, found)) == sorted(map(repr, kept)), name
        assert len(kept) < len(rows_of(name))
    with index.UserIndex(lake) as opened:
        vectors = torch.eye(32)[:2].numpy()
        assert opened.version != old
        assert {near.user_id for row in opened.search(vectors, 100) for near in row} == set(OTHERS)
    left = [place for place in mentions(lake, GONE) if not place.startswith("rejects/")]
    others = [place for place in mentions(lake, GONE + "s") if not place.startswith("rejects/")]
    assert set(left) <= set(others)  # where the other user stands whose id begins so
    (row,) = tables.read(root, "runs", filters=[("run_id", "=", "f1"), ("stage", "=", "forget")]).to_pylist()
    assert (row["status"], row["rows_in"]) == ("completed", 1) and "hara" not in str(row)
    assert json.loads(row["notes"])["removed"]["similar_users"] == 8
    assert tables.read(root, "forgotten")["user_hash"].to_pylist() == [user_hash(GONE)]
    again = {name: tables.read(root, name) for name in NAMING}
    forget(lake, "f2", [GONE])
    assert all(tables.read(root, name).equals(before) for name, before in again.items())
    assert tables.count(root, "forgotten") == 1


def of_user(name: str, row: dict) -> bool:
    if name == "rejects":
        return (row["stage"], row["key"]) in (("build_cf", f"{GONE}/b"), ("recommend", GONE))
    return GONE in (row["user_id"], row.get("neighbor_user_id"))


def test_an_id_that_begins_or_ends_a_file_leaves_the_log_too(lake: Config) -> None:
    assert any(place.startswith("histories/_delta_log") for place in mentions(lake, "zoe"))  # as statistics
    forget(lake, "f1", ["zoe", "alice", GONE])
    assert mentions(lake, "zoe") == mentions(lake, "alice") == []


def test_old_versions_live_as_long_as_is_said(lake: Config) -> None:
    version = tables.version(lake.lake.root, "histories")
    forget(lake, "f1", ["zoe"], retention_hours=5)
    old = DeltaTable(lake.table("histories"), version=version).to_pyarrow_table()
    assert "zoe" in old["user_id"].to_pylist()
    forget(lake, "f2", ["zoe"])
    assert mentions(lake, "zoe") == []
    with pytest.raises(Exception, match="(?i)version|log|file"):
        DeltaTable(lake.table("histories"), version=version).to_pyarrow_table()


def test_readers_agree_after_it(lake: Config, spark: SparkSession) -> None:
    forget(lake, "f1", [GONE])
    for name in NAMING:
        assert spark.read.format("delta").load(lake.table(name)).count() == tables.count(lake.lake.root, name), name
        assert not DeltaTable(lake.table(name)).protocol().reader_features


def test_later_nights_leave_the_user_out(tmp_path: Path, spark: SparkSession) -> None:
    pq.write_table(pa.table({"item_id": ["a", "b"], "title": ["A", "B"]}), tmp_path / "items.parquet")
    taken = [{"customer": u, "item_id": i, "timestamp": 1_700_000_000} for u in USERS for i in ("a", "b", "unknown")]
    taken += [{"customer": None, "item_id": "a", "timestamp": 1_700_000_000}]
    pq.write_table(pa.Table.from_pylist(taken), tmp_path / "taken.parquet")
    names = {"items": str(tmp_path / "items.parquet"), "interactions": str(tmp_path / "taken.parquet")}
    config = settings(tmp_path, **names, columns={"user_id": "customer"})
    config = config.model_copy(update={"run": config.run.model_copy(update={"error_budget": 1.0})})
    now = datetime.now(UTC)
    rows = [{"user_hash": user_hash(user), "forgotten_at": now, "run_id": "r"} for user in (GONE, "zoe")]
    tables.replace(config.lake.root, "forgotten", tables.from_rows("forgotten", rows))
    build_cf(config, "night")
    kept = {"alice", GONE + "s", "u/7"}
    assert set(tables.read(config.lake.root, "histories")["user_id"].to_pylist()) == kept
    rejected = tables.read(config.lake.root, "rejects")["key"].to_pylist()
    assert set(rejected) == {f"{user}/unknown" for user in kept} | {"/a"}


def test_who_is_meant(tmp_path: Path) -> None:
    (tmp_path / "users.csv").write_text("user_id\n007\nzoe\n\n")
    assert named(settings(tmp_path), ["alice", "zoe"], str(tmp_path / "users.csv")) == ["007", "alice", "zoe"]
    with pytest.raises(ConfigError, match="--user ID or --users-file FILE"):
        named(settings(tmp_path), [], None)
