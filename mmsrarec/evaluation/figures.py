"""From the methods' outcomes to rows of `evaluation`, all over the same bootstrap resamples of the users.

Of every method and protocol HR, NDCG and MRR at each k, and their ratio to the baseline's, paired by user; of MMSRARec
also to the fusion's, which hears the same evidence; of the sampled one AUC, per question and pooled; of the full one
coverage and popularity bias of the lists. Slices have HR and NDCG, full, at the longest k. Ratios are not told of the
baseline itself.
"""

from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np

from mmsrarec.config import Config
from mmsrarec.evaluation import metrics, protocol, slices
from mmsrarec.evaluation.metrics import Metric, Ranks
from mmsrarec.evaluation.outcome import Outcome
from mmsrarec.evaluation.protocol import TestSet

AT_K = {"hr": metrics.hit_rate, "ndcg": metrics.ndcg, "mrr": metrics.mrr}
COMPARED = ("hr", "ndcg")
OURS, FUSION = "mmsrarec", "fusion"
Figure = tuple[str, str, int, Metric, int]  # protocol, metric, k, function of the resamples, users


def figures(config: Config, run_id: str, outcomes: list[Outcome], test: TestSet, popularity: np.ndarray) -> list[dict]:
    """Rows of `evaluation`; `popularity` [items] is the training interactions of each item of the test set."""
    weights = metrics.resamples(test.asked_users, config.evaluation.bootstrap, config.run.seed)
    bases = {outcome.method: outcome for outcome in outcomes if outcome.method in _bases(config)}
    rows: list[dict] = []
    for outcome in outcomes:
        told: dict = {"run_id": run_id, "dataset": config.dataset, "method": outcome.method, "seconds": outcome.seconds}
        told["configuration"] = config.hash
        for name, metric, k, estimator, users in _estimators(config, outcome, bases, test, popularity):
            found = (None if np.isnan(value) else value for value in metrics.estimate(estimator, weights))
            row = {
                "protocol": name,
                "metric": metric,
                "k": k,
                **dict(zip(("value", "low", "high"), found, strict=True)),
            }
            rows.append(told | row | {"users": users})
        rows += [told | row for row in _coverage(config, outcome, test)]
    return rows


def _estimators(
    config: Config, outcome: Outcome, bases: Mapping[str, Outcome], test: TestSet, popularity: np.ndarray
) -> Iterator[Figure]:
    """All that is reported of a method."""
    suffixes = _bases(config) if outcome.method == OURS else {str(config.evaluation.baseline): ""}
    besides = {suffixes[name]: base for name, base in bases.items() if name in suffixes and base is not outcome}
    ks, owner = sorted(set(config.evaluation.ks)), test.owner
    sampled, full = protocol.sampled_name(config), protocol.full_name(config)
    everybody = np.ones(len(owner), bool)
    for name, place in ((sampled, _sampled), (full, _full)):
        beside = {suffix: place(base) for suffix, base in besides.items()}
        yield from _at_k(name, place(outcome), beside, (ks, tuple(AT_K)), (owner, everybody))
    users = test.asked_users
    each = metrics.auc(_sampled(outcome))
    yield sampled, "auc", 0, metrics.mean(each, owner), users
    yield sampled, "auc_pooled", 0, partial(metrics.pooled_auc, outcome.target, outcome.negatives, owner), users
    for k in ks:
        bias = metrics.popularity_bias(outcome.lists[:, :k], test.targets, popularity)
        yield full, "popularity_bias", k, metrics.mean(bias, owner), users
    beside = {suffix: base.full for suffix, base in besides.items() if not suffix}
    sliced = slices.of(test, popularity) if config.evaluation.slices else {}
    for name, chosen in sliced.items():
        yield from _at_k(f"{full}/{name}", outcome.full, beside, (ks[-1:], COMPARED), (owner, chosen))


def _at_k(
    name: str,
    ranks: Ranks,
    beside: Mapping[str, Ranks],
    asked: tuple[list[int], tuple],
    chosen: tuple[np.ndarray, np.ndarray],
) -> Iterator[Figure]:
    """Metrics at k, and ratios to those of the ranks `beside`, by what their names end with, of the questions of a
    slice: their users, and which."""
    (ks, names), (owner, mask) = asked, chosen
    users = len(np.unique(owner[mask]))
    for k in ks:
        for metric in names:
            own = metrics.mean(AT_K[metric](ranks, k), owner, mask)
            yield name, metric, k, own, users
            for suffix, others in beside.items() if metric in COMPARED else ():
                other = metrics.mean(AT_K[metric](others, k), owner, mask)
                yield name, f"ratio_{metric}{suffix}", k, metrics.ratio(own, other), users


def _bases(config: Config) -> dict[str, str]:
    """Methods that others are compared with, and how the names of those ratios end."""
    return {FUSION: f"_{FUSION}", config.evaluation.baseline: ""}


def _sampled(outcome: Outcome) -> Ranks:
    return metrics.ranks(outcome.target, outcome.negatives)


def _full(outcome: Outcome) -> Ranks:
    return outcome.full


def _coverage(config: Config, outcome: Outcome, test: TestSet) -> Iterator[dict]:
    """Coverage is of all lists together, and fewer users would cover less: no resample says how sure it is."""
    for k in sorted(set(config.evaluation.ks)):
        value = metrics.coverage(outcome.lists[:, :k], len(test.items))
        row = {"protocol": protocol.full_name(config), "metric": "coverage", "k": k, "value": value}
        yield row | {"low": None, "high": None, "users": test.asked_users}
