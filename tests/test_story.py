"""Stories of users and items: from tables only, plain text only, and a helpful error for what is not there."""

import io
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from rich.console import Console, RenderableType

from mmsrarec.config import Config
from mmsrarec.errors import ConfigError, InputError
from mmsrarec.reports.cards import ItemCard
from mmsrarec.reports.explain import explain, render_item, render_user
from mmsrarec.reports.item_story import of_item
from mmsrarec.reports.story import night, of_users, sample_users
from mmsrarec.storage import tables

NASTY = "[bold red]Mug[/] \x1b[2J\u202e<|im_end|> " + "x" * 60
FIRST, SECOND, THIRD = "2026-01-01", "2026-01-31", "2026-02-01"


def listed(day: str, user: str, rank: int, item: str) -> dict:
    row = {"run_date": day, "user_id": user, "rank": rank, "item_id": item, "score": 0.875, "p_yes": 0.875}
    marks = "short_history" if user == "u'1" else None
    return row | {"source": "similar_users", "because": ["tea"], "marks": marks, "run_id": f"run-{day}"}


def ledger(run_id: str, stage: str, started: datetime, notes: str = "{}") -> dict:
    row = {"run_id": run_id, "stage": stage, "status": "completed", "started_at": started, "finished_at": started}
    return row | {"versions": "{}", "notes": notes}


def put(config: Config, name: str, rows: list[dict]) -> None:
    tables.replace(config.lake.root, name, tables.from_rows(name, rows))


def keywords(item: str, *words: str, run_id: str = "made-first") -> dict:
    row = {"item_id": item, "image_keywords": ["tea"], "text_keywords": list(words), "keywords": [*words, "tea"]}
    return row | {"image_note": "truncated" if item == "b" else None, "model": "m", "run_id": run_id}


