"""The order of a list, what may be on it, and the reasons given."""

import random

import pytest

from mmsrarec.recommendation.rank import Scored, because, top


def scored(item_id: str, p_yes: float | None = 0.5, cf_score: float | None = None) -> Scored:
    return Scored(item_id, p_yes, cf_score, "sasrec", [])


def ids(items: list[Scored]) -> list[str]:
    return [item.item_id for item in items]


def test_p_yes_then_cf_score_then_item_id():
    items = [
        scored("d", 0.2, 9.0),
        scored("c", 0.9, None),
        scored("b", 0.9, -5.0),
        scored("a", 0.9, None),
        scored("e", 0.9, 1.0),
    ]
    everything = {"a", "b", "c", "d", "e"}
    for seed in range(5):
        random.Random(seed).shuffle(items)
        assert ids(top(items, (), everything, 10)) == ["e", "b", "a", "c", "d"]


def test_the_last_bits_of_an_engine_do_not_decide():
    items = [scored("b", 0.12345649, 1.0), scored("a", 0.12345651, 0.0), scored("c", 0.123458, 0.0)]
    assert ids(top(items, (), {"a", "b", "c"}, 3)) == ["c", "a", "b"]  # rounded to 0.123457 and 0.123456
    items = [scored("b", 0.1234561, 1.0), scored("a", 0.1234564, 0.0)]
    assert ids(top(items, (), {"a", "b"}, 3)) == ["b", "a"]


def test_seen_unavailable_and_repeated_items_are_out():
    items = [scored("a", 0.9), scored("b", 0.8), scored("c", 0.7), scored("c", 0.7), scored("d", 0.6)]
    assert ids(top(items, {"a"}, {"a", "c", "d"}, 10)) == ["c", "d"]
    assert ids(top(items, {"a"}, {"a", "c", "d"}, 1)) == ["c"]
    assert top([], (), {"a"}, 10) == []


def test_an_item_without_an_answer_only_fills_up():
    items = [scored("a", None, 99.0), scored("b", 0.0), scored("c", 0.001)]
    listed = top(items, (), {"a", "b", "c"}, 3)
    assert ids(listed) == ["c", "b", "a"]
    assert [item.score for item in listed] == [0.001, 0.0, 0.0]
    assert ids(top(items, (), {"a", "b", "c"}, 2)) == ["c", "b"]


@pytest.mark.parametrize(
    "keywords, context, expected",
    [
        (["red", "mug", "tea"], [["tea"], ["tea", "mug"], ["tea"]], ["tea", "mug"]),
        (["red", "mug"], [["mug"], ["red"]], ["red", "mug"]),
        (["a", "b", "c", "d"], [["d", "c", "b", "a"]], ["a", "b"]),
        (["a", "a"], [["a", "a"]], ["a"]),
        (["b", "a"], [["a", "a", "a"], ["b"], ["b"]], ["b", "a"]),
        (["red"], [["redder"], []], []),
        ([], [["a"]], []),
        (["a"], [], []),
    ],
)
def test_because_is_what_is_shared_most_shared_first(keywords, context, expected):
    assert because(keywords, context, 2) == expected
