"""Asking a method that scores items, under both protocols at once, a batch of questions at a time.

A `Scorer` is a function: users [user_id, item_ids] -> scores [users, items], higher is better, -inf for an item that it
knows nothing of, NaN for one that it does not rank: a target there is a miss, and among the sampled negatives it stands
last.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from mmsrarec.evaluation.metrics import Ranks, ranks
from mmsrarec.evaluation.protocol import TestSet

CELLS = 8_000_000  # scores held at a time, questions x items
LISTED = 10

Scorer = Callable[[pa.Table], np.ndarray]


@dataclass(frozen=True)
class Outcome:
    """One method's scores of targets [questions] and negatives [questions, negatives] (NaN: padding), its full ranks,
    and the lists that it would make: int [questions, length], columns of the catalog, -1 where it has no more."""

    method: str
    seconds: float
    target: np.ndarray
    negatives: np.ndarray
    full: Ranks
    lists: np.ndarray


def run(method: str, scorer: Scorer, test: TestSet, listed: int = LISTED) -> Outcome:
    """Ask the method; its lists have `listed` items; 0 spares the time to make them."""
    started = time.monotonic()
    batch = max(1, CELLS // len(test.items))
    parts = [_rank(scorer, test, slice(first, first + batch), listed) for first in range(0, len(test.users), batch)]
    target, negatives, above, tied, others, lists = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Outcome(method, time.monotonic() - started, target, negatives, Ranks(above, tied, others), lists)


def _rank(scorer: Scorer, test: TestSet, batch: slice, listed: int) -> tuple[np.ndarray, ...]:
    """Of some questions: scores of targets and negatives, the fields of Ranks over the full catalog, and the lists."""
    users = test.users.slice(batch.start, batch.stop - batch.start)
    targets, negatives = test.targets[batch], test.negatives[batch]
    scores = np.array(scorer(users), float)
    rows = np.arange(len(users))
    target = scores[rows, targets]
    drawn = scores[rows[:, None], negatives]
    sampled = np.where(negatives >= 0, np.where(np.isnan(drawn), -np.inf, drawn), np.nan)
    first, last = test.seen.offsets[[batch.start, batch.start + len(users)]]
    lengths = test.seen.lengths[batch]
    scores[np.repeat(rows, lengths), test.seen.codes[first:last]] = np.nan
    scores[rows, targets] = np.nan
    full = ranks(target, scores)
    scores[rows, targets] = target
    lists = top(scores, min(listed, len(test.items)))
    return np.where(np.isnan(target), -np.inf, target), sampled, full.above, full.tied, full.others, lists


def top(scores: np.ndarray, count: int) -> np.ndarray:
    """Columns of the `count` highest scores of each row, best first; -1 where there are fewer that are numbers."""
    if not count:
        return np.empty((len(scores), 0), np.int64)
    negated = -scores  # so that NaN, which sorts last, comes last
    chosen = np.argpartition(negated, count - 1, axis=1)[:, :count]
    values = np.take_along_axis(negated, chosen, axis=1)
    order = np.argsort(values, axis=1, kind="stable")
    return np.where(np.isnan(values), -1, chosen)[np.arange(len(scores))[:, None], order]
