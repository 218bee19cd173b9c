"""From scores to rows and to the screen; and the cascade's places, which must be those of the served list."""

import io

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console

from mmsrarec.config import Config
from mmsrarec.evaluation import cascade, metrics, report
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


@pytest.fixture
def rows(config: Config) -> list[dict]:
    perfect = Outcome("perfect", 1.5, np.ones(30), np.zeros((30, 20)), Ranks(*(np.zeros(30, int),) * 2, np.ones(30)))
    generator = np.random.default_rng(1)
    scores = generator.random((30, 21))
    full = Ranks(np.full(30, MISS), np.zeros(30, int), np.full(30, 100))
    return evaluate.figures(config, "run 1", [perfect, Outcome("lost", 0.1, scores[:, 0], scores[:, 1:], full)])


def test_figures_fit_the_table_and_its_key(rows: list[dict]) -> None:
    table = tables.from_rows("evaluation", rows)
    assert set(table["method"].to_pylist()) == {"perfect", "lost"}
    keys = [tuple(row[name] for name in KEYS["evaluation"]) for row in rows]
    assert len(keys) == len(set(keys)) == 2 * (2 * 2 * 3 + 2)
    assert not any(column.null_count for column in table.columns)
    assert all(row["low"] <= row["value"] <= row["high"] for row in rows)


def test_figures_of_a_perfect_and_of_a_lost_method(rows: list[dict]) -> None:
    assert {row["value"] for row in rows if row["method"] == "perfect"} == {1.0}
    lost = {(row["protocol"], row["metric"], row["k"]): row for row in rows if row["method"] == "lost"}
    assert lost["user-split/full", "hr", 2]["value"] == 0
    assert 0 < lost["user-split/sampled-1+20", "hr", 2]["value"] < 0.5
    assert 0.3 < lost["user-split/sampled-1+20", "auc", 0]["value"] < 0.7
    assert lost["user-split/sampled-1+20", "auc", 0]["low"] < lost["user-split/sampled-1+20", "auc", 0]["high"]


def test_the_report_prints_every_method_and_interval(rows: list[dict]) -> None:
    console = Console(file=io.StringIO(), width=120)
    report.show(rows, console)
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
    ranks = cascade.full(TEST, candidates, scores)
    assert ranks.above.tolist() == [1, MISS, 1]
    assert metrics.hit_rate(ranks, 2).tolist() == [1.0, 0.0, 1.0]
