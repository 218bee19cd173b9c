"""How near a candidate's text and keywords are to those of the history: its mean, its last item, the best of its last.

`text` and `keywords` compare words (TF-IDF), `meaning` what words stand for (their vectors by SVD).
"""

import re
from typing import Any, TypeAlias

import numpy as np
from scipy import sparse

from mmsrarec.collaborative import matrices
from mmsrarec.collaborative.content import unit, weighted
from mmsrarec.collaborative.embed import unit as unit_vectors
from mmsrarec.collaborative.pieces.asked import NOBODY, Asked
from mmsrarec.collaborative.pieces.context import Context

CELLS = 8_000_000  # users x terms in memory at a time
WORD = re.compile(r"\w+")
Rows: TypeAlias = "sparse.csr_array | np.ndarray"


def text_rows(texts: list[str | None]) -> sparse.csr_array:
    """TF-IDF of words and pairs of neighboring words."""
    return weighted([_terms(text or "") for text in texts])


def mean(rows: Rows, context: Context, asked: Asked) -> np.ndarray:
    """Cosine with the mean of the latest items, older ones counting less."""
    profile = matrices.latest(asked.histories, context.items) @ rows
    return _near(rows, [unit_vectors(profile) if isinstance(profile, np.ndarray) else unit(profile)], asked)


def last(rows: Rows, context: Context, asked: Asked) -> np.ndarray:
    """Cosine with the last item."""
    return _near(rows, [_taken(rows, asked.last())], asked)


def best(rows: Rows, context: Context, asked: Asked) -> np.ndarray:
    """The highest cosine with one of the latest items, at least 0."""
    profiles = [_taken(rows, asked.last(age)) for age in range(matrices.LATEST_ITEMS)]
    return np.maximum(_near(rows, profiles, asked), 0)


def others(rows: sparse.csr_array, context: Context, asked: Asked) -> np.ndarray:
    """Cosine with the mean of what similar users took next."""
    return _near(rows, [unit(asked.votes @ rows)], asked)


def _taken(rows: Rows, codes: np.ndarray) -> Rows:
    """Rows of the codes, zero at NOBODY."""
    known = (codes != NOBODY).astype(np.float32)
    chosen = rows[np.where(codes == NOBODY, 0, codes)]
    return chosen * known[:, None] if isinstance(chosen, np.ndarray) else sparse.diags_array(known).tocsr() @ chosen


def _near(rows: Rows, profiles: list[Any], asked: Asked) -> np.ndarray:
    """The highest dot product of one of each user's profiles with the rows of its pool; 0 at NOBODY."""
    if isinstance(rows, np.ndarray):
        products = np.matmul(rows[np.where(asked.valid, asked.pool, 0)], np.stack(profiles, axis=2, dtype=rows.dtype))
        return np.where(asked.valid, products.max(axis=2), 0).astype(np.float32)
    found = np.zeros(asked.pool.shape, np.float32)
    step = max(1, CELLS // rows.shape[1])
    for start in range(0, len(found), step):
        part = slice(start, start + step)
        user, codes = np.nonzero(asked.valid[part])[0], asked.pool[part][asked.valid[part]]
        chosen = rows[codes]
        lengths = np.diff(chosen.indptr)
        pair, owner = np.repeat(np.arange(len(codes)), lengths), np.repeat(user, lengths)
        sums = [
            np.bincount(pair, chosen.data * profile[part].toarray()[owner, chosen.indices], len(codes))
            for profile in profiles
        ]
        found[part][asked.valid[part]] = np.max(sums, axis=0)
    return found


def _terms(text: str) -> list[str]:
    words = WORD.findall(text.lower())
    return list(dict.fromkeys([*words, *(f"{one} {two}" for one, two in zip(words, words[1:], strict=False))]))
