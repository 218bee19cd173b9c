"""Scoring by choice: who gets which letter, how many prompts there are, and what the letters' probabilities become."""

import json

import pyarrow as pa
import pytest

from mmsrarec.config import BUNDLED_MODEL, Config
from mmsrarec.engines.answers import Answers
from mmsrarec.engines.template import Template
from mmsrarec.engines.types import LETTERS, Answer
from mmsrarec.recommendation import choice, prompt
from mmsrarec.recommendation.scoring import Asked, Scorer, asked
from mmsrarec.recommendation.task import Candidate, Known, Task
from mmsrarec.storage import runs, tables


def settings(**sections) -> Config:
    recommend = {"scoring": "choice", **sections.pop("recommend", {})}
    return Config(inputs={"items": "-", "interactions": "-"}, recommend=recommend, **sections)


def task(count: int, user_id: str = "u", words: int = 1) -> Task:
    candidates = [Candidate(f"i{n:03}", [f"word{n} {k}" for k in range(words)], "rank low") for n in range(count)]
    return Task(user_id, [["red", "mug"], ["tea"]], [["bowl"]], candidates)


@pytest.fixture(scope="module")
def template() -> Template:
    return Template(str(BUNDLED_MODEL))


def ask(given: Task, template: Template, length: int = 4096, seed: int = 0) -> list[Asked]:
    return asked(settings(engine={"max_model_len": length}, run={"seed": seed}), given, template, {})


def letters(found: list[Asked]) -> dict[str, tuple[int, str]]:
    """The prompt's number and the letter of each candidate."""
    places = [
        (item_id, (number, LETTERS[place]))
        for number, one in enumerate(found)
        for place, item_id in enumerate(one.item_ids)
    ]
    assert len(dict(places)) == len(places)
    return dict(places)


@pytest.mark.parametrize(("count", "sizes"), [(1, [1]), (2, [2]), (26, [26]), (27, [14, 13]), (60, [20, 20, 20])])
def test_every_candidate_has_one_letter(template, count, sizes):
    given = task(count)
    found = ask(given, template)
    assert [one.request.letters for one in found] == sizes == [len(one.item_ids) for one in found]
    assert letters(found).keys() == {candidate.item_id for candidate in given.candidates}
    user = prompt.user_text(given.history, given.similar, prompt.CHOICE)
    for one in found:
        assert one.request.kind == "choice" and user in one.request.prompt
        for letter, item_id in zip(LETTERS, one.item_ids, strict=False):
            assert f"\n{letter}. word{int(item_id[1:])} 0; Evidence: rank low" in one.request.prompt.replace(
                user, user + "\n"
            )


def test_letters_are_drawn_by_user_and_seed_and_not_by_place(template):
    given = task(20)
    turned = Task("u", given.history, given.similar, given.candidates[::-1])
    drawn = letters(ask(given, template))
    assert letters(ask(turned, template)) == drawn
    assert letters(ask(task(20, "v"), template)) != drawn != letters(ask(given, template, seed=1))
    first = [letters(ask(task(20, f"u{user}"), template))["i000"][1] for user in range(200)]
    assert all(2 <= first.count(letter) <= 25 for letter in LETTERS[:20])


def test_what_does_not_fit_goes_into_more_prompts(template):
    wide = task(20, words=6)
    whole = len(template.tokenizer(ask(wide, template)[0].request.prompt)["input_ids"])
    for length in (whole, whole // 2, whole // 3):
        found = ask(wide, template, length)
        assert len(found) > 1 and {one.request.letters for one in found} <= {20 // len(found), 20 // len(found) + 1}
        assert all(len(template.tokenizer(one.request.prompt)["input_ids"]) < length for one in found)
        assert len(letters(found)) == 20
        assert len({one.request.prompt.split(prompt.CHOICE)[0] for one in found}) == 1
    assert len(ask(wide, template, whole + 1)) == 1


def test_a_long_user_does_not_leave_everybody_alone(template):
    given = task(6)
    long = Task("u", [[f"item {n} word {m}" for m in range(40)] for n in range(5)], [], given.candidates)
    found = ask(long, template, 512)
    assert [one.request.letters for one in found] == [6]
    assert "item 4 word 0" in found[0].request.prompt and "item 0 word 0" not in found[0].request.prompt


def test_two_stay_together_whatever_does_not_fit(template):
    assert [one.request.letters for one in ask(task(7, words=200), template, 256)] == [3, 2, 2]


def test_scores_keep_the_order_and_tell_chance():
    for shares in ([0.25] * 4, [0.7, 0.2, 0.1], [1e-9, 1 - 1e-9], [1.0]):
        found = choice.scores(Answer("k", "choice", json.dumps(shares)))
        assert sorted(range(len(shares)), key=lambda n: found[n]) == sorted(range(len(shares)), key=lambda n: shares[n])
        assert all(0 < score < 1 for score in found)
        for score, share in zip(found, shares, strict=True):
            assert (score > 0.5) == (share > 1 / len(shares)) or score == pytest.approx(0.5)
    few, many = (choice.scores(Answer("k", "choice", json.dumps([2 / n, *[0.0] * (n - 1)]))) for n in (4, 20))
    assert few[0] == pytest.approx(many[0]) == pytest.approx(2 / 3), "as much above chance, whatever the prompt's size"


def test_answers_become_scores_and_refusals_rejects(template, tmp_path):
    config = settings(lake={"root": f"{tmp_path}/lake"})
    items = [f"i{n}" for n in range(30)]
    users, nothing = pa.table({"user_id": ["u"], "item_ids": [["a"]]}), [tables.from_rows(name, []) for name in
                                                                         ("similar_users", "evidence")]  # fmt: skip
    pairs = pa.table({"user_id": ["u"] * 30, "item_id": items})
    known = Known(users, nothing[0], pairs, nothing[1], {item: [f"word {item}"] for item in items})
    answers = Answers()
    with runs.stage(config, "recommend", "r") as stage:
        scorer = Scorer(config, stage, template, {})
        (group,) = scorer.groups(known)
        keys = [request.key(template.identity) for request in group.requests]
        assert answers.ask(keys) == [True, True] and [request.judges for request in group.requests] == [15, 15]
        answers.put([Answer(keys[0], "choice", json.dumps([0.3, *[0.05] * 14])), Answer(keys[1], "choice", error="no")])
        ((_, found),) = scorer.judged(known, answers)
    best = max(items, key=lambda item: found[item] or 0)
    assert found.keys() == set(items) and found[best] == pytest.approx(4.5 / 5.5)
    assert f"A. word {best}\n" in group.requests[0].prompt
    refused = {item for item, score in found.items() if score is None}
    rejects = tables.read(config.lake.root, "rejects").to_pylist()
    assert len(refused) == 15 and {row["key"] for row in rejects} == {f"u/{item}" for item in refused}
    assert {row["message"] for row in rejects} == {"no"}
