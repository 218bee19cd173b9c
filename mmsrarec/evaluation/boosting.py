"""Gradient boosting over the same evidence as the fusion, on the fusion's best of each pool: what a model that is not
linear would make of it. The trees start from the fusion's score and learn what to add. A baseline of the evaluation;
the night does not use it.
"""

from typing import TYPE_CHECKING

import numpy as np

from mmsrarec.collaborative.fusion import Fusion, nobody
from mmsrarec.collaborative.pieces.asked import ranks
from mmsrarec.errors import ConfigError

if TYPE_CHECKING:
    import lightgbm

DEPTH = 100  # of the fusion's list that it orders anew; what is below keeps its order
ROUNDS = 300
SETTINGS = {
    "objective": "lambdarank",
    "lambdarank_truncation_level": 20,
    "learning_rate": 0.02,
    "num_leaves": 15,
    "min_data_in_leaf": 200,
    "feature_fraction": 0.7,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 5.0,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}


class Boosting:
    """Fitted trees behind a fusion."""

    def __init__(self, fusion: Fusion, trees: "lightgbm.Booster"):
        self._fusion, self._trees = fusion, trees

    def score(self, values: np.ndarray) -> np.ndarray:
        """[users, width] of values [users, width, pieces]: the trees order the fusion's best, the fusion the rest."""
        prior = self._fusion.score(values).astype(float)
        chosen = _best(prior)
        rows = np.broadcast_to(np.arange(len(chosen))[:, None], chosen.shape)
        # What is chosen without an item stays at -inf; every other chosen one comes before what is not.
        found = np.where(np.isfinite(prior), -1e6 + prior, -np.inf)
        known = np.isfinite(prior[rows, chosen])
        table = columns(values, prior)[rows, chosen]
        more = self._trees.predict(table[known], raw_score=True, num_threads=1)
        found[rows[known], chosen[known]] = prior[rows[known], chosen[known]] + more
        return found


def fit(fusion: Fusion, values: np.ndarray, answered: np.ndarray, seed: int, rounds: int = ROUNDS) -> Boosting:
    """From the fusion's own questions: values [questions, width, pieces], and the place of what was taken, -1: none."""
    try:
        import lightgbm  # a library of the system may be missing that nobody else needs
    except OSError as error:
        raise ConfigError(
            f"lightgbm: {error}; install it (Debian: libgomp1) or leave boosting out of the methods"
        ) from None
    values, answered = values[answered >= 0], answered[answered >= 0]
    prior = fusion.score(values)
    chosen = _best(prior)
    labels = (chosen == answered[:, None]) & ~nobody(values)[np.arange(len(chosen))[:, None], chosen]
    used = labels.any(axis=1)
    rows = np.broadcast_to(np.flatnonzero(used)[:, None], chosen[used].shape)
    kept = np.isfinite(prior[rows, chosen[used]])
    table = columns(values, prior)[rows, chosen[used]][kept]
    start = prior[rows, chosen[used]][kept]
    data = lightgbm.Dataset(table, labels[used][kept].astype(int), group=kept.sum(axis=1), init_score=start)
    return Boosting(fusion, lightgbm.train(SETTINGS | {"seed": seed}, data, rounds))


def columns(values: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """The pieces, their ranks within the pool and the fusion's score, [users, width, columns]."""
    placed = [ranks(values[:, :, number]) for number in range(values.shape[2])]
    finite = np.where(np.isfinite(prior), prior, np.nan)
    return np.concatenate([values, np.stack(placed, axis=-1), finite[:, :, None]], axis=-1)


def _best(prior: np.ndarray) -> np.ndarray:
    """Places [users, DEPTH] of the highest priors of each pool."""
    return np.argsort(-prior, axis=1, kind="stable")[:, :DEPTH]
