"""Answers are asked once: within a stage, and again from what the lake remembers."""

import pytest

from mmsrarec.config import Config
from mmsrarec.engines.answers import Answers
from mmsrarec.engines.template import Template
from mmsrarec.engines.types import Answer, Request
from mmsrarec.storage import tables

NOW = "2026-01-31"
KINDS = {"text", "yes_no"}


@pytest.fixture
def lake(tmp_path) -> str:
    rows = [
        {"key": "k1", "kind": "yes_no", "p_yes": 0.25, "prompt_tokens": 7, "cached_tokens": 3, "output_tokens": 1},
        {"key": "k2", "kind": "text", "text": "red, mug", "prompt_tokens": 9, "cached_tokens": 0, "output_tokens": 3},
        {"key": "other", "kind": "text", "text": "never asked", "prompt_tokens": 1},
    ]
    rows = [{"period": NOW, **row} for row in rows]
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
    assert answers.recall(lake, KINDS, NOW) == 2
    assert answers.get("k1") == Answer("k1", "yes_no", None, 0.25, 7, 3, 1)
    assert answers.get("k2") == Answer("k2", "text", "red, mug", None, 9, 0, 3)
    assert answers.missing(["k1", "k2", "k3"]) == {"k3"}
    assert answers.get("other") is None


def test_what_the_lake_that_taught_this_one_has_answered_is_not_asked_again(lake, tmp_path):
    other = str(tmp_path / "test")
    tables.append(
        other, "answers", tables.from_rows("answers", [{"period": NOW, "key": "k1", "kind": "yes_no", "p_yes": 0.5}])
    )
    for known in (2, 2):
        answers = Answers()
        answers.ask(["k1", "k2", "k3"])
        assert answers.recall(other, KINDS, "2026-02-28", lake) == known
        assert answers.get("k1").p_yes == 0.5, "its own answer comes first"
        assert answers.get("k2").text == "red, mug" and answers.missing(["k1", "k2", "k3"]) == {"k3"}
    left = tables.read(other, "answers").sort_by([("key", "ascending"), ("period", "ascending")])
    assert left["key"].to_pylist() == ["k1", "k1", "k2"], "kept once, in the period in which it is in use"
    assert tables.count(lake, "answers") == 3, "nothing is written there"


def test_only_the_kinds_asked_for_are_looked_up(lake):
    answers = Answers()
    answers.ask(["k1", "k2"])
    assert answers.recall(lake, {"text"}, NOW) == 1
    assert answers.missing(["k1", "k2"]) == {"k1"}


def test_asking_again_does_not_lose_the_answer(lake):
    answers = Answers()
    answers.ask(["k1"])
    answers.recall(lake, KINDS, NOW)
    assert answers.ask(["k1"]) == [False]
    assert answers.get("k1").p_yes == 0.25


def test_no_table_yet_knows_nothing(tmp_path):
    answers = Answers()
    answers.ask(["k1"])
    assert answers.recall(str(tmp_path), KINDS, NOW) == 0
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


def test_engine_settings_that_decide_an_answer_are_in_its_key_and_others_are_not():
    def identity(**engine) -> str:
        return Template.of(Config(inputs={"items": "-", "interactions": "-"}, engine=engine)).identity

    plain = identity()
    assert plain == Template(Config(inputs={"items": "-", "interactions": "-"}).model_path).identity
    same = [{"max_num_seqs": 4}, {"replicas": 2}, {"batch_rows": 1}, {"extra": {"max_num_batched_tokens": 4096}}]
    assert {identity(**engine) for engine in same} == {plain}
    other = [{"dtype": "bfloat16"}, {"dtype": "float32"}, {"extra": {"quantization": "fp8"}}]
    assert len({plain, *(identity(**engine) for engine in other)}) == 4
