"""All pieces by name, in their order, and their values for a batch."""

from collections.abc import Callable

import numpy as np

from mmsrarec.collaborative.pieces import content, counts, sequence
from mmsrarec.collaborative.pieces.asked import Asked
from mmsrarec.collaborative.pieces.context import Context

Piece = Callable[[Context, Asked], np.ndarray]

PIECES: dict[str, Piece] = {
    "sasrec": sequence.log_probability,
    "sasrec_gap": sequence.gap,
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
}


def values(context: Context, asked: Asked) -> np.ndarray:
    """float32 [users, width, pieces]; NaN where a piece knows nothing of a pair, and at NOBODY."""
    found = np.stack([piece(context, asked) for piece in PIECES.values()], axis=-1).astype(np.float32)
    found[~asked.valid] = np.nan
    return found
