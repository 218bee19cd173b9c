"""Baselines that learn, against slow references on histories made by hand; and that tuning looks at no test user."""

import numpy as np
import pyarrow as pa
import pytest

from mmsrarec.collaborative import ease
from mmsrarec.config import Config
from mmsrarec.evaluation import item_item, metrics, outcome, protocol, tuning
from mmsrarec.storage import tables

ITEMS = [f"i{number:02d}" for number in range(15)]
USERS = pa.table({"user_id": ["a", "b", "c"], "item_ids": [["i00", "i03", "i07"], ["i05"], ["unheard of"]]})
HELD_OUT = "i14"  # taken by nobody but as a held-out item


def make_histories() -> list[dict]:
    generator = np.random.default_rng(5)
    rows = []
    for number in range(90):
        items = generator.choice(ITEMS[:14], size=generator.integers(2, 7), replace=False).tolist()
        split, held_out = (("train", 0), ("validation", 1), ("test", 2))[number % 3]
        taken = [*items, HELD_OUT, f"i{number % 14:02d}"][: len(items) + held_out]
        times = [number * 100 + place for place in range(len(taken))]
        rows.append(
            {"user_id": f"u{number:02d}", "item_ids": taken, "timestamps": times, "split": split, "held_out": held_out}
        )
    return rows


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    root = str(tmp_path_factory.mktemp("items"))
    tables.replace(root, "histories", tables.from_rows("histories", make_histories()))
    texts = [f"red {'shirt' if number % 2 else 'skirt'} {number}" for number in range(15)]
    catalog = [{"item_id": item, "text": text} for item, text in zip(ITEMS, texts, strict=True)]
    tables.replace(root, "catalog", tables.from_rows("catalog", catalog[::-1]))
    return Config(inputs={"items": "-", "interactions": "-"}, lake={"root": root})


@pytest.fixture(scope="module")
def data(config: Config) -> item_item.Training:
    return item_item.training(config, ITEMS)


@pytest.fixture(scope="module")
def taken(data: item_item.Training) -> np.ndarray:
    """Who took what in training, made the slow way."""
    found = np.zeros((90, 15))
    for user, row in enumerate(sorted(make_histories(), key=lambda row: row["user_id"])):
        for item in row["item_ids"][: len(row["item_ids"]) - row["held_out"]]:
            found[user, ITEMS.index(item)] = 1
    return found


def test_nobody_learns_from_what_is_held_out(data: item_item.Training, taken: np.ndarray) -> None:
    assert (data.matrix.toarray() == taken).all()
    assert data.popularity[ITEMS.index(HELD_OUT)] == 0
    assert (data.popularity == taken.sum(axis=0)).all()
    assert (data.together.toarray()[ITEMS.index(HELD_OUT)] == 0).all()


def test_weights_decay_from_the_end_and_sum_to_one(data: item_item.Training) -> None:
    found = item_item.scorer(lambda weights: weights.toarray(), data, 0.5)(USERS)
    assert found[0, [0, 3, 7]] == pytest.approx([1 / 7, 2 / 7, 4 / 7])
    assert found.sum(axis=1) == pytest.approx([1, 1, 0])


def test_popularity_is_the_same_for_everybody(data: item_item.Training) -> None:
    scores = item_item.scorer(item_item.popularity(data, 0), data, 1.0)(USERS)
    assert (scores == data.popularity).all()


def test_recent_popularity_counts_the_latest_share(data: item_item.Training) -> None:
    scores = item_item.scorer(item_item.recent_popularity(data, 0.1), data, 1.0)(USERS)[0]
    pairs = [
        (time, item)
        for row in make_histories()
        for time, item in list(zip(row["timestamps"], row["item_ids"], strict=True))[
            : len(row["item_ids"]) - row["held_out"]
        ]
    ]
    since = np.quantile([time for time, _ in pairs], 0.9)
    counts = [sum(item == other and time >= since for time, other in pairs) for item in ITEMS]
    assert 0 < sum(counts) < len(pairs) / 5
    assert scores.round(3).tolist() == counts


def test_item_knn_is_the_shrunk_cosine(data: item_item.Training, taken: np.ndarray) -> None:
    scores = item_item.scorer(item_item.item_knn(data, 3.0), data, 1.0)(USERS)
    for item in range(15):
        expected = 0.0
        for source in (0, 3, 7):
            both = (taken[:, source] * taken[:, item]).sum()
            norm = np.sqrt(max(taken[:, source].sum(), 1) * max(taken[:, item].sum(), 1))
            expected += (source != item) * both / (norm + 3.0) / 3
        assert scores[0, item] == pytest.approx(expected, abs=1e-6)


def test_ease_is_its_closed_form(data: item_item.Training, taken: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ease, "BLOCK", 4)
    inverse = np.linalg.inv(taken.T @ taken + 7.0 * np.eye(15))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    scores = item_item.scorer(item_item.ease(data, 7.0), data, 1.0)(USERS)
    assert scores[0] == pytest.approx(weights[[0, 3, 7]].mean(axis=0), abs=1e-5)
    assert scores[1] == pytest.approx(weights[5], abs=1e-5)


def test_tfidf_finds_the_same_words(data: item_item.Training) -> None:
    scores = item_item.scorer(item_item.tfidf(data, 0), data, 1.0)(USERS)
    shirts = [number for number in range(1, 15, 2) if number != 5]
    skirts = range(0, 15, 2)
    assert min(scores[1, shirts]) > max(scores[1, skirts]) > 0
    assert (scores[2] == 0).all()


def test_tuning_takes_the_best_on_validation_and_never_sees_a_test_user(config: Config, data) -> None:
    questions = protocol.load(config, "validation")
    asked = questions.users["user_id"].to_pylist()
    assert {row["split"] for row in make_histories() if row["user_id"] in asked} == {"validation"}
    baseline = tuning.Baseline(item_item.item_knn, (10.0, 0.0, 200.0), (0.8, 0.3))
    few = tuning.tuned(baseline, data, questions)
    assert few == (10.0, 0.8), "with so few users the first ones hold"
    tuning_users, tuning.FEWEST_USERS = tuning.FEWEST_USERS, 1
    try:
        chosen = tuning.tuned(baseline, data, questions)
    finally:
        tuning.FEWEST_USERS = tuning_users
    every = {
        (parameter, decay): metrics.ndcg(
            outcome.run("", tuning.scorer(baseline, data, (parameter, decay)), questions).full, 10
        ).mean()
        for parameter in baseline.learning
        for decay in baseline.decays
    }
    assert every[chosen] == max(every.values())


def test_a_target_outside_the_pool_is_a_miss_and_stands_last_among_the_sampled(config: Config) -> None:
    test = protocol.load(config, "validation")
    scores = np.where(np.arange(15) < 2, 1.0, np.nan)
    found = outcome.run("pool", lambda users: np.tile(scores, (len(users), 1)), test)
    assert (test.targets == 14).all()
    assert (found.full.above == metrics.MISS).all()
    assert set(np.unique(found.lists)) <= {-1, 0, 1}
    inside = np.isin(test.negatives, [0, 1])
    assert (found.target == -np.inf).all() and (found.negatives[inside] == 1).all()
