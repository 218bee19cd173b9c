"""What a sequence network says of a candidate: its log-probability, and how far it is from the user's tenth best."""

import numpy as np

from mmsrarec.collaborative.pieces.asked import Asked

PLACE = 10


def log_probability(network: str, asked: Asked) -> np.ndarray:
    """Among all items that the user has not seen."""
    logits = asked.logits[network]
    highest = np.max(logits, axis=1, keepdims=True)
    highest = np.where(np.isfinite(highest), highest, 0)
    total = np.exp(logits - highest).sum(axis=1, keepdims=True)
    return _finite(asked, asked.gathered(logits) - highest - np.log(np.maximum(total, 1e-30)))


def gap(network: str, asked: Asked) -> np.ndarray:
    """The logit less that of the user's tenth best."""
    logits = asked.logits[network]
    place = max(logits.shape[1] - PLACE, 0)
    tenth = np.partition(logits, place, axis=1)[:, place]
    return _finite(asked, asked.gathered(logits) - np.where(np.isfinite(tenth), tenth, 0)[:, None])


def _finite(asked: Asked, values: np.ndarray) -> np.ndarray:
    return np.where(asked.valid & np.isfinite(values), values, np.nan).astype(np.float32)
