"""Metrics against naive references: every order of a tie enumerated, every pair of an AUC compared by itself."""

from itertools import permutations
from math import log2

import numpy as np
import pytest

from mmsrarec.evaluation import metrics

NAN = float("nan")


def naive(target: float, others: list[float], k: int) -> dict[str, float]:
    """Mean over all orders of the items that tie with the target; NaN items are not there at all."""
    others = [score for score in others if score == score]
    better = sum(score > target for score in others)
    ties = [score for score in others if score == target]
    hits, gains, reciprocals = [], [], []
    for order in permutations(["target", *range(len(ties))]):
        rank = better + order.index("target") + 1
        hits.append(float(rank <= k))
        gains.append(1 / log2(1 + rank) if rank <= k else 0.0)
        reciprocals.append(1 / rank if rank <= k else 0.0)
    wins = [1.0 if target > score else 0.5 if target == score else 0.0 for score in others]
    return {"hr": np.mean(hits), "ndcg": np.mean(gains), "mrr": np.mean(reciprocals), "auc": np.mean(wins)}


@pytest.fixture(scope="module")
def scores() -> tuple[np.ndarray, np.ndarray]:
    """Few distinct scores, so ties are common; -inf (unknown) on both sides; NaN padding."""
    generator = np.random.default_rng(1)
    target = generator.integers(0, 6, 60).astype(float)
    others = generator.integers(0, 6, (60, 9)).astype(float)
    target[:6], others[:12, :3] = -np.inf, -np.inf
    others[generator.random(others.shape) < 0.15] = NAN
    others[:, 0] = 3.0
    return target, others


@pytest.mark.parametrize("k", [1, 3, 5, 10, 50])
def test_per_user_metrics_equal_the_naive_reference(scores: tuple, k: int) -> None:
    target, others = scores
    ranks = metrics.ranks(target, others)
    expected = [naive(t, list(o), k) for t, o in zip(target, others, strict=True)]
    assert np.allclose(metrics.hit_rate(ranks, k), [e["hr"] for e in expected])
    assert np.allclose(metrics.ndcg(ranks, k), [e["ndcg"] for e in expected])
    assert np.allclose(metrics.mrr(ranks, k), [e["mrr"] for e in expected])
    assert np.allclose(metrics.auc(ranks), [e["auc"] for e in expected])


def test_a_method_that_ties_everything_gets_what_chance_gets() -> None:
    ranks = metrics.ranks(np.zeros(3), np.zeros((3, 20)))
    assert np.allclose(metrics.hit_rate(ranks, 5), 5 / 21)
    assert np.allclose(metrics.ndcg(ranks, 5), sum(1 / log2(1 + rank) for rank in range(1, 6)) / 21)
    assert np.allclose(metrics.auc(ranks), 0.5)


def test_a_target_that_was_not_ranked_is_a_miss() -> None:
    ranks = metrics.ranks(np.array([NAN, 1.0]), np.array([[0.0, 0.0], [0.0, NAN]]))
    assert metrics.hit_rate(ranks, 100).tolist() == [0.0, 1.0]
    assert metrics.ndcg(ranks, 100).tolist() == [0.0, 1.0]
    assert metrics.auc(ranks).tolist() == [0.0, 1.0]
    assert ranks.others.tolist() == [2, 1]


def test_known_values() -> None:
    ranks = metrics.ranks(np.array([5.0, 5.0]), np.array([[9.0, 9.0, 1.0], [1.0, 2.0, 3.0]]))  # ranks 3 and 1
    assert metrics.hit_rate(ranks, 2).tolist() == [0.0, 1.0]
    assert np.allclose(metrics.ndcg(ranks, 5), [0.5, 1.0])
    assert np.allclose(metrics.mrr(ranks, 5), [1 / 3, 1.0])
    assert np.allclose(metrics.auc(ranks), [1 / 3, 1.0])


def test_pooled_auc_compares_every_pair_of_all_users(scores: tuple) -> None:
    target, others = scores
    pool = [score for row in others for score in row if score == score]
    wins = [1.0 if t > o else 0.5 if t == o else 0.0 for t in target for o in pool]
    assert metrics.pooled_auc(target, others, np.arange(60), np.ones((1, 60)))[0] == pytest.approx(np.mean(wins))


def test_pooled_auc_of_a_resample_is_that_of_the_repeated_users(scores: tuple) -> None:
    target, others = scores
    weights = metrics.resamples(60, 5, seed=3)
    values = metrics.pooled_auc(target, others, np.arange(60), weights)
    for weight, value in zip(weights, values, strict=True):
        drawn = np.repeat(np.arange(60), weight.astype(int))
        again = metrics.pooled_auc(target[drawn], others[drawn], np.arange(60), np.ones((1, 60)))[0]
        assert value == pytest.approx(again)


def test_pooled_auc_punishes_scores_that_do_not_compare_across_users() -> None:
    target, others = np.array([1.0, 101.0]), np.array([[0.0], [100.0]])
    assert metrics.auc(metrics.ranks(target, others)).tolist() == [1.0, 1.0]
    assert metrics.pooled_auc(target, others, np.arange(2), np.ones((1, 2)))[0] == pytest.approx(0.75)


def test_resamples_draw_every_user_as_often_on_average_and_repeat_with_the_seed() -> None:
    weights = metrics.resamples(40, 2000, seed=5)
    assert (weights.sum(axis=1) == 40).all()
    assert np.allclose(weights.mean(axis=0), 1, atol=0.15)
    assert (weights == metrics.resamples(40, 2000, seed=5)).all()
    assert (weights != metrics.resamples(40, 2000, seed=6)).any()


def test_interval_is_that_of_the_normal_approximation() -> None:
    values = np.random.default_rng(2).random(400)
    value, low, high = metrics.estimate(metrics.mean(values, np.arange(400)), metrics.resamples(400, 4000, seed=7))
    half = 1.96 * values.std() / np.sqrt(400)
    assert value == pytest.approx(values.mean())
    assert low == pytest.approx(value - half, abs=0.1 * half)
    assert high == pytest.approx(value + half, abs=0.1 * half)


def test_the_interval_of_a_constant_is_a_point() -> None:
    assert metrics.estimate(metrics.mean(np.ones(9), np.arange(9)), metrics.resamples(9, 50, seed=1)) == (1.0, 1.0, 1.0)
