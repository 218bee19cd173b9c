"""What counts say of a candidate: taken together, taken after, EASE, popularity, the clock, similar users."""

import numpy as np
from scipy import sparse

from mmsrarec.collaborative import matrices
from mmsrarec.collaborative.embed import Sequences
from mmsrarec.collaborative.pieces.asked import NOBODY, Asked
from mmsrarec.collaborative.pieces.context import Context
from mmsrarec.collaborative.pieces.counting import taken


def follows(context: Context, asked: Asked) -> np.ndarray:
    """Transitions from the latest items, older ones counting less."""
    return asked.cells(matrices.latest(asked.histories, context.items) @ context.follows)


def latest_related(name: str, context: Context, asked: Asked) -> np.ndarray:
    """What a matrix of related.py says of the latest items, older ones counting less."""
    return asked.cells(matrices.latest(asked.histories, context.items) @ context.related[name])


def taken_related(name: str, context: Context, asked: Asked) -> np.ndarray:
    """What it says of everything taken."""
    return asked.cells(taken(asked.histories, context.items) @ context.related[name])


def together(context: Context, asked: Asked) -> np.ndarray:
    """Mean co-occurrence cosine with the items of the history."""
    sums = asked.cells(taken(asked.histories, context.items) @ context.together)
    return sums / np.maximum(asked.histories.lengths, 1)[:, None]


def linear(context: Context, asked: Asked) -> np.ndarray:
    """EASE's score; above its limit, co-occurrence with the latest items."""
    scores = linear_scores(context, asked.histories)
    if isinstance(scores, np.ndarray):
        return asked.gathered(scores)
    return asked.cells(scores)


def linear_scores(context: Context, histories: Sequences) -> np.ndarray | sparse.csr_array:
    """The same for all items [users, items], dense for EASE."""
    if context.linear is None:
        return (matrices.latest(histories, context.items) @ context.together).tocsr()
    return taken(histories, context.items) @ context.linear


def similar_users(context: Context, asked: Asked) -> np.ndarray:
    """Summed similarities of the similar users who took it next."""
    return asked.cells(asked.votes)


def recency(context: Context, asked: Asked) -> np.ndarray:
    """How much later the candidate's takers are than those of the user's last item, from -1 to 1."""
    last = asked.last()
    return np.where((last != NOBODY)[:, None], asked.of_item(context.clock) - context.clock[last][:, None], np.nan)


def popularity(context: Context, asked: Asked) -> np.ndarray:
    return asked.of_item(np.log1p(context.popularity))


def recent(context: Context, asked: Asked) -> np.ndarray:
    """Popularity of late."""
    return asked.of_item(np.log1p(context.recent))
