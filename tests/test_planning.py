"""The plan of a lake at every hour of its life: before any engine, when all is answered, and when an item changed.

Tables are put in by hand and answers by key; what the real stages ask is held against the plan in test_end_to_end.py.
"""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from mmsrarec.collaborative.retrieve import retrieve as retrieve_really
from mmsrarec.config import Config
from mmsrarec.engines.price import Planned
from mmsrarec.engines.template import Template
from mmsrarec.engines.types import Group
from mmsrarec.errors import InputError, PlanError
from mmsrarec.keywords.summarize import groups_of
from mmsrarec.planning.pilot import NONE, Pilot
from mmsrarec.planning.plan import plan, require
from mmsrarec.recommendation.recommend import knowns
from mmsrarec.recommendation.scoring import Scorer
from mmsrarec.recommendation.task import keywords_by_item
from mmsrarec.storage import rules, runs, tables
from mmsrarec.training.sasrec_trainer import train_sasrec

ITEMS, USERS, CANDIDATES, TESTED = 40, 24, 5, 6
NIGHT = datetime(2026, 3, 1, tzinfo=UTC)
COLORS = "red blue green black white orange violet brown".split()


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A lake after build_cf, with a ledger row for it."""
    sections = {"retrieve": {"candidates": CANDIDATES}, "recommend": {"top_k": 3}, "evaluate": {"negatives": 4}}
    made = Config(inputs={"items": "-", "interactions": "-"}, lake={"root": str(tmp_path / "lake")}, **sections)
    write(made, "catalog", [item(n) for n in range(ITEMS)])
    write(made, "histories", [history(n) for n in range(USERS)])
    ledger(made, "build_cf", 1)
    return made


def item(n: int, text: str = "mug of steel for travel") -> dict:
    row = {"item_id": f"i{n:02}", "title": f"item {n}", "text": f"{COLORS[n % 8]} {text}, number {n}"}
    return row | {"available": True, "interactions": 1}


def history(n: int) -> dict:
    """Nobody has taken the last 8 items."""
    split = "test" if n < TESTED else "train"
    return {"user_id": f"u{n:02}", "item_ids": [f"i{(n + k) % 32:02}" for k in range(6)], "split": split}


def write(config: Config, name: str, rows: list[dict]) -> None:
    tables.replace(config.lake.root, name, tables.from_rows(name, rows))


def ledger(config: Config, stage: str, hour: float) -> None:
    at = NIGHT + timedelta(hours=hour)
    row = {"run_id": f"r{hour}", "stage": stage, "status": "completed", "started_at": at, "finished_at": at}
    tables.append(config.lake.root, "runs", tables.from_rows("runs", [row | {"versions": "{}", "notes": "{}"}]))


def answer(config: Config, groups: list[Group]) -> None:
    """Put answers to these groups into the lake, as an engine's would be."""
    identity = Template(config.model_path).identity
    asked = {request.key(identity): request for group in groups for request in group.requests}
    rows = [{"key": key, "kind": request.kind, "text": "", "p_yes": 0.5} for key, request in asked.items()]
    tables.append(config.lake.root, "answers", tables.from_rows("answers", rows))


def item_groups(config: Config) -> list[Group]:
    stage = runs.Stage(config, "summarize_items", "r")
    return list(groups_of(config, stage, Template(config.model_path), []))


def pair_groups(config: Config) -> list[Group]:
    keywords = keywords_by_item(tables.read(config.lake.root, "item_keywords", ["item_id", "keywords"]))
    scorer = Scorer(config, runs.Stage(config, "recommend", "r"), Template(config.model_path), {})
    return [group for known in knowns(config, keywords, rules.load(config)) for group in scorer.groups(known)]


def summarize(config: Config) -> None:
    answer(config, item_groups(config))
    rows = [{"item_id": f"i{n:02}", "keywords": [COLORS[n % 8], "mug", f"number {n}"]} for n in range(ITEMS)]
    write(config, "item_keywords", rows)
    ledger(config, "summarize_items", 2)


