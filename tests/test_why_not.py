"""Where an item dropped out, against what the real stages did with it: real SASRec, sources, lists and gates on a small
shop. The engine's answers are in `answers` before anyone asks, so recommend starts none.
"""

import io
import random
import re
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from mmsrarec.collaborative.retrieve import Retriever
from mmsrarec.config import Config
from mmsrarec.engines.template import Template
from mmsrarec.errors import GateError, InputError
from mmsrarec.publishing.publish import publish, rollback
from mmsrarec.recommendation.recommend import knowns, recommend
from mmsrarec.recommendation.scoring import Scorer
from mmsrarec.recommendation.task import keywords_by_item
from mmsrarec.reports.explain import render_steps
from mmsrarec.reports.places import ranking
from mmsrarec.reports.steps import Step
from mmsrarec.reports.why_not import why_not
from mmsrarec.storage import rules, runs, tables
from mmsrarec.training.sasrec_trainer import train_sasrec

USER = "u00"
ITEMS = [f"i{number:02}" for number in range(40)]  # nobody has taken the last four
USERS = [f"u{number:02}" for number in range(30)]
GONE, EXCLUDED, OFF = "i33", "i34", "i35"  # not available, excluded, of a category that may not be listed
NIGHT = "2026-03-01"
SECTIONS = {
    "sasrec": {"dim": 8, "layers": 1, "epochs": 2, "max_length": 8, "device": "cpu"},
    "retrieve": {
        "candidates": 14, "from_sasrec": 6, "from_similar_users": 3, "from_cooccurrence": 3, "from_content": 4,
        "from_similar_content": 3, "from_new": 1,
    },
    "recommend": {"top_k": 5},
    "rules": {"exclude_items": [EXCLUDED], "categories": ["even", "odd"], "quota": 3, "exclude_users": ["u29"]},
}  # fmt: skip


def settings(root: Path, date: str = NIGHT, **sections: dict) -> Config:
    changed = {name: {**SECTIONS.get(name, {}), **values} for name, values in sections.items()}
    return Config(
        inputs={"items": "-", "interactions": "-"}, lake={"root": str(root)}, run={"date": date}, **SECTIONS | changed
    )


def put(config: Config, name: str, rows: list[dict]) -> None:
    tables.replace(config.lake.root, name, tables.from_rows(name, rows))


