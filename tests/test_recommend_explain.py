"""explain: from tables only, plain text only, and a helpful error for a user that is not there."""

import io

import pytest
from rich.console import Console

from mmsrarec.config import Config
from mmsrarec.errors import InputError
from mmsrarec.recommendation.explain import Explanation, look_up, render
from mmsrarec.storage import tables

NASTY = "[bold red]Mug[/] \x1b[2J\u202e<|im_end|> " + "x" * 60


@pytest.fixture
def config(tmp_path) -> Config:
    config = Config(
        inputs={"items": "-", "interactions": "-"}, lake={"root": str(tmp_path)}, run={"date": "2026-02-02"}
    )
    rows = {
        "histories": [
            {"user_id": "u'1", "item_ids": ["a", "b"], "timestamps": [1, 2], "split": "train"},
            *({"user_id": f"user{n}", "item_ids": ["a"], "timestamps": [1], "split": "test"} for n in range(2000)),
        ],
        "catalog": [{"item_id": i, "title": NASTY if i == "a" else f"Title {i}"} for i in "abcd"],
        "item_keywords": [{"item_id": i, "keywords": [f"word {i}", "tea"]} for i in "abc"],
        "similar_users": [
            {"user_id": "u'1", "rank": r, "neighbor_user_id": f"n{r}", "similarity": 1 - r / 100, "next_item_id": "c"}
            for r in range(30, 0, -1)
        ],
        "candidates": [
            {"user_id": "u'1", "item_id": "d", "source": "popular", "cf_score": None, "rank": 2},
            {"user_id": "u'1", "item_id": "c", "source": "similar_users", "cf_score": 1.25, "rank": 1},
        ],
        "evidence": [{"user_id": "u'1", "item_id": "c", "levels": "together strong"}],
        "recommendations": [
            {
                "run_date": day,
                "user_id": "u'1",
                "rank": 1,
                "item_id": "c",
                "score": 0.875,
                "p_yes": 0.875,
                "source": "similar_users",
                "because": ["tea"],
                "marks": "short_history",
            }
            for day in ("2026-01-01", "2026-01-31")
        ],
    }
    for name, content in rows.items():
        tables.replace(config.lake.root, name, tables.from_rows(name, content))
    return config


def printed(explanation: Explanation) -> str:
    console = Console(width=200, file=io.StringIO())
    console.print(render(explanation))
    return console.file.getvalue()


def test_what_is_shown(config):
    explanation = look_up(config, "u'1")
    assert explanation.history == ["a", "b"]
    assert [row["item_id"] for row in explanation.candidates] == ["c", "d"]
    assert [row["rank"] for row in explanation.similar] == list(range(1, 31))
    assert explanation.run_date == "2026-01-31" and len(explanation.recommendations) == 1
    shown = printed(explanation)
    for expected in ("word b, tea", "n10", "0.990", "similar_users", "1.250", "together strong", "0.875", "2026-01-31"):
        assert expected in shown
    assert "short_history" in shown and "n11" not in shown


def test_text_of_the_shop_is_neither_markup_nor_terminal_code(config):
    shown = printed(look_up(config, "u'1"))
    assert "[bold red]Mug[/]" in shown
    assert "\x1b" not in shown and "\u202e" not in shown and "x" * 41 not in shown


def test_a_user_without_a_list_yet(config):
    explanation = look_up(config, "user7")
    assert (explanation.run_date, explanation.candidates, explanation.similar) == (None, [], [])
    assert "none yet; run recommend" in printed(explanation)


def test_an_unknown_user_is_told_the_nearest(config):
    with pytest.raises(InputError, match="no user 'user19x' among 2,001 users; did you mean 'user19"):
        look_up(config, "user19x")


def test_an_empty_lake(tmp_path):
    with pytest.raises(InputError, match="run build_cf first"):
        look_up(Config(inputs={"items": "-", "interactions": "-"}, lake={"root": str(tmp_path)}), "1")
