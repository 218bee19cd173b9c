"""All pieces by name, in their order, and their values for a batch."""

from collections.abc import Callable, Iterable
from functools import partial

import numpy as np

from mmsrarec.collaborative.pieces import content, counts, related, sequence
from mmsrarec.collaborative.pieces.asked import MAIN, Asked
from mmsrarec.collaborative.pieces.context import Context

Piece = Callable[[Context, Asked], np.ndarray]

_OF_ITEMS: dict[str, Piece] = {
    "follows": counts.follows,
    "together": counts.together,
    "linear": counts.linear,
    "similar_users": counts.similar_users,
    "recency": counts.recency,
    "popularity": counts.popularity,
    "recent": counts.recent,
    "text_mean": lambda context, asked: content.mean(context.text, context, asked),
    "text_last": lambda context, asked: content.last(context.text, context, asked),
    "text_best": lambda context, asked: content.best(context.text, context, asked),
    "meaning_mean": lambda context, asked: content.mean(context.meaning, context, asked),
    "meaning_last": lambda context, asked: content.last(context.meaning, context, asked),
    "meaning_best": lambda context, asked: content.best(context.meaning, context, asked),
    "keywords": lambda context, asked: content.mean(context.keywords, context, asked),
    "similar_keywords": lambda context, asked: content.others(context.keywords, context, asked),
    "vector_last": lambda context, asked: content.last(context.directions, context, asked),
    "vector_best": lambda context, asked: content.best(context.directions, context, asked),
}
_RELATED: dict[str, Piece] = {
    f"{name}_{said}": partial(piece, name)
    for name in related.NAMES
    for said, piece in (("latest", counts.latest_related), ("taken", counts.taken_related))
}


def pieces(others: Iterable[str] = ()) -> dict[str, Piece]:
    """What each piece is, with `others` the networks that speak beside the main one."""
    found: dict[str, Piece] = {}
    for name in (MAIN, *others):
        found[name] = partial(_of_network, sequence.log_probability, name)
        found[f"{name}_gap"] = partial(_of_network, sequence.gap, name)
    return found | _OF_ITEMS | _RELATED


def values(context: Context, asked: Asked) -> np.ndarray:
    """float32 [users, width, pieces] of the networks of the context; NaN where a piece knows nothing of a pair, and at
    NOBODY."""
    _, *others = context.networks
    found = np.stack([piece(context, asked) for piece in pieces(others).values()], axis=-1).astype(np.float32)
    found[~asked.valid] = np.nan
    return found


def _of_network(piece: Callable[[str, Asked], np.ndarray], name: str, context: Context, asked: Asked) -> np.ndarray:
    return piece(name, asked)
