"""Ranking metrics with one target per question, their bootstrap intervals over users, and nothing about models or
tables. Pure numpy.

A user may have several questions. `owner` [questions] is the number of each question's user; a resample draws users,
each with all of their questions, and a figure is a mean over questions.

Ties count by expectation: a target tied with t others is equally likely at each of the t + 1 places, and a metric is
its mean over them. So a method that scores everything alike gets exactly what chance gets, with no random number drawn.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Metric = Callable[[np.ndarray], np.ndarray]  # weights [resamples, users] -> [resamples]
MISS = np.iinfo(np.int64).max // 4  # `above` of a target that the method never ranked


@dataclass(frozen=True)
class Ranks:
    """Where each target stands, int64 [questions]: items scored above it, tied with it, ranked beside it in all."""

    above: np.ndarray
    tied: np.ndarray
    others: np.ndarray


def ranks(target: np.ndarray, others: np.ndarray) -> Ranks:
    """From the targets' scores [questions] and the other items' [questions, items], higher is better.

    NaN among `others` means "not ranked here" (a seen item, padding); a NaN target was not ranked itself: a miss.
    """
    above = (others > target[:, None]).sum(axis=1)
    tied = (others == target[:, None]).sum(axis=1)
    return Ranks(np.where(np.isnan(target), MISS, above), tied, (~np.isnan(others)).sum(axis=1))


def hit_rate(ranks: Ranks, k: int) -> np.ndarray:
    """HR@k per question: is the target among the first k?"""
    return _expected(ranks, np.ones(k))


def ndcg(ranks: Ranks, k: int) -> np.ndarray:
    """NDCG@k per question; with one target the ideal is 1, so this is 1 / log2(1 + rank) within the first k, else 0."""
    return _expected(ranks, 1 / np.log2(np.arange(2, k + 2)))


def mrr(ranks: Ranks, k: int) -> np.ndarray:
    """MRR@k per question: 1 / rank within the first k, else 0."""
    return _expected(ranks, 1 / np.arange(1, k + 1))


def auc(ranks: Ranks) -> np.ndarray:
    """Per question, the share of other items that the target beats, a tie counting half; 0 for a miss."""
    losses = np.minimum(ranks.above, ranks.others) + ranks.tied / 2
    return 1 - losses / ranks.others


def pooled_auc(target: np.ndarray, others: np.ndarray, owner: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """AUC over all (target, other item) pairs of all questions together, as if scores compared across users; ties half.

    Scores as for `ranks`, a NaN target below everything; `weights` [resamples, users] says how often a user counts.
    Returns [resamples].
    """
    question, column = np.nonzero(~np.isnan(others))
    order = np.argsort(others[question, column])
    scores, beside = others[question, column][order], question[order]
    places = np.where(np.isnan(target), -np.inf, target)
    first, last = (np.searchsorted(scores, places, side) for side in ("left", "right"))
    values = np.empty(len(weights))
    for row, weight in enumerate(each[owner] for each in weights):
        below = np.concatenate([[0], np.cumsum(weight[beside])])
        values[row] = weight @ (below[first] + below[last]) / 2 / (weight.sum() * below[-1])
    return values


def coverage(lists: np.ndarray, items: int) -> float:
    """Share of the `items` of the catalog that are on any of the lists [questions, k], -1 where one is shorter."""
    return len(np.unique(lists[lists >= 0])) / items


def popularity_bias(lists: np.ndarray, targets: np.ndarray, popularity: np.ndarray) -> np.ndarray:
    """Per question, mean percentile of the popularity of what is listed, less that of what was taken: above 0 where
    lists are more popular than the tastes they are for. lists [questions, k], -1 where shorter; popularity [items]."""
    ordered = np.sort(popularity)
    middle = np.searchsorted(ordered, popularity, "left") + np.searchsorted(ordered, popularity, "right")
    percentile = middle / 2 / len(popularity)
    listed = np.where(lists >= 0, percentile[lists], np.nan)
    with np.errstate(invalid="ignore"):
        mean = np.nansum(listed, axis=1) / (lists >= 0).sum(axis=1)
    return np.where(np.isnan(mean), 0.0, mean - percentile[targets])


def resamples(users: int, count: int, seed: int) -> np.ndarray:
    """How often each user is drawn in each bootstrap resample, [count, users].

    Use the same resamples for every method and metric: their differences and ratios are then paired by user.
    """
    return np.random.default_rng(seed).multinomial(users, np.full(users, 1 / users), size=count).astype(float)


def estimate(metric: Metric, weights: np.ndarray) -> tuple[float, float, float]:
    """Value and 95% percentile interval of `metric`, a function of weights [resamples, users] -> [resamples]; resamples
    in which it is not defined, as none of a slice's users was drawn, do not count."""
    value = metric(np.ones((1, weights.shape[1])))[0]
    drawn = metric(weights)
    if np.isnan(drawn).all():
        return float(value), float("nan"), float("nan")
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return float(value), float(low), float(high)


def mean(values: np.ndarray, owner: np.ndarray, chosen: np.ndarray | None = None) -> Metric:
    """The mean of `values` [questions], of those `chosen` (bool), as a function of weights for `estimate`."""
    values, owner = (values, owner) if chosen is None else (values[chosen], owner[chosen])

    def metric(weights: np.ndarray) -> np.ndarray:
        count, total = (np.bincount(owner, of, minlength=weights.shape[1]) for of in (np.ones(len(owner)), values))
        with np.errstate(invalid="ignore", divide="ignore"):
            return (weights @ total) / (weights @ count)

    return metric


def ratio(over: Metric, under: Metric) -> Metric:
    """Of two metrics on the same resamples, so it is paired by user; not defined where the lower one is 0."""

    def metric(weights: np.ndarray) -> np.ndarray:
        above, below = over(weights), under(weights)
        return np.divide(above, below, out=np.full(len(weights), np.nan), where=below != 0)

    return metric


def _expected(ranks: Ranks, gains: np.ndarray) -> np.ndarray:
    """Mean gain over the places above + 1 … above + tied + 1; gains[i] is that of place i + 1, 0 after the last."""
    total = np.concatenate([[0.0], np.cumsum(gains)])
    first = np.minimum(ranks.above, len(gains))
    last = np.minimum(ranks.above + ranks.tied + 1, len(gains))
    return (total[last] - total[first]) / (ranks.tied + 1)
