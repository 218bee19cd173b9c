"""How near a candidate's text and keywords are to those of the history: its mean, its last item, the best of its last.

`text` and `keywords` compare words (TF-IDF), `meaning` what words stand for (their vectors by SVD).
"""

import re
from typing import TypeAlias

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import svds

from mmsrarec.collaborative import matrices
from mmsrarec.collaborative.content import unit, weighted
from mmsrarec.collaborative.embed import unit as unit_vectors
from mmsrarec.collaborative.pieces.asked import NOBODY, Asked
from mmsrarec.collaborative.pieces.context import Context

DIMENSIONS = 64
WORD = re.compile(r"\w+")
Rows: TypeAlias = "sparse.csr_array | np.ndarray"


def text_rows(texts: list[str | None]) -> sparse.csr_array:
    """TF-IDF of words and pairs of neighboring words."""
    return weighted([_terms(text or "") for text in texts])


def meaning_vectors(rows: sparse.csr_array, seed: int) -> np.ndarray:
    """Vectors of length 1 [items, dimensions] by SVD of TF-IDF rows; fewer dimensions where there is little text."""
    count = min(DIMENSIONS, min(rows.shape) - 1)
    if count < 1 or not rows.nnz:
        return np.zeros((rows.shape[0], 1), np.float32)
    start = np.random.default_rng(seed).normal(size=min(rows.shape))
    left, singular, _ = svds(rows.astype(np.float64), k=count, v0=start)
    return unit_vectors((left * singular).round(6)).astype(np.float32)


def mean(rows: Rows, context: Context, asked: Asked) -> np.ndarray:
    """Cosine with the mean of the latest items, older ones counting less."""
    profile = matrices.latest(asked.histories, context.items) @ rows
    return _near(rows, unit_vectors(profile) if isinstance(profile, np.ndarray) else unit(profile), asked)


def last(rows: Rows, context: Context, asked: Asked) -> np.ndarray:
    """Cosine with the last item."""
    return _near(rows, _taken(rows, asked.last()), asked)


def best(rows: Rows, context: Context, asked: Asked) -> np.ndarray:
    """The highest cosine with one of the latest items."""
    found = np.zeros(asked.pool.shape, np.float32)
    for age in range(matrices.LATEST_ITEMS):
        found = np.maximum(found, _near(rows, _taken(rows, asked.last(age)), asked))
    return found


def others(rows: sparse.csr_array, context: Context, asked: Asked) -> np.ndarray:
    """Cosine with the mean of what similar users took next."""
    return _near(rows, unit(asked.votes @ rows), asked)


def _taken(rows: Rows, codes: np.ndarray) -> Rows:
    """Rows of the codes, zero at NOBODY."""
    known = (codes != NOBODY).astype(np.float32)
    chosen = rows[np.where(codes == NOBODY, 0, codes)]
    return chosen * known[:, None] if isinstance(chosen, np.ndarray) else sparse.diags_array(known).tocsr() @ chosen


def _near(rows: Rows, profiles: Rows, asked: Asked) -> np.ndarray:
    """Dot product of each user's profile with the rows of its pool, 0 at NOBODY."""
    user, codes = np.nonzero(asked.valid)[0], asked.pool[asked.valid]
    found = np.zeros(asked.pool.shape, np.float32)
    if isinstance(rows, np.ndarray):
        found[asked.valid] = np.einsum("pd,pd->p", rows[codes], profiles[user])
        return found
    profiles.sort_indices()
    chosen = rows[codes]
    lengths = np.diff(chosen.indptr)
    products = chosen.data * matrices.cells(profiles, np.repeat(user, lengths), chosen.indices)
    found[asked.valid] = np.bincount(np.repeat(np.arange(len(codes)), lengths), products, len(codes))
    return found


def _terms(text: str) -> list[str]:
    words = WORD.findall(text.lower())
    return list(dict.fromkeys([*words, *(f"{one} {two}" for one, two in zip(words, words[1:], strict=False))]))
