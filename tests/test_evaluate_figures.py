"""From scores to rows and to the screen; and the cascade's places, which must be those of the served list."""

import io

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console

from mmsrarec.config import Config
from mmsrarec.evaluation import cascade, metrics, report, slices
from mmsrarec.evaluation.figures import figures
from mmsrarec.evaluation.metrics import MISS, Ranks
from mmsrarec.evaluation.outcome import Outcome
from mmsrarec.evaluation.protocol import TestSet
from mmsrarec.schemas import KEYS
from mmsrarec.storage import tables

ITEMS = ["a", "b", "c", "d", "e", "f"]
TEST = TestSet(
    items=ITEMS,
    users=pa.table({"user_id": ["u", "v", "w"], "item_ids": [["a"], ["b"], ["c", "gone"]]}),
    targets=np.array([1, 2, 0]),
    negatives=np.array([[2, 3], [4, -1], [4, 5]]),
    left_out={},
)


@pytest.fixture
def config() -> Config:
    return Config(inputs={"items": "-", "interactions": "-"}, dataset="tiny [shop]", evaluation={"ks": [1, 2]})


def questions(users: int, repeated: int = 1) -> TestSet:
    """Of `users` users, `repeated` each, in a catalog of 100 items; histories of 1 to 14 items."""
    names = [f"u{number}" for number in range(users) for _ in range(repeated)]
    histories = [[f"{place:02d}" for place in range(1 + number % 14)] for number in range(len(names))]
    table = pa.table({"user_id": names, "item_ids": histories})
    items = [f"{place:02d}" for place in range(100)]
    targets = np.arange(len(names)) % 50 + 20
    gaps = np.arange(len(names)) % 3 * 3000.0
    return TestSet(items, table, targets, np.zeros((len(names), 20), int), {}, gaps)


def outcomes(count: int) -> list[Outcome]:
    zeros, lists = np.zeros(count, int), np.tile(np.arange(2), (count, 1))
    places = Ranks(zeros, zeros, np.ones(count))
    perfect = Outcome("perfect", 1.5, np.ones(count), np.zeros((count, 20)), places, lists)
    scores = np.random.default_rng(1).random((count, 21))
    full = Ranks(np.full(count, MISS), zeros, np.full(count, 100))
    return [perfect, Outcome("lost", 0.1, scores[:, 0], scores[:, 1:], full, lists)]


@pytest.fixture
def rows(config: Config) -> list[dict]:
    return figures(config, "run 1", outcomes(30), questions(30), np.arange(100.0))


def test_figures_fit_the_table_and_its_key(rows: list[dict]) -> None:
    table = tables.from_rows("evaluation", rows)
    assert set(table["method"].to_pylist()) == {"perfect", "lost"}
    keys = [tuple(row[name] for name in KEYS["evaluation"]) for row in rows]
    assert len(keys) == len(set(keys)) == 2 * (2 * 2 * 3 + 2 + 2 * 2)
    coverage = [row for row in rows if row["metric"] == "coverage"]
    assert {(row["k"], row["value"], row["low"]) for row in coverage} == {(1, 0.01, None), (2, 0.02, None)}
    assert all(row["low"] <= row["value"] <= row["high"] for row in rows if row not in coverage)


def test_figures_of_a_perfect_and_of_a_lost_method(rows: list[dict]) -> None:
    lists = ("coverage", "popularity_bias")
    assert {row["value"] for row in rows if row["method"] == "perfect" and row["metric"] not in lists} == {1.0}
    lost = {(row["protocol"], row["metric"], row["k"]): row for row in rows if row["method"] == "lost"}
    assert lost["user-split/full", "hr", 2]["value"] == 0
    assert 0 < lost["user-split/sampled-1+20", "hr", 2]["value"] < 0.5
    assert 0.3 < lost["user-split/sampled-1+20", "auc", 0]["value"] < 0.7
    assert lost["user-split/sampled-1+20", "auc", 0]["low"] < lost["user-split/sampled-1+20", "auc", 0]["high"]


def test_ratios_are_to_the_named_baseline_and_none_to_itself(config: Config) -> None:
    config = config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"baseline": "perfect"})})
    rows = figures(config, "run 1", outcomes(30), questions(30), np.arange(100.0))
    ratios = [row for row in rows if row["metric"].startswith("ratio_")]
    assert {row["method"] for row in ratios} == {"lost"}
    found = {(row["protocol"], row["metric"], row["k"]): row for row in rows if row["method"] == "lost"}
    for name in ("hr", "ndcg"):
        for protocol in ("user-split/full", "user-split/sampled-1+20"):
            own, ratio = found[protocol, name, 2], found[protocol, f"ratio_{name}", 2]
            assert [ratio[end] for end in ("value", "low", "high")] == [own[end] for end in ("value", "low", "high")]