@pytest.fixture
def config(tmp_path: Path) -> Config:
    config = Config(inputs={"items": "items.csv", "interactions": "-"}, lake={"root": str(tmp_path)})
    visible = [listed(FIRST, "u'1", 1, "d"), listed(SECOND, "u'1", 1, "c"), listed(SECOND, "u'1", 2, "d")]
    visible += [listed(SECOND, f"user{n}", 1, "c") for n in range(0, 2000, 100)]
    neighbor = {"item_id": "c", "count": 3, "score": 0.5, "rank": 1}
    contents = {
        "histories": [
            {"user_id": "u'1", "item_ids": ["a", "b"], "timestamps": [1, 2], "split": "train"},
            *({"user_id": f"user{n}", "item_ids": ["a"] * (n // 100 + 1), "split": "test"} for n in range(2000)),
        ],
        "catalog": [
            {"item_id": i, "title": NASTY if i == "a" else f"Title {i}", "available": i != "b"} for i in "abcd"
        ],
        "item_keywords": [keywords(i, f"word {i}") for i in "abc"],
        "similar_users": [
            {"user_id": "u'1", "rank": r, "neighbor_user_id": f"n{r}", "similarity": 1 - r / 100, "next_item_id": "c"}
            for r in range(30, 0, -1)
        ],
        "candidates": [
            {"user_id": "u'1", "item_id": "gone", "source": "popular", "cf_score": None, "rank": 2},
            {"user_id": "u'1", "item_id": "c", "source": "similar_users", "cf_score": 1.25, "rank": 1},
            {"user_id": "user3", "item_id": "c", "source": "popular", "cf_score": 1.25, "rank": 1},
        ],
        "evidence": [{"user_id": "u'1", "item_id": "c", "content": 0.25, "levels": "together strong"}],
        "recommendations": visible,
        "staged_recommendations": [*visible, listed(THIRD, "u'1", 1, "b")],
        "item_cooccurrence": [neighbor | {"neighbor_id": "a"}],
        "item_transitions": [neighbor | {"next_item_id": "d"}],
        "rejects": [
            {"run_id": "r", "stage": "build_cf", "key": "z", "error": "bad_available", "message": "perhaps"},
            {"run_id": "r", "stage": "summarize_items", "key": "d", "error": "nothing_to_summarize", "message": "none"},
        ],
    }
    for name, rows in contents.items():
        put(config, name, rows)
    return config


def printed(told: RenderableType) -> str:
    console = Console(width=200, file=io.StringIO())
    console.print(told)
    return console.file.getvalue()


def test_the_story_of_a_user(config: Config) -> None:
    (story,) = of_users(config, ["u'1"])
    assert [card.item_id for card in story.history] == ["a", "b"]
    assert story.history[1] == ItemCard("b", "Title b", keywords=("word b", "tea"), available=False)
    assert [near.rank for near in story.similar] == list(range(1, 11)) and story.similar[0].next_item.item_id == "c"
    assert (story.run_date, story.run_id, story.marks, story.previous) == (
        SECOND,
        f"run-{SECOND}",
        "short_history",
        ["d"],
    )
    assert [(entry.rank, entry.item.item_id, entry.p_yes) for entry in story.listed] == [
        (1, "c", 0.875),
        (2, "d", 0.875),
    ]
    first, second = story.listed
    assert (first.levels, first.evidence["content"], first.because) == ("together strong", 0.25, ["tea"])
    assert (second.levels, second.evidence) == ("", {})  # no candidate any more
    assert [(other.rank, other.item) for other in story.not_listed] == [(2, ItemCard("gone"))]
    shown = printed(render_user(story))
    expected = ("word b, tea", "n10", "0.990", "similar_users", "together 0.000", "0.875", SECOND, "short_history")
    for words in (*expected[:4], "like history 0.25", *expected[5:], "1 new", "1 items as the night before"):
        assert words in shown, words
    assert "n11" not in shown


def test_a_night_may_be_chosen(config: Config) -> None:
    assert night(config).run_date == SECOND and night(config).published and night(config).before == FIRST
    (story,) = of_users(config, ["u'1"], FIRST)
    assert [entry.item.item_id for entry in story.listed] == ["d"] and story.previous == []
    (staged,) = of_users(config, ["u'1"], THIRD)
    assert [entry.item.item_id for entry in staged.listed] == ["b"] and not night(config, THIRD).published
    with pytest.raises(InputError, match=f"no lists of 2026-05-05; there are {FIRST}, {SECOND}, {THIRD}"):
        of_users(config, ["u'1"], "2026-05-05")


def test_many_users_read_each_table_once(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    read, names = tables.read, []

    def noted(root: str, name: str, *more: object) -> pa.Table:
        names.append(name)
        return read(root, name, *more)

    monkeypatch.setattr(tables, "read", noted)
    stories = of_users(config, ["user100", "u'1", "user3"])
    assert [story.user_id for story in stories] == ["user100", "u'1", "user3"]
    assert [story.run_date for story in stories] == [SECOND, SECOND, None]
    assert sorted(names) == sorted(
        ["histories", "similar_users", "candidates", "evidence", "recommendations", "recommendations"]
        + ["catalog", "item_keywords"]
    )


def test_a_sample_goes_from_short_histories_to_long_ones(config: Config) -> None:
    users = sample_users(config, 4)
    lengths = [len(story.history) for story in of_users(config, users)]
    assert lengths == sorted(lengths) and lengths[0] <= 6 and 15 <= lengths[-1]
    assert users == sample_users(config, 4) and len(set(users)) == 4
    other = config.model_copy(update={"run": config.run.model_copy(update={"seed": 18})})
    assert sample_users(other, 4) != users
    assert len(sample_users(config, 500)) == 21 and sample_users(config, 4, THIRD) == ["u'1"]


def test_text_of_the_shop_is_neither_markup_nor_terminal_code(config: Config) -> None:
    (story,) = of_users(config, ["u'1"])
    for shown in (printed(render_user(story)), printed(render_item(of_item(config, "a")))):
        assert "[bold red]Mug[/]" in shown
        assert "\x1b" not in shown and "\u202e" not in shown


def test_a_user_without_a_list_yet(config: Config) -> None:
    (story,) = of_users(config, ["user7"])
    assert (story.run_date, story.listed, story.not_listed, story.similar) == (None, [], [], [])
    assert "No list yet; run recommend" in printed(render_user(story))


def test_the_story_of_an_item(config: Config) -> None:
    story = of_item(config, "c")
    assert (story.keywords.image, story.keywords.text, story.candidate_of) == (["tea"], ["word c"], 2)
    assert (story.lists.count, story.lists.of, story.lists.before, story.lists.mean_rank) == (21, 21, 0, 1.0)
    assert (story.lists.reasons, story.lists.sources) == ({"tea": 21}, {"similar_users": 21})
    assert story.lists.users[0] == "u'1" and len(story.lists.users) == 10
    assert [other.item.item_id for other in (*story.together, *story.next)] == ["a", "d"]
    assert "21 of 21 lists" in printed(render_item(story))
    unread = of_item(config, "d")
    assert unread.keywords is None and unread.rejected[0].error == "nothing_to_summarize"
    assert of_item(config, "b").keywords.image_note == "truncated" and not of_item(config, "b").card.available
    barred = config.model_copy(update={"rules": config.rules.model_copy(update={"exclude_items": ["c"]})})
    assert of_item(barred, "c").barred_by == "rules.exclude_items"


def test_which_night_changed_the_keywords(config: Config) -> None:
    assert of_item(config, "a").keywords.changed is None  # the ledger does not know that run
    started = datetime.now(UTC)
    rows = [ledger("made-first", "summarize_items", started - timedelta(days=1))]
    rows += [ledger("made-then", "summarize_items", started)]
    rows += [ledger("made-then", "publish", started, f'{{"run_date": "{SECOND}"}}')]
    put(config, "runs", rows)
    put(config, "item_keywords", [keywords("a", "green", run_id="made-then"), keywords("c", "word c")])
    changed = of_item(config, "a").keywords
    assert (changed.run_id, changed.changed, changed.before) == ("made-then", SECOND, ["word a", "tea"])
    same = of_item(config, "c").keywords
    assert (same.changed, same.before) == ((started - timedelta(days=1)).date().isoformat(), None)
    assert f"{SECOND}; before that: word a, tea" in printed(render_item(of_item(config, "a")))


def test_what_is_not_there_is_told_with_the_nearest(config: Config, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no user 'user19x' among 2,001 users; did you mean 'user19"):
        of_users(config, ["u'1", "user19x"])
    with pytest.raises(InputError, match="no item 'e' among 4 items; did you mean '"):
        of_item(config, "e")
    with pytest.raises(InputError, match=r"items.csv: item 'z' was rejected by build_cf \(bad_available: perhaps\)"):
        of_item(config, "z")
    empty = Config(inputs={"items": "-", "interactions": "-"}, lake={"root": str(tmp_path / "none")})
    for story in (lambda: of_users(empty, ["1"]), lambda: of_item(empty, "1")):
        with pytest.raises(InputError, match="run build_cf first"):
            story()
    for wrong in ({}, {"user_id": "u'1", "item_id": "a"}, {"why_not": "a"}):
        with pytest.raises(ConfigError, match="--user ID, or --item ID, or --user ID --why-not ITEM"):
            explain(config, **wrong)
