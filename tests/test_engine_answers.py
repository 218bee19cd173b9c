"""Answers are asked once: within a stage, and again from what the lake remembers."""

import pytest

from mmsrarec.engines.answers import Answers
from mmsrarec.engines.types import Answer, Request
from mmsrarec.storage import tables


@pytest.fixture
def lake(tmp_path) -> str:
    rows = [
        {"key": "k1", "kind": "yes_no", "p_yes": 0.25, "prompt_tokens": 7, "cached_tokens": 3, "output_tokens": 1},
        {"key": "k2", "kind": "text", "text": "red, mug", "prompt_tokens": 9, "cached_tokens": 0, "output_tokens": 3},
        {"key": "other", "kind": "text", "text": "never asked", "prompt_tokens": 1},
    ]
    tables.append(str(tmp_path), "answers", tables.from_rows("answers", rows))
    return str(tmp_path)


def test_a_key_is_new_once():
    answers = Answers()
    assert answers.ask(["a", "b", "a"]) == [True, True, False]
    assert answers.ask(["b", "c"]) == [False, True]
    assert answers.ask([]) == []


def test_the_lake_answers_what_it_knows_and_only_that(lake):
    answers = Answers()
    answers.ask(["k1", "k2", "k3"])
    assert answers.recall(lake) == 2
    assert answers.get("k1") == Answer("k1", "yes_no", None, 0.25, 7, 3, 1)
    assert answers.get("k2") == Answer("k2", "text", "red, mug", None, 9, 0, 3)
    assert answers.missing(["k1", "k2", "k3"]) == {"k3"}
    assert answers.get("other") is None


def test_asking_again_does_not_lose_the_answer(lake):
    answers = Answers()
    answers.ask(["k1"])
    answers.recall(lake)
    assert answers.ask(["k1"]) == [False]
    assert answers.get("k1").p_yes == 0.25


def test_no_table_yet_knows_nothing(tmp_path):
    answers = Answers()
    answers.ask(["k1"])
    assert answers.recall(str(tmp_path)) == 0
    assert answers.missing(["k1"]) == {"k1"}


def test_an_error_is_an_answer_and_nothing_is_none():
    answers = Answers()
    answers.ask(["a", "b"])
    answers.put([Answer("a", "yes_no", error="too long")])
    assert answers.get("a").error == "too long"
    assert answers.get("b") is None
    assert answers.get(None) is None
    assert answers.missing(["a", "b"]) == {"b"}


def test_a_probability_comes_back_to_the_last_bit():
    answers, p_yes = Answers(), 1 / 3 + 1e-16
    answers.put([Answer("a", "yes_no", p_yes=p_yes)])
    assert answers.get("a").p_yes == p_yes


def test_everything_that_decides_an_answer_is_in_its_key():
    base = Request("prompt", "text", 8, "a.png", "hash")
    changed = [
        Request("prompt ", "text", 8, "a.png", "hash"),
        Request("prompt", "yes_no", 8, "a.png", "hash"),
        Request("prompt", "text", 9, "a.png", "hash"),
        Request("prompt", "text", 8, "a.png", "other"),
        Request("prompt", "text", 8),
    ]
    keys = {request.key("model") for request in [base, *changed]} | {base.key("another model")}
    assert len(keys) == len(changed) + 2
    assert Request("prompt", "text", 8, "moved.png", "hash").key("model") == base.key("model")