def retrieve(config: Config, hour: int) -> None:
    pairs = [
        {"user_id": f"u{n:02}", "item_id": f"i{32 + (n + k) % 8}"} for n in range(USERS) for k in range(CANDIDATES)
    ]
    write(config, "candidates", [pair | {"rank": place % CANDIDATES + 1} for place, pair in enumerate(pairs)])
    write(config, "evidence", [pair | {"levels": "rank top 3"} for pair in pairs])
    ledger(config, "retrieve", hour)


def planned(config: Config) -> dict[str, Planned]:
    return {found.stage: found for found in plan(config)}


def to_do(config: Config) -> tuple[int, int]:
    """Items, and pairs of recommend."""
    found = planned(config)
    return found["summarize_items"].work.groups, found["recommend"].work.requests


def test_before_build_cf_there_is_nothing_to_plan(tmp_path: Path) -> None:
    empty = Config(inputs={"items": "-", "interactions": "-"}, lake={"root": str(tmp_path)})
    with pytest.raises(InputError, match="run build_cf first"):
        plan(empty)


def test_the_first_night_is_estimated(config: Config) -> None:
    found = planned(config)
    items, pairs, tested = found["summarize_items"], found["recommend"], found["evaluate"]
    assert (items.total, items.work.groups, items.work.requests, items.work.pictures) == (ITEMS, ITEMS, ITEMS, 0)
    assert items.work.output_tokens == ITEMS * 24  # half of max_tokens
    assert pairs.total == USERS * CANDIDATES and 0.9 * pairs.total <= pairs.work.requests <= pairs.total
    assert TESTED * CANDIDATES < tested.total <= TESTED * (CANDIDATES + 5)
    assert "by chance" in pairs.basis and 0 < pairs.work.cached_tokens < pairs.work.prompt_tokens


def test_longer_answers_make_longer_prompts(config: Config) -> None:
    short, long = (
        planned(config.model_copy(update={"plan": config.plan.model_copy(update={"answer_tokens": tokens})}))
        for tokens in (4, 30)
    )
    means = [found["recommend"].work.prompt_tokens / found["recommend"].work.requests for found in (short, long)]
    assert means[1] > 1.5 * means[0]


def test_a_sample_of_users_stands_for_all(config: Config) -> None:
    everyone = planned(config)["recommend"].work
    some = planned(config.model_copy(update={"plan": config.plan.model_copy(update={"sample": 8})}))["recommend"]
    assert some.total == USERS * CANDIDATES and some.basis.startswith(f"8 of {USERS} users")
    assert some.work.tokens == pytest.approx(everyone.tokens, rel=0.1)


def test_what_is_answered_is_not_planned(config: Config) -> None:
    summarize(config)
    retrieve(config, 3)
    assert to_do(config) == (0, USERS * CANDIDATES)
    groups = pair_groups(config)
    answer(config, groups[:10])
    assert to_do(config) == (0, (USERS - 10) * CANDIDATES)
    answer(config, groups[10:])
    assert to_do(config) == (0, 0)
    assert planned(config)["recommend"].basis == "every pair that retrieve named"


def test_a_changed_item_takes_the_pairs_that_show_it_along(config: Config) -> None:
    summarize(config)
    retrieve(config, 3)
    answer(config, pair_groups(config))
    write(config, "catalog", [item(n, "cup of oak") if n in (3, 39) else item(n) for n in range(ITEMS)])
    shown = {f"u{n:02}" for n in range(USERS) if "i03" in history(n)["item_ids"][-config.recommend.history :]}
    candidate = {row["user_id"] for row in tables.read(config.lake.root, "candidates").to_pylist()
                 if row["item_id"] == "i39"}  # fmt: skip
    assert shown and candidate - shown
    assert to_do(config) == (2, len(shown) * CANDIDATES + len(candidate - shown))


