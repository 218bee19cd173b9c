"""Baselines get the same care as our own: their parameters are those that do best on validation questions, which no
test user's figures depend on. The lake that is tuned on is that of the protocol (lakes.py)."""

from collections.abc import Callable
from dataclasses import dataclass

from mmsrarec.evaluation import item_item, metrics, outcome
from mmsrarec.evaluation.item_item import Learned, Training
from mmsrarec.evaluation.outcome import Scorer
from mmsrarec.evaluation.protocol import TestSet

TUNED_AT = 10  # NDCG at this k, full catalog
FEWEST_USERS = 50  # to tune on; with fewer the first parameters hold


@dataclass(frozen=True)
class Baseline:
    """How it learns, and the parameters that are tried: of learning, and decays of the history; first the default."""

    learn: Callable[[Training, float], Learned]
    learning: tuple[float, ...] = (0.0,)
    decays: tuple[float, ...] = (1.0,)


DECAYS = (0.8, 1.0, 0.9, 0.6, 0.3)
BASELINES = {
    "popularity": Baseline(item_item.popularity),
    "recent_popularity": Baseline(item_item.recent_popularity, (0.1, 0.02, 0.05, 0.3)),
    "item_knn": Baseline(item_item.item_knn, (10.0, 0.0, 3.0, 50.0, 200.0), DECAYS),
    "ease": Baseline(item_item.ease, (200.0, 50.0, 800.0), DECAYS),
    "tfidf": Baseline(item_item.tfidf, (0.0,), DECAYS),
}


def tuned(baseline: Baseline, data: Training, questions: TestSet) -> tuple[float, float]:
    """The parameter of learning and the decay with the best NDCG@10 on the questions, the earlier of equal ones."""
    if len(baseline.learning) * len(baseline.decays) == 1 or questions.asked_users < FEWEST_USERS:
        return baseline.learning[0], baseline.decays[0]
    best, chosen = -1.0, (baseline.learning[0], baseline.decays[0])
    for parameter in baseline.learning:
        learned = baseline.learn(data, parameter)
        for decay in baseline.decays:
            found = outcome.run("tuning", item_item.scorer(learned, data, decay), questions, 0)
            value = float(metrics.ndcg(found.full, TUNED_AT).mean())
            if value > best:
                best, chosen = value, (parameter, decay)
    return chosen


def scorer(baseline: Baseline, data: Training, parameters: tuple[float, float]) -> Scorer:
    """The baseline, learned with these parameters."""
    parameter, decay = parameters
    return item_item.scorer(baseline.learn(data, parameter), data, decay)
