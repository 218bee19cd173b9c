"""Serving rules: what may be listed, how much of a category, whose lists; from the configuration and from files."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from mmsrarec.collaborative.candidates import FILLER, enough
from mmsrarec.config import Config
from mmsrarec.errors import InputError
from mmsrarec.recommendation.rank import Scored, top
from mmsrarec.storage import rules, tables

CATALOG = tables.from_rows(
    "catalog",
    [
        {"item_id": "a", "available": True, "category": "book"},
        {"item_id": "b", "available": False, "category": "book"},
        {"item_id": "c", "available": None, "category": "toy"},
        {"item_id": "d", "available": True, "category": None},
    ],
)


def load(folder: Path | None = None, columns: dict | None = None, **section: object) -> rules.Rules:
    inputs = {"items": "", "interactions": "", "columns": columns or {}}
    return rules.load(Config(inputs=inputs, lake={"root": str(folder or "-")}, rules=section))


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({}, "acd"),
        ({"categories": ["book"]}, "a"),
        ({"categories": ["book", "toy"]}, "ac"),
        ({"exclude_items": ["a", "unknown"]}, "cd"),
        ({"categories": ["toy"], "exclude_items": ["c"]}, ""),
    ],
)
def test_what_may_be_listed(section: dict, expected: str) -> None:
    assert "".join(CATALOG.filter(load(**section).servable(CATALOG))["item_id"].to_pylist()) == expected


def test_limits_and_names_that_nothing_has() -> None:
    found = load(categories=["book", "tyo"], quota=2, quotas={"toy": 1, "boks": 5})
    assert [found.limit(name) for name in ("book", "toy", "boks", None)] == [2, 1, 5, rules.NO_LIMIT]
    assert found.limited and not load().limited and load().limit("book") == rules.NO_LIMIT
    assert found.unmatched(CATALOG) == ["boks", "tyo"]


def test_users_without_a_list() -> None:
    users = pa.table({"user_id": ["u1", "u2", "7"]})
    assert load(exclude_users=["u1", 7]).served(users)["user_id"].to_pylist() == ["u2"]


@pytest.mark.parametrize("kind", ["csv", "tsv.gz", "parquet", "delta"])
@pytest.mark.parametrize("column", ["user_id", "customer"])
def test_files_of_ids(tmp_path: Path, kind: str, column: str) -> None:
    path, table = tmp_path / f"ids.{kind}", pa.table({"other": [1, 2, 3], column: ["007", "it's", None]})
    if kind == "delta":
        write_deltalake(str(path), table)
    elif kind == "parquet":
        pq.write_table(table, path)
    else:
        mark = "\t" if kind.startswith("tsv") else ","
        text = f"other{mark}{column}\n1{mark}007\n2{mark}it's\n3{mark}\n"
        stream = pa.CompressedOutputStream(str(path), "gzip") if kind.endswith("gz") else pa.OSFile(str(path), "wb")
        with stream:
            stream.write(text.encode())
    found = load(tmp_path, {"user_id": "customer"}, exclude_users=["x"], exclude_users_file=str(path))
    assert found.users == {"x", "007", "it's"}


def test_numbers_in_a_file_are_ids(tmp_path: Path) -> None:
    pq.write_table(pa.table({"item_id": [7, 8]}), tmp_path / "items.parquet")
    assert load(exclude_items_file=str(tmp_path / "items.parquet")).items == {"7", "8"}


def test_files_that_do_not_do_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"rules.exclude_users_file=.*nothing.csv: cannot be read"):
        load(exclude_users_file=str(tmp_path / "nothing.csv"))
    (tmp_path / "ids.csv").write_text("customer\n7\n")
    with pytest.raises(InputError, match="with a column user_id"):
        load(exclude_users_file=str(tmp_path / "ids.csv"))


def test_the_quota_of_a_list() -> None:
    categories = {"a": "book", "b": "book", "c": "book", "d": "toy", "e": None, "f": None}
    items = [Scored(name, 0.9 - place / 10, None, "", [], categories[name]) for place, name in enumerate(categories)]
    limit = load(quota=2, quotas={"toy": 1}).limit
    assert [item.item_id for item in top(items, (), categories, 4, limit)] == ["a", "b", "d", "e"]
    assert [item.item_id for item in top(items, ("a",), categories, 9, limit)] == ["b", "c", "d", "e", "f"]
    assert [item.item_id for item in top(items, (), categories, 4)] == ["a", "b", "c", "d"]


def test_candidates_are_enough_for_a_list_within_the_quota() -> None:
    groups, limits = np.array([0, 0, 0, 0, 1, 1, 2, 2]), np.array([2, 1, 9])
    chosen = [(0, "sasrec"), (1, "sasrec"), (2, "content")]
    assert enough(chosen, [3, 0, 4, 5, 6, 7], groups, limits, 4) == [*chosen, (4, FILLER), (6, FILLER)]
    assert enough(chosen, [3, 4], groups, limits, 2) == chosen
    assert enough(chosen, [3, 4, 5], groups, limits, 9) == [*chosen, (4, FILLER)]  # the catalog has no more
    assert enough([], [3, 2, 1, 4], groups, limits, 3) == [(3, FILLER), (2, FILLER), (4, FILLER)]