def test_a_pilot_tells_how_long_answers_are(config: Config) -> None:
    at, words = NIGHT, [[f"item {n} word {k}" for k in range(12)] for n in range(20)]
    notes = {"engine_requests": 10, "requests_per_second": 2.0}
    row = {
        "stage": "summarize_items",
        "status": "completed",
        "started_at": at,
        "finished_at": at + timedelta(seconds=9),
    }
    row |= {"prompt_tokens": 100, "output_tokens": 370, "versions": "{}", "notes": json.dumps(notes)}
    keywords = pa.table([[f"i{n:02}" for n in range(20)], words], schema=NONE.keywords.schema)
    piloted = {found.stage: found for found in plan(config, piloted=Pilot([row], keywords))}
    assert piloted["summarize_items"].work.output_tokens == ITEMS * 37
    assert piloted["summarize_items"].seconds == pytest.approx(9 - 5 + ITEMS / 2)
    long, short = (found["recommend"].work for found in (piloted, planned(config)))
    assert long.prompt_tokens / long.requests > 1.5 * short.prompt_tokens / short.requests


def test_candidates_of_another_night_are_not_trusted(config: Config) -> None:
    summarize(config)
    retrieve(config, 3)
    answer(config, pair_groups(config))
    ledger(config, "build_cf", 4)
    found = planned(config)["recommend"]
    assert found.work.requests > 0 and "users" in found.basis


def test_who_is_carried_over_is_planned_as_it_was(config: Config) -> None:
    """With a SASRec and a retrieve that are real: the plan names the very pairs that the next retrieve leads to."""
    sections = {"retrieve": config.retrieve.model_copy(update={"similar_users": 0})}
    sections["sasrec"] = config.sasrec.model_copy(update={"epochs": 1, "dim": 8, "device": "cpu"})
    config = config.model_copy(update=sections)
    summarize(config)
    train_sasrec(config, "first")
    retrieve_really(config, "first")
    answer(config, pair_groups(config))
    longer = history(7) | {"item_ids": [*history(7)["item_ids"], "i35"]}
    write(config, "histories", [longer if n == 7 else history(n) for n in range(USERS)])
    ledger(config, "build_cf", (datetime.now(UTC) - NIGHT) / timedelta(hours=1))
    found = planned(config)["recommend"]
    assert "1 of 1 users" in found.basis and f"{USERS - 1} users are carried over" in found.basis
    every_night = config.model_copy(update={"sasrec": config.sasrec.model_copy(update={"refresh_days": 0})})
    assert f"{USERS} of {USERS} users" in planned(every_night)["recommend"].basis
    train_sasrec(config, "second")
    retrieve_really(config, "second")
    groups = pair_groups(config)
    assert found.total == sum(len(group.requests) for group in groups) == USERS * CANDIDATES
    exact = planned(config)["recommend"]
    assert exact.basis == "every pair that retrieve named"
    assert found.work == exact.work and exact.work.requests == CANDIDATES


def test_planning_writes_nothing(config: Config) -> None:
    def files() -> dict:
        return {str(path): path.stat().st_mtime_ns for path in Path(config.lake.root).rglob("*")}

    write(config, "catalog", [*(item(n) for n in range(ITEMS)), {"item_id": "nothing to say"}])
    before = files()
    assert planned(config)["summarize_items"].total == ITEMS + 1
    assert files() == before


def test_what_is_left_of_the_run_must_fit(config: Config) -> None:
    figures = planned(config)
    tokens = {name: found.work.tokens for name, found in figures.items()}
    left = ["summarize_items", "retrieve", "recommend", "evaluate"]

    def limited(allowed: int) -> Config:
        return config.model_copy(update={"budget": config.budget.model_copy(update={"tokens": allowed})})

    require(limited(sum(tokens.values())), "r", left)
    require(limited(0), "r", ["retrieve", "recommend"])  # asks no engine itself
    with pytest.raises(PlanError) as error:
        require(limited(sum(tokens.values()) - 1), "r", left)
    assert all(words in str(error.value) for words in (*tokens, "budget.tokens", f"{sum(tokens.values()):,} tokens"))
    require(limited(tokens["recommend"]), "r", ["recommend"])
