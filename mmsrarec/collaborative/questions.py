"""Evidence about whole pools, for whoever learns from it or is measured by it. A question is a user, the history before
an item, and that item; a user may be asked several."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from mmsrarec.collaborative import fusion_learning as learning
from mmsrarec.collaborative import matrices
from mmsrarec.collaborative.pieces.asked import Asked
from mmsrarec.collaborative.retrieve import Retriever


def pools(retriever: Retriever, users: pa.Table, targets: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Evidence [questions, width, pieces] of all pools, and the place of each target in its pool, -1 where it is not;
    users [user_id, item_ids]."""
    preranker, wanted = retriever.preranker, matrices.codes(targets, retriever.items)
    found: dict[int, tuple[np.ndarray, int]] = {}
    for rows, asked in each(retriever, users):
        places = learning.answers(asked.pool, wanted[rows])
        found |= dict(zip(rows.tolist(), zip(preranker.values(asked), places.tolist(), strict=True), strict=True))
    values = stacked([found[row][0] for row in range(len(users))])
    return values, np.array([found[row][1] for row in range(len(users))], np.int64)


def each(retriever: Retriever, users: pa.Table) -> Iterator[tuple[np.ndarray, Asked]]:
    """The questions in batches, their numbers and their pools; nobody is twice in a batch."""
    preranker = retriever.preranker
    for turn in turns(users):
        part, start = users.take(turn), 0
        similar = retriever.similar_users(part)
        for batch in retriever.batches(part, similar):
            asked, _ = preranker.pools(batch)
            yield turn[start : start + len(asked.pool)], asked
            start += len(asked.pool)


def turns(users: pa.Table) -> Iterator[np.ndarray]:
    """Numbers of the rows of everybody's first question, then of everybody's second, and so on."""
    names = users["user_id"].combine_chunks().dictionary_encode().indices.to_numpy()
    order = np.argsort(names, kind="stable")
    counts = np.bincount(names)
    turn = np.empty(len(names), np.int64)
    turn[order] = np.arange(len(names)) - np.repeat(np.cumsum(counts) - counts, counts)
    for number in range(turn.max(initial=-1) + 1):
        yield np.flatnonzero(turn == number)


def stacked(parts: list[np.ndarray]) -> np.ndarray:
    """Evidence [width, pieces] of questions as [questions, width, pieces], NaN where a pool is shorter."""
    width = max(len(part) for part in parts)
    found = np.full((len(parts), width, parts[0].shape[1]), np.nan, np.float32)
    for row, part in enumerate(parts):
        found[row, : len(part)] = part
    return found