def test_a_ratio_to_nothing_is_null(config: Config) -> None:
    config = config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"baseline": "lost"})})
    rows = figures(config, "run 1", outcomes(30), questions(30), np.arange(100.0))
    (found,) = [row for row in rows if (row["protocol"], row["metric"], row["k"]) == ("user-split/full", "ratio_hr", 2)]
    assert (found["value"], found["low"], found["high"]) == (None, None, None)


def test_slices_of_a_kind_add_up_to_the_whole(config: Config) -> None:
    test = questions(40, repeated=3)
    settings = config.evaluation.model_copy(update={"slices": True})
    popularity = np.random.default_rng(3).integers(0, 4, 100).astype(float)
    found = slices.of(test, popularity)
    for kind in ("history", "target", "gap", ("cold item", "warm item"), ("cold user", "warm user")):
        parts = [chosen for name, chosen in found.items() if name.startswith(kind)]
        assert len(parts) > 1
        assert (np.sum(parts, axis=0) == 1).all(), kind
    rows = figures(config.model_copy(update={"evaluation": settings}), "run", outcomes(120), test, popularity)
    of_slices = {row["protocol"].split("/")[2] for row in rows if row["protocol"].count("/") == 2}
    assert of_slices == set(found)
    sampled = metrics.hit_rate(metrics.ranks(outcomes(120)[1].target, outcomes(120)[1].negatives), 2)
    history = [name for name in found if name.startswith("history")]
    assert sum(sampled[found[name]].sum() for name in history) == pytest.approx(sampled.sum())


def test_an_interval_is_over_users_not_over_their_questions() -> None:
    values, owner = np.repeat(np.random.default_rng(2).random(50), 8), np.repeat(np.arange(50), 8)
    weights = metrics.resamples(50, 2000, seed=1)
    together = metrics.estimate(metrics.mean(values, owner), weights)
    each = metrics.estimate(metrics.mean(values[::8], np.arange(50)), weights)
    assert together == pytest.approx(each)


def test_coverage_and_popularity_bias_by_hand() -> None:
    lists = np.array([[0, 1], [1, -1]])
    assert metrics.coverage(lists, 4) == 0.5
    # percentiles of the popularities 0, 1, 1, 5, ties in the middle: 1/8, 1/2, 1/2, 7/8
    bias = metrics.popularity_bias(lists, np.array([3, 1]), np.array([0.0, 1, 1, 5]))
    assert bias.tolist() == [(1 / 8 + 1 / 2) / 2 - 7 / 8, 0.0]


def test_the_report_prints_every_method_and_interval(rows: list[dict]) -> None:
    console = Console(file=io.StringIO(), width=140)
    report.show(rows, console=console)
    text = console.file.getvalue()
    assert "tiny [shop]  user-split/sampled-1+20  30 users" in text
    assert "user-split/full" in text
    assert all(word in text for word in ("perfect", "lost", "HR@1", "NDCG@2", "AUC POOLED", "100.0-100.0"))


def test_the_cascade_asks_every_pair_of_both_protocols_once() -> None:
    candidates = {"u": {"b": 0.5, "e": None, "d": 1.0}, "v": {"f": 0.0}}
    assert cascade.pairs_of(TEST, candidates).to_pylist() == [
        {"user_id": user, "item_id": item}
        for user, items in (("u", "bcde"), ("v", "cef"), ("w", "aef"))
        for item in items
    ]


def test_a_pair_without_an_answer_stands_last_in_the_sampled_protocol() -> None:
    scores = {("u", "b"): 0.4, ("u", "c"): 0.5, ("u", "d"): None, ("v", "e"): 0.1, ("w", "a"): 0.2, ("w", "e"): 0.1}
    target, negatives = cascade.sampled(TEST, scores)
    assert target.tolist() == [0.4, -np.inf, 0.2]
    assert negatives[0].tolist() == [0.5, -np.inf]
    assert negatives[1, 0] == 0.1
    assert np.isnan(negatives[1, 1])
    assert metrics.hit_rate(metrics.ranks(target, negatives), 1).tolist() == [0.0, 0.0, 1.0]


def test_the_cascade_ranks_as_the_list_is_served() -> None:
    candidates = {
        "u": {"f": 2.0, "b": 1.0, "d": None, "a": 9.0},  # a is seen, so out; f and b tie, f has the higher cf_score
        "v": {"d": 0.0, "e": 0.0},  # the target c is no candidate
        "w": {"a": 0.0, "d": 0.0, "gone": 0.0},  # the target's pair got no answer, so it stands behind d
    }
    answers = {"u": {"f": 0.7, "b": 0.7000000001, "d": 0.6, "a": 1.0}, "v": {"d": 0.1}, "w": {"d": 0.01, "gone": 1.0}}
    scores = {(user, item): p_yes for user, found in answers.items() for item, p_yes in found.items()}
    ranks = cascade.full(TEST, cascade.orders(TEST, candidates, scores))
    assert ranks.above.tolist() == [1, MISS, 1]
    assert metrics.hit_rate(ranks, 2).tolist() == [1.0, 0.0, 1.0]
