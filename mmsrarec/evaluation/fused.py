"""The linear fusion and gradient boosting over the same evidence, as rows of the evaluation: the pre-ranker by itself.

Both learn from validation questions in the lake that knows none of the test questions (lakes.py), over whole pools, and
order the pools of the test questions. Full: a target outside its pool is a miss. Sampled: the target and the negatives
stand in the pool beside what it names, so that each is scored whether it would be named or not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import pyarrow as pa

from mmsrarec.collaborative import fusion, matrices, questions
from mmsrarec.collaborative import fusion_learning as learning
from mmsrarec.collaborative.pieces.asked import NOBODY
from mmsrarec.collaborative.retrieve import Retriever
from mmsrarec.evaluation import boosting
from mmsrarec.evaluation.metrics import ranks
from mmsrarec.evaluation.outcome import Outcome, top
from mmsrarec.evaluation.protocol import TestSet


class Model(Protocol):
    def score(self, values: np.ndarray) -> np.ndarray:
        """[questions, width] of evidence [questions, width, pieces]."""


@dataclass(frozen=True)
class Evidence:
    """About the test questions: values [questions, width + 1 + negatives, pieces] of the pools, the targets and the
    negatives; pools [questions, width], columns of the catalog, -1 where one is shorter."""

    values: np.ndarray
    pools: np.ndarray


def lessons(retriever: Retriever, validation: TestSet) -> tuple[np.ndarray, np.ndarray]:
    """Evidence [questions, width, pieces] of the validation questions' pools, and the places of the targets, -1 where a
    pool has not its target."""
    if not len(validation.users):
        return np.zeros((0, 0, 0)), np.zeros(0, np.int64)
    with retriever:
        return questions.pools(
            retriever, validation.users, pa.array(validation.items).take(pa.array(validation.targets))
        )


def learned(
    pieces: Sequence[str], values: np.ndarray, places: np.ndarray, seed: int, fewest: int
) -> tuple[Mapping[str, Model], dict]:
    """The models by method from `lessons`, and what is to be told of them. With fewer than `fewest` questions whose
    target is in its pool the fusion has fixed weights, and there are no trees."""
    in_pool = int((places >= 0).sum())
    facts = {"asked": len(places), "in_pool": in_pool}
    if in_pool < fewest:
        return {"fusion": fusion.fixed(pieces)}, facts | {"learned": False}
    linear = learning.fit(pieces, values, places, seed)
    return {"fusion": linear, "boosting": boosting.fit(linear, values, places, seed)}, facts | linear.facts


def evidence(retriever: Retriever, test: TestSet) -> Evidence:
    """Of every test question, made once for all models."""
    catalog = matrices.codes(pa.array(test.items), retriever.items)  # of the test's columns
    column = matrices.codes(retriever.items, pa.array(test.items))
    pairs = np.concatenate([test.targets[:, None], test.negatives], axis=1)
    asked_about = np.where(pairs >= 0, catalog[pairs], NOBODY)
    values: list[np.ndarray] = [np.empty(0)] * len(test.users)
    pools: list[np.ndarray] = [np.empty(0)] * len(test.users)
    with retriever:
        for rows, asked in questions.each(retriever, test.users):
            wide = replace(asked, pool=np.concatenate([asked.pool, asked_about[rows]], axis=1))
            found = retriever.preranker.values(wide)
            for row, piece, pool in zip(rows, found, asked.pool, strict=True):
                values[row], pools[row] = piece, pool
    width = max(len(pool) for pool in pools)
    made = np.full((len(pools), width + pairs.shape[1], values[0].shape[1]), np.nan, np.float32)
    named = np.full((len(pools), width), -1)
    for row, (piece, pool) in enumerate(zip(values, pools, strict=True)):
        made[row, : len(pool)], made[row, width:] = piece[: len(pool)], piece[len(pool) :]
        named[row, : len(pool)] = np.where(pool == NOBODY, -1, column[pool])
    return Evidence(made, named)


def outcome(method: str, model: Model, known: Evidence, test: TestSet, listed: int) -> Outcome:
    """How a model of the evidence answers the test questions."""
    width = known.pools.shape[1]
    scores = np.array(model.score(known.values[:, :width]), float)
    scores[known.pools < 0] = np.nan
    sampled = _sampled(model, known, test)
    lists = top(scores, min(listed, width))
    lists = np.where(lists >= 0, np.take_along_axis(known.pools, np.maximum(lists, 0), axis=1), -1)
    rows, places = np.arange(len(scores)), learning.answers(known.pools, test.targets)
    target = np.where(places >= 0, scores[rows, places], np.nan)
    scores[rows[places >= 0], places[places >= 0]] = np.nan
    full = ranks(target, scores)
    return Outcome(method, 0.0, sampled[:, 0], sampled[:, 1:], full, lists)


def _sampled(model: Model, known: Evidence, test: TestSet) -> np.ndarray:
    """Scores [questions, 1 + negatives] of the targets and negatives; one that its pool names too is there once."""
    width = known.pools.shape[1]
    pairs = np.concatenate([test.targets[:, None], test.negatives], axis=1)
    values = known.values.copy()
    values[:, :width][(known.pools[:, :, None] == pairs[:, None, :]).any(axis=2)] = np.nan
    return np.where(pairs >= 0, model.score(values)[:, width:], np.nan)
