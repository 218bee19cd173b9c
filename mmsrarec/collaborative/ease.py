"""EASE (Steck 2019): the linear item-item model without a diagonal, in closed form."""

import hashlib
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakValueDictionary

import numpy as np
from scipy import sparse
from scipy.linalg import lapack

from mmsrarec.errors import InputError

BLOCK = 1024
_in_use: WeakValueDictionary[str, np.ndarray] = WeakValueDictionary()
_kept: list[deque[np.ndarray]] = []  # of each `kept` that is entered


def weights(together: sparse.csr_array, penalty: float) -> np.ndarray:
    """float32 [items, items] from `together` [items, items], the users who took both; InputError where the penalty is
    too small for an inverse. Time is cubic; memory this matrix (19,220 items: 1.5 GB) and, for a moment, as much. Not
    to be written to: while anybody uses it, whoever asks for the same is given the same."""
    arrays = together.indptr, together.indices, together.data
    name = hashlib.sha256(b"".join([*(each.tobytes() for each in arrays), repr(penalty).encode()])).hexdigest()
    if (found := _in_use.get(name)) is None:
        found = _in_use[name] = _solved(together, penalty)
        found.flags.writeable = False
    for held in _kept:
        if not any(found is other for other in held):
            held.append(found)
    return found


@contextmanager
def kept() -> Iterator[None]:
    """Within it the last two stay in memory, for a run whose stages ask for the same again and again, of one lake or,
    in an evaluation, of two."""
    _kept.append(deque(maxlen=2))
    try:
        yield
    finally:
        _kept.pop()


def _solved(together: sparse.csr_array, penalty: float) -> np.ndarray:
    gram = np.asfortranarray(together.toarray(), np.float32)
    gram[np.diag_indices_from(gram)] += penalty
    factor, failed = lapack.spotrf(gram, lower=1, clean=0, overwrite_a=1)
    inverse, failed_too = lapack.spotri(factor, lower=1, overwrite_c=1)
    if failed or failed_too:
        raise InputError(
            f"EASE: the items' matrix has no inverse with the penalty {penalty:g}; raise retrieve.fusion.ease_penalty, "
            "or leave ease out of evaluation.methods"
        )
    for part in _blocks(len(inverse)):
        corner = np.tril(inverse[part, part])
        inverse[part, part] = corner + np.tril(corner, -1).T
        inverse[part, part.stop :] = inverse[part.stop :, part].T
    inverse = inverse.T  # the same, for it is symmetric, but laid out in rows: products copy nothing
    inverse /= -np.diag(inverse)
    inverse[np.diag_indices_from(inverse)] = 0
    return inverse


def _blocks(length: int) -> Iterator[slice]:
    for start in range(0, length, BLOCK):
        yield slice(start, min(start + BLOCK, length))
