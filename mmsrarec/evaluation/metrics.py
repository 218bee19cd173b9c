"""Ranking metrics with one target per user, their bootstrap intervals, and nothing about models or tables. Pure numpy.

Ties count by expectation: a target tied with t others is equally likely at each of the t + 1 places, and a metric is
its mean over them. So a method that scores everything alike gets exactly what chance gets, with no random number drawn.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

MISS = np.iinfo(np.int64).max // 4  # `above` of a target that the method never ranked


@dataclass(frozen=True)
class Ranks:
    """Where each user's target stands, int64 [users]: items scored above it, tied with it, ranked beside it in all."""

    above: np.ndarray
    tied: np.ndarray
    others: np.ndarray


def ranks(target: np.ndarray, others: np.ndarray) -> Ranks:
    """From the targets' scores [users] and the other items' [users, items], higher is better.

    NaN among `others` means "not ranked here" (a seen item, padding); a NaN target was not ranked itself: a miss.
    """
    above = (others > target[:, None]).sum(axis=1)
    tied = (others == target[:, None]).sum(axis=1)
    return Ranks(np.where(np.isnan(target), MISS, above), tied, (~np.isnan(others)).sum(axis=1))


def hit_rate(ranks: Ranks, k: int) -> np.ndarray:
    """HR@k per user: is the target among the first k?"""
    return _expected(ranks, np.ones(k))


def ndcg(ranks: Ranks, k: int) -> np.ndarray:
    """NDCG@k per user; with one target the ideal is 1, so this is 1 / log2(1 + rank) within the first k, else 0."""
    return _expected(ranks, 1 / np.log2(np.arange(2, k + 2)))


def mrr(ranks: Ranks, k: int) -> np.ndarray:
    """MRR@k per user: 1 / rank within the first k, else 0."""
    return _expected(ranks, 1 / np.arange(1, k + 1))


def auc(ranks: Ranks) -> np.ndarray:
    """Per user, the share of other items that the target beats, a tie counting half; 0 for a miss."""
    losses = np.minimum(ranks.above, ranks.others) + ranks.tied / 2
    return 1 - losses / ranks.others


def pooled_auc(target: np.ndarray, others: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """AUC over all (target, other item) pairs of all users together, as if scores compared across users; ties half.

    Scores as for `ranks`, a NaN target below everything; `weights` [resamples, users] says how often a user counts.
    Returns [resamples].
    """
    user, column = np.nonzero(~np.isnan(others))
    order = np.argsort(others[user, column])
    scores, owner = others[user, column][order], user[order]
    places = np.where(np.isnan(target), -np.inf, target)
    first, last = (np.searchsorted(scores, places, side) for side in ("left", "right"))
    values = np.empty(len(weights))
    for row, weight in enumerate(weights):
        below = np.concatenate([[0], np.cumsum(weight[owner])])
        values[row] = weight @ (below[first] + below[last]) / 2 / (weight.sum() * below[-1])
    return values


def resamples(users: int, count: int, seed: int) -> np.ndarray:
    """How often each user is drawn in each bootstrap resample, [count, users].

    Use the same resamples for every method and metric: their differences and ratios are then paired by user.
    """
    return np.random.default_rng(seed).multinomial(users, np.full(users, 1 / users), size=count).astype(float)


def estimate(metric: Callable[[np.ndarray], np.ndarray], weights: np.ndarray) -> tuple[float, float, float]:
    """Value and 95% percentile interval of `metric`, a function of weights [resamples, users] -> [resamples]."""
    value = metric(np.ones((1, weights.shape[1])))[0]
    low, high = np.quantile(metric(weights), [0.025, 0.975])
    return float(value), float(low), float(high)


def mean(values: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """The mean over users of per-user `values`, as a function of weights for `estimate`."""
    return lambda weights: weights @ values / weights.sum(axis=1)


def _expected(ranks: Ranks, gains: np.ndarray) -> np.ndarray:
    """Mean gain over the places above + 1 … above + tied + 1; gains[i] is that of place i + 1, 0 after the last."""
    total = np.concatenate([[0.0], np.cumsum(gains)])
    first = np.minimum(ranks.above, len(gains))
    last = np.minimum(ranks.above + ranks.tied + 1, len(gains))
    return (total[last] - total[first]) / (ranks.tied + 1)
