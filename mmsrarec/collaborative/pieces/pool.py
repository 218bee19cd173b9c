"""The pool of each user: the union of what several sources name, each the best of its own that the user may get."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse

from mmsrarec.collaborative import matrices
from mmsrarec.collaborative.content import unit
from mmsrarec.collaborative.embed import Sequences
from mmsrarec.collaborative.pieces.asked import MAIN, NOBODY, Asked
from mmsrarec.collaborative.pieces.context import Context
from mmsrarec.collaborative.pieces.counts import linear_scores


@dataclass(frozen=True)
class Batch:
    """Users: their histories, by network their states [users, dim], and the votes of similar users [users, items]."""

    histories: Sequences
    states: Mapping[str, np.ndarray]
    votes: sparse.csr_array


def ask(context: Context, batch: Batch, free: np.ndarray, sizes: Mapping[str, int]) -> tuple[Asked, np.ndarray]:
    """The batch with its pools, and which source [users, width] named each item first, by its place in `sizes`.

    `free` [items]: what may be named at all; what a user has seen never is. `sizes` says how many items a source may
    name: sasrec, linear, follows, text, similar_users, keywords, and new (the nearest in text that nobody has taken).
    """
    open_to = np.broadcast_to(free, (len(batch.histories), context.items)).copy()
    open_to[batch.histories.rows, batch.histories.codes] = False
    logits = expected(context, batch)
    scored = _scores(context, batch, logits[MAIN], sizes)
    lists = [_best(scores, open_to, sizes[name]) for name, scores in scored.items()]
    pool, source = _united(lists)
    return Asked(batch.histories, logits, batch.votes, pool), source


def about(context: Context, batch: Batch, users: np.ndarray, items: np.ndarray) -> tuple[Asked, np.ndarray]:
    """The batch asked about given pairs (its row, item code), and the place of each pair in the pool of its user."""
    order = np.argsort(users, kind="stable")
    counts = np.bincount(users, minlength=len(batch.histories))
    places = np.empty(len(users), np.int64)
    places[order] = np.arange(len(users)) - np.repeat(np.cumsum(counts) - counts, counts)
    pool = np.full((len(batch.histories), max(counts.max(initial=0), 1)), NOBODY)
    pool[users, places] = items
    return Asked(batch.histories, expected(context, batch), batch.votes, pool), places


def expected(context: Context, batch: Batch) -> dict[str, np.ndarray]:
    """The logits [users, items] as Asked has them."""
    found = {}
    for name, vectors in context.networks.items():
        logits = batch.states[name] @ vectors.T
        logits[:, ~context.known[name]] = -np.inf
        logits[~batch.states[name].any(axis=1)] = -np.inf
        logits[batch.histories.rows, batch.histories.codes] = -np.inf
        found[name] = logits
    return found


def _scores(context: Context, batch: Batch, logits: np.ndarray, sizes: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Dense [users, items] per source in the order of `sizes`; what a source knows nothing of is 0 or less, or -inf."""
    latest = matrices.latest(batch.histories, context.items)
    near = (unit(latest @ context.text) @ context.text_columns).toarray()
    makers = {
        "sasrec": lambda: logits - np.where(np.isfinite(logits), logits, np.inf).min(axis=1, keepdims=True) + 1,
        "linear": lambda: _dense(linear_scores(context, batch.histories)),
        "follows": lambda: (latest @ context.follows).toarray(),
        "text": lambda: near,
        "similar_users": lambda: batch.votes.toarray(),
        "keywords": lambda: (unit(latest @ context.keywords) @ context.keywords_columns).toarray(),
        "new": lambda: np.where(context.popularity == 0, near, 0),
    }
    return {name: makers[name]() for name in sizes}


def _dense(scores: np.ndarray | sparse.csr_array) -> np.ndarray:
    return scores if isinstance(scores, np.ndarray) else scores.toarray()


def _best(scores: np.ndarray, open_to: np.ndarray, count: int) -> np.ndarray:
    """Codes [users, count] of the highest scores above 0 among what is open, the best first, NOBODY to the right."""
    count = min(count, scores.shape[1])
    if not count:
        return np.zeros((len(scores), 0), np.int64)
    # Of equal scores at the end any may be taken, always the same ones. numpy's partition is slow where many are equal.
    values, found = torch.topk(torch.from_numpy(np.where(open_to & (scores > 0), scores, -np.inf)), count, dim=1)
    codes, order = found.sort(dim=1)
    values = values.gather(1, order)
    order = torch.argsort(values, dim=1, descending=True, stable=True)
    values, codes = values.gather(1, order), codes.gather(1, order)
    return torch.where(values > 0, codes, NOBODY).numpy()


def _united(lists: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """All lists beside each other, each item where it stands first, and the number of that list."""
    codes = np.concatenate(lists, axis=1)
    source = np.repeat(np.arange(len(lists)), [part.shape[1] for part in lists])
    order = np.argsort(codes, axis=1, kind="stable")
    line = np.take_along_axis(codes, order, axis=1)
    again = np.zeros(codes.shape, bool)
    again[:, 1:] = line[:, 1:] == line[:, :-1]
    repeated = np.zeros(codes.shape, bool)
    np.put_along_axis(repeated, order, again, axis=1)
    gone = repeated | (codes == NOBODY)
    left = np.argsort(gone, axis=1, kind="stable")[:, : max(int((~gone).sum(axis=1).max(initial=0)), 1)]
    pool = np.take_along_axis(np.where(gone, NOBODY, codes), left, axis=1)
    return pool, np.take_along_axis(np.broadcast_to(source, codes.shape), left, axis=1)