def shop(config: Config) -> None:
    """Users walk along the items; each is like the two after them."""
    walks = {user: [ITEMS[(place + 2 * step) % 36] for step in range(5)] for place, user in enumerate(USERS)}
    put(config, "histories", [{"user_id": user, "item_ids": taken, "split": "train"} for user, taken in walks.items()])
    category = {item: "off" if item == OFF else ("even", "odd")[place % 2] for place, item in enumerate(ITEMS)}
    catalog = [
        {"item_id": item, "available": item != GONE, "category": category[item], "interactions": 4 * (item < "i36")}
        for item in ITEMS
    ]
    put(config, "catalog", catalog)
    put(
        config,
        "item_keywords",
        [{"item_id": item, "keywords": [f"word{place % 7}", f"own{place}"]} for place, item in enumerate(ITEMS)],
    )
    pairs = [(ITEMS[n], ITEMS[(n + step) % 36], step) for n in range(36) for step in (2, 4, 6, 8)]
    near = [{"item_id": a, "neighbor_id": b, "count": 4, "score": 1 / step, "rank": step // 2} for a, b, step in pairs]
    put(config, "item_cooccurrence", near)
    put(config, "item_transitions", [])
    similar = [
        {"user_id": user, "rank": rank, "neighbor_user_id": USERS[(n + rank) % 30], "similarity": 1 - rank / 100}
        | {"next_item_id": ITEMS[(n + 10 + rank) % 36]}
        for n, user in enumerate(USERS)
        for rank in range(1, 7)
    ]
    put(config, "similar_users", similar)


def retrieve(config: Config) -> None:
    """As the stage does, but with the similar users that stand in the table."""
    root, retriever = config.lake.root, Retriever(config)
    users = retriever.rules.served(tables.read(root, "histories", ["user_id", "item_ids"]))
    similar = tables.read(root, "similar_users")
    candidates = retriever.candidates(users, similar)
    tables.replace(root, "candidates", candidates)
    tables.replace(root, "evidence", retriever.evidence(users, candidates, similar))


def answer(config: Config) -> dict[tuple[str, str], str]:
    """Put what an engine would have said about every pair, at random; the key of each pair's answer."""
    chance, template = random.Random(3), Template.of(config)
    keywords = keywords_by_item(tables.read(config.lake.root, "item_keywords", ["item_id", "keywords"]))
    scorer = Scorer(config, runs.Stage(config, "recommend", "before"), template, {})
    keys = {}
    for known in knowns(config, keywords, rules.load(config)):
        pairs = iter(zip(*(known.pairs[name].to_pylist() for name in ("user_id", "item_id")), strict=True))
        for group in scorer.groups(known):
            keys |= {next(pairs): request.key(template.identity) for request in group.requests}
    row = {"period": "2026-03-01", "kind": "yes_no"}
    put(config, "answers", [{**row, "key": key, "p_yes": chance.random()} for key in sorted(set(keys.values()))])
    return keys


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A published night."""
    config = settings(tmp_path_factory.mktemp("why") / "lake")
    shop(config)
    train_sasrec(config, "night")
    retrieve(config)
    answer(config)
    recommend(config, "night")
    publish(config, "night")
    return config


def by_user(config: Config, name: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in tables.read(config.lake.root, name).sort_by("rank").to_pylist():
        found.setdefault(row["user_id"], []).append(row["item_id"])
    return found


def dropped(steps: list[Step]) -> str | None:
    assert all(step.passed for step in steps[:-1])
    return None if steps[-1].passed else steps[-1].name


@pytest.fixture(scope="module")
def told(config: Config) -> dict[str, list[Step]]:
    return {item: why_not(config, USER, item) for item in ITEMS}


def test_every_item_drops_out_where_the_stages_dropped_it(config: Config, told: dict[str, list[Step]]) -> None:
    candidates, lists = by_user(config, "candidates")[USER], by_user(config, "recommendations")[USER]
    for item, steps in told.items():
        name = dropped(steps)
        if item in lists:
            assert name is None
        elif item in {GONE, EXCLUDED, OFF}:
            assert name == ("available" if item == GONE else "rules")
        elif item in ITEMS[0:10:2]:
            assert name == "unseen"
        elif item not in candidates:
            assert name == "candidate"
        else:
            assert name in {"scored", "quota"}
    names = {dropped(steps) for steps in told.values()}
    assert names == {None, "available", "rules", "unseen", "candidate", "scored", "quota"}


def test_the_setting_that_is_named_changes_it(config: Config, told: dict[str, list[Step]]) -> None:
    root, tried, of_user = Path(config.lake.root), set(), [("user_id", "=", USER)]
    users = tables.read(str(root), "histories", ["user_id", "item_ids"], of_user)
    similar = tables.read(str(root), "similar_users", filters=of_user)
    for item, steps in told.items():
        last = steps[-1]
        name, value = re.search(r"\w+\.(\w+)(?:=(\d+))?$", last.setting or "none.none").groups()
        if last.name == "candidate":
            room = {} if name == "candidates" else {"candidates": len(ITEMS)}  # for all that the sources name
            wider = Retriever(settings(root, retrieve={**room, name: int(value)})).candidates(users, similar)
            sources = dict(zip(*(wider[column].to_pylist() for column in ("item_id", "source")), strict=True))
            assert sources[item] != "popular" or name == "candidates", (item, last)
        elif last.name == "scored":
            longer = settings(root, recommend={"top_k": int(value)}, rules={"quota": len(ITEMS)})
            assert item in [scored.item_id for scored in ranking(longer, USER).listed]
        elif last.name == "quota":
            free = settings(root, rules={"quota": len(ITEMS)}, recommend={"top_k": int(value or 5)})
            assert last.setting.startswith("rules.quota")
            assert item in [scored.item_id for scored in ranking(free, USER).listed]
        tried.add((last.name, name))
    assert {name for step, name in tried if step == "candidate"} > {"candidates"}
    assert {"scored", "quota"} <= {step for step, _ in tried}


def test_nothing_is_written_and_nothing_held(config: Config, told: dict[str, list[Step]]) -> None:
    def files() -> set[tuple[Path, int]]:
        return {(path, path.stat().st_mtime_ns) for path in Path(config.lake.root).rglob("*") if path.is_file()}

    before = files()
    for name in ("candidate", "scored", None):
        why_not(config, USER, next(item for item, steps in told.items() if dropped(steps) == name))
    assert files() == before


def test_the_ranking_is_that_of_the_stage(config: Config) -> None:
    rows = tables.read(config.lake.root, "recommendations", filters=[("user_id", "=", USER)]).sort_by("rank")
    listed = ranking(config, USER).listed
    assert [scored.item_id for scored in listed] == rows["item_id"].to_pylist()
    assert [scored.p_yes for scored in listed] == rows["p_yes"].to_pylist()


def last_step(told: dict[str, list[Step]], name: str | None) -> Step:
    """Of the first item that was dropped there."""
    return next(steps[-1] for steps in told.values() if dropped(steps) == name)


def test_figures_are_told(told: dict[str, list[Step]]) -> None:
    assert re.search(r"places by source: .*\d+ \(of \d+\)", last_step(told, "candidate").sentence)
    figures = r"p_yes 0\.\d{3}, place \d+ of 1\d candidates; the list ends with i\d\d \(p_yes 0\.\d{3}\) at place"
    assert re.search(figures, last_step(told, "scored").sentence)
    assert "The list has 3 better ones of category" in last_step(told, "quota").sentence
    assert re.search(r"published list of 2026-03-01 at rank \d, what readers", last_step(told, None).sentence)


def test_an_excluded_user_and_what_is_not_there(config: Config) -> None:
    last = why_not(config, "u29", "i20")[-1]
    assert (last.name, last.passed, last.setting) == ("user", False, "rules.exclude_users")
    for arguments, words in [
        (("u99", "i20"), "no user 'u99'"),
        (("u00", "i99"), "no item 'i99' among 40 items; did you mean 'i"),
        (("u00", "i20", "2020-01-01"), "no lists of 2020-01-01; there are 2026-03-01"),
    ]:
        with pytest.raises(InputError, match=words):
            why_not(config, *arguments)


@pytest.fixture
def copy(config: Config, tmp_path: Path) -> Path:
    """The lake, to change."""
    return Path(shutil.copytree(config.lake.root, tmp_path / "lake"))


def test_what_happened_since_is_told_of_an_item_on_the_list(config: Config, copy: Path) -> None:
    listed = by_user(config, "recommendations")[USER][0]
    steps = why_not(settings(copy, rules={"exclude_items": [listed]}), USER, listed)
    assert [step.name for step in steps][-2:] == ["published", "rules"] and not steps[-1].passed


def test_a_night_that_readers_do_not_see(config: Config, copy: Path) -> None:
    second = settings(copy, "2026-03-02", publish={"overlap_max": 0.5})
    recommend(second, "second")
    listed = by_user(second, "staged_recommendations")[USER][0]
    steps = why_not(second, USER, listed)
    assert [step.name for step in steps] == ["known", "candidate", "scored", "staged", "published"]
    assert "run publish" in steps[-1].sentence
    with pytest.raises(GateError):
        publish(second, "second")
    refused = why_not(second, USER, listed)[-1]
    assert (refused.setting, refused.passed) == ("publish.overlap_max", False) and "run second" in refused.sentence
    assert dropped(why_not(second, USER, listed, NIGHT)) is None
    second = settings(copy, "2026-03-02")
    publish(second, "third")
    assert dropped(why_not(second, USER, listed)) is None
    rollback(second, "back", NIGHT)
    assert "took back the night of 2026-03-02 (run back)" in why_not(second, USER, listed)[-1].sentence


def test_an_answer_that_is_not_there(config: Config, copy: Path) -> None:
    changed = settings(copy)
    item = next(item for item in ITEMS if dropped(why_not(changed, USER, item)) == "scored")
    key = answer(changed)[USER, item]
    tables.delete(str(copy), "answers", f"key = '{key}'")
    gone = why_not(changed, USER, item)[-1]
    assert (gone.name, gone.passed, gone.setting) == ("scored", False, "answers.keep_days")
    reject = {
        "run_id": "r",
        "stage": "recommend",
        "key": f"{USER}/{item}",
        "error": "engine_error",
        "message": "too long",
    }
    tables.append(str(copy), "rejects", tables.from_rows("rejects", [reject]))
    refused = why_not(changed, USER, item)[-1]
    assert "the engine refused: too long" in refused.sentence and not refused.passed


def test_lists_from_before_what_the_tables_say(config: Config, copy: Path) -> None:
    changed = settings(copy)
    first = by_user(changed, "recommendations")[USER][0]
    for name in ("recommendations", "staged_recommendations"):
        tables.delete(str(copy), name, f"user_id = '{USER}' AND item_id = '{first}'")
    assert dropped(why_not(changed, USER, first)) == "staged"
    tables.delete(str(copy), "candidates", f"user_id = '{USER}' AND item_id = '{first}'")
    carried = why_not(changed, USER, first)[-1]
    assert (carried.name, carried.setting) == ("candidate", "sasrec.refresh_days")
    tables.delete(str(copy), "candidates", f"user_id = '{USER}'")
    assert "no candidates" in why_not(changed, USER, first)[-1].sentence


def test_it_is_printed(config: Config) -> None:
    console = Console(width=200, file=io.StringIO())
    console.print(render_steps(USER, GONE, why_not(config, USER, GONE)))
    console.print(render_steps(USER, ITEMS[8], why_not(config, USER, ITEMS[8])))
    shown = console.file.getvalue()
    assert "dropped out at: available. What would change it: inputs.columns.available" in shown
    assert "dropped out at: unseen. No setting changes it." in shown
