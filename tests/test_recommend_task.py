"""What a user's task holds: the latest items, the first similar users, candidates in order with their evidence."""

import pyarrow as pa

from mmsrarec.config import Config
from mmsrarec.recommendation.task import Candidate, Known, Task, keywords_by_item, tasks
from mmsrarec.storage import tables

KEYWORDS = {f"i{n}": [f"k{n}", "all"] for n in range(10)}


def config(**sections) -> Config:
    return Config(inputs={"items": "-", "interactions": "-"}, **sections)


def known(similar: list[tuple] = (), evidence: list[tuple] = ()) -> Known:
    names = "user_id", "rank", "next_item_id"
    return Known(
        pa.table({"user_id": ["v", "u", "w"], "item_ids": [["i1"], ["i1", "i2", "i3", "?"], []]}),
        tables.from_rows("similar_users", [dict(zip(names, row, strict=True)) for row in similar]),
        pa.table({"user_id": ["u", "v", "u", "u"], "item_id": ["i9", "i8", "i7", "i9"]}),
        tables.from_rows(
            "evidence", [dict(zip(("user_id", "item_id", "levels"), row, strict=True)) for row in evidence]
        ),
        KEYWORDS,
    )


def test_latest_items_and_candidates_in_order():
    found = list(tasks(config(recommend={"history": 3}), known()))
    assert found == [
        Task("v", [["k1", "all"]], [], [Candidate("i8", ["k8", "all"], None)]),
        Task(
            "u",
            [["k2", "all"], ["k3", "all"], []],
            [],
            [Candidate("i9", ["k9", "all"], None), Candidate("i7", ["k7", "all"], None)],
        ),
    ]


def test_first_similar_users_by_rank_distinct_items():
    rows = [("u", 4, "i1"), ("u", 3, "i6"), ("u", 2, "i5"), ("v", 1, "i0"), ("u", 1, "i5")]
    by_user = {task.user_id: task.similar for task in tasks(config(retrieve={"similar_users": 3}), known(rows))}
    assert by_user == {"u": [["k5", "all"], ["k6", "all"]], "v": [["k0", "all"]]}
    off = tasks(config(retrieve={"similar_users": 0}), known(rows))
    assert [task.similar for task in off] == [[], []]


def test_evidence_belongs_to_its_pair_and_can_be_switched_off():
    rows = [("u", "i7", "together weak"), ("v", "i7", "together none"), ("v", "i8", "rank low")]
    shown = [[c.levels for c in task.candidates] for task in tasks(config(), known(evidence=rows))]
    assert shown == [["rank low"], [None, "together weak"]]
    off = tasks(config(recommend={"evidence": False}), known(evidence=rows))
    assert all(c.levels is None for task in off for c in task.candidates)


def test_keywords_by_item():
    rows = [{"item_id": "a", "keywords": ["x", "y"]}, {"item_id": "b", "keywords": []}]
    assert keywords_by_item(tables.from_rows("item_keywords", rows)) == {"a": ["x", "y"], "b": []}
