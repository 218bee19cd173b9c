"""Whose candidates and evidence are carried over to the next night, and who is retrieved anew."""

import pyarrow as pa
import pytest

from mmsrarec.collaborative.carry import MADE, Carry
from mmsrarec.config import Config
from mmsrarec.storage import rules, tables

USERS = {"u1": ["a", "b"], "u2": ["b"], "u3": ["a"]}
ITEMS = pa.array(["a", "b", "c", "d", "e"])
EVERYBODY = [("user_id", ">=", ""), ("user_id", "<=", "z")]


def settings(root: object, **sections) -> Config:
    sections = {"recommend": {"top_k": 2}} | sections
    return Config(inputs={"items": "-", "interactions": "-"}, lake={"root": str(root)}, **sections)


def put(root: object, name: str, rows: list[dict]) -> None:
    tables.replace(str(root), name, tables.from_rows(name, rows))


def carry(config: Config, servable: pa.Array = ITEMS, model: str = "sasrec") -> Carry:
    return Carry(config, servable, model, rules.load(config))


def histories(root: object, users: dict[str, list[str]]) -> None:
    put(root, "histories", [{"user_id": user, "item_ids": items, "split": "train"} for user, items in users.items()])


@pytest.fixture
def lake(tmp_path):
    """A lake after a first night; u3 got no candidate."""
    histories(tmp_path, USERS)
    put(tmp_path, "item_keywords", [{"item_id": "a", "model": "m", "prompt_version": "1"}])
    first = carry(settings(tmp_path)).part(EVERYBODY, "index-1")
    assert first.users["user_id"].to_pylist() == ["u1", "u2", "u3"] and not first.carried["retrievals"].num_rows
    tables.replace(str(tmp_path), "retrievals", first.new)
    pairs = [{"user_id": u, "item_id": i, "rank": n} for u in ("u1", "u2") for n, i in enumerate(["c", "d", "e"], 1)]
    put(tmp_path, "candidates", pairs)
    put(tmp_path, "evidence", [{name: row[name] for name in ("user_id", "item_id")} for row in pairs])
    put(tmp_path, "similar_users", [{"user_id": "u1", "rank": 1, "next_item_id": "c"}])
    return tmp_path


def part(lake, available: pa.Array = ITEMS, model: str = "sasrec", **sections):
    return carry(settings(lake, **sections), available, model).part(EVERYBODY, "index-2")


def carried(found) -> list[str]:
    return found.carried["retrievals"]["user_id"].to_pylist()


def test_who_has_not_changed_is_carried_over_with_all_rows(lake) -> None:
    found = part(lake)
    assert carried(found) == ["u1", "u2"] and found.users["user_id"].to_pylist() == ["u3"]
    for name in MADE:
        assert found.carried[name].equals(tables.read(str(lake), name))
    assert found.carried["retrievals"]["index_version"].to_pylist() == ["index-1", "index-1"]
    assert found.new.to_pylist()[0] | {"made_from": None} == {
        "user_id": "u3",
        "made_from": None,
        "index_version": "index-2",
    }


def test_who_took_something_is_retrieved_again_and_who_left_is_forgotten(lake) -> None:
    histories(lake, {"u1": ["a", "b", "c"], "u3": ["a"], "u9": ["d"]})
    found = part(lake)
    assert carried(found) == [] and found.users["user_id"].to_pylist() == ["u1", "u3", "u9"]
    assert all(not rows.num_rows for rows in found.carried.values())


def test_candidates_that_left_the_shop_go_and_too_few_are_none(lake) -> None:
    found = part(lake, pa.array(["a", "b", "d", "e"]))
    assert carried(found) == ["u1", "u2"]
    assert found.carried["candidates"]["item_id"].to_pylist() == ["d", "e"] * 2
    assert found.carried["evidence"]["item_id"].to_pylist() == ["d", "e"] * 2
    assert carried(part(lake, pa.array(["a", "b", "e"]))) == []


def test_under_a_quota_one_that_left_is_too_few(lake) -> None:
    histories(lake, USERS)
    limited = carry(settings(lake, rules={"quota": 1})).part(EVERYBODY, "index-1")
    tables.replace(str(lake), "retrievals", limited.new)
    assert carried(part(lake, rules={"quota": 1})) == ["u1", "u2"]
    assert carried(part(lake, pa.array(["a", "b", "d", "e"]), rules={"quota": 1})) == []


def test_rules_hold_for_who_is_carried_over(lake) -> None:
    found = part(lake, rules={"exclude_users": ["u2", "u3"]})
    assert carried(found) == ["u1"] and not found.users.num_rows and not found.new.num_rows
    assert set(found.carried["candidates"]["user_id"].to_pylist()) == {"u1"}
    assert carried(part(lake, rules={"categories": ["mugs"]})) == []


def test_another_model_or_setting_is_a_change_for_everybody(lake) -> None:
    assert carried(part(lake, model="other")) == []
    assert carried(part(lake, retrieve={"from_new": 5})) == []
    assert carried(part(lake, build_cf={"decay": 0.5})) == []
    put(lake, "item_keywords", [{"item_id": "a", "model": "another", "prompt_version": "1"}])
    assert carried(part(lake)) == []


def test_what_does_not_touch_retrieval_changes_nothing(lake) -> None:
    sections = {"engine": {"batch_rows": 1}, "evaluation": {"negatives": 5}, "index": {"token_env": "TOKEN"}}
    assert carried(part(lake, **sections)) == ["u1", "u2"]
    put(lake, "item_keywords", [{"item_id": i, "model": "m", "prompt_version": "1"} for i in "ab"])
    assert carried(part(lake)) == ["u1", "u2"]
