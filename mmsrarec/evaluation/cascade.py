"""MMSRARec under the protocols: the product's own path, retrieval and then the MLLM, from histories without the target.

Sampled: the MLLM scores the target and the negatives. Full: retrieval names the candidates, the MLLM orders them, and a
target that retrieval did not name is a miss, however the rest would have been ordered. All pairs of both go to the
engine in one call, and its answers stay in `answers`, so a second evaluation asks for nothing.
"""

import time

import numpy as np
import pyarrow as pa

from mmsrarec.collaborative.retrieve import Retriever
from mmsrarec.config import Config
from mmsrarec.evaluation.metrics import MISS, Ranks
from mmsrarec.evaluation.protocol import Outcome, TestSet
from mmsrarec.recommendation.scoring import score
from mmsrarec.storage import tables
from mmsrarec.storage.runs import Stage

METHOD = "mmsrarec"
Pairs = dict[str, list[str]]  # items by user_id


def run(config: Config, stage: Stage, retriever: Retriever, test: TestSet) -> Outcome:
    """Ask MMSRARec. A pair that the engine refused stands last; scoring has put it among the rejects."""
    started = time.monotonic()
    similar = retriever.similar_users(test.users)
    candidates = _by_user(retriever.candidates(test.users, similar))
    pairs = _pairs(test, candidates)
    evidence = retriever.evidence(test.users, pairs, similar)
    keywords = tables.read(config.lake.root, "item_keywords")
    answers = score(config, stage, test.users, similar, pairs, evidence, keywords)
    scores = {(row["user_id"], row["item_id"]): row["p_yes"] for row in answers.to_pylist()}
    target, negatives, full = _outcome(test, candidates, scores)
    stage.notes["candidate_recall"] = float(np.mean(full.above < MISS))
    return Outcome(METHOD, time.monotonic() - started, target, negatives, full)


def _by_user(candidates: pa.Table) -> Pairs:
    """Candidates of each user in the order of their rank."""
    items: Pairs = {}
    for row in candidates.sort_by([("user_id", "ascending"), ("rank", "ascending")]).to_pylist():
        items.setdefault(row["user_id"], []).append(row["item_id"])
    return items


def _sampled(test: TestSet, row: int) -> list[str]:
    """The target, then the negatives."""
    columns = [test.targets[row], *(column for column in test.negatives[row] if column >= 0)]
    return [test.items[column] for column in columns]


def _pairs(test: TestSet, candidates: Pairs) -> pa.Table:
    """Every (user, item) that either protocol needs, once, a user's pairs together."""
    rows = [
        (user, item)
        for row, user in enumerate(test.users["user_id"].to_pylist())
        for item in dict.fromkeys([*_sampled(test, row), *candidates.get(user, [])])
    ]
    users, items = zip(*rows, strict=True)
    return pa.table({"user_id": users, "item_id": items})


def _outcome(test: TestSet, candidates: Pairs, scores: dict) -> tuple[np.ndarray, np.ndarray, Ranks]:
    """Targets' scores [users], negatives' [users, negatives], and the ranks within the candidates."""
    target = np.empty(len(test.targets))
    negatives = np.full(test.negatives.shape, np.nan)
    above, tied, others = (np.zeros(len(test.targets), np.int64) for _ in range(3))
    for row, user in enumerate(test.users["user_id"].to_pylist()):
        sampled = [_value(scores, user, item) for item in _sampled(test, row)]
        target[row], negatives[row, : len(sampled) - 1] = sampled[0], sampled[1:]
        named = candidates.get(user, [])
        own = test.items[test.targets[row]]
        beside = np.array([_value(scores, user, item) for item in named if item != own])
        above[row] = (beside > target[row]).sum() if own in named else MISS
        tied[row] = (beside == target[row]).sum()
        others[row] = len(test.items)
    return target, negatives, Ranks(above, tied, others)


def _value(scores: dict, user: str, item: str) -> float:
    value = scores.get((user, item))
    return -np.inf if value is None else value
