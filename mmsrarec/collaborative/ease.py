"""EASE (Steck 2019): the linear item-item model without a diagonal, in closed form."""

from collections.abc import Iterator

import numpy as np
from scipy import sparse
from scipy.linalg import lapack

from mmsrarec.errors import InputError

BLOCK = 1024


def weights(together: sparse.csr_array, penalty: float) -> np.ndarray:
    """float32 [items, items] from `together` [items, items], the users who took both; InputError where the penalty is
    too small for an inverse. Time is cubic; memory this matrix (19,220 items: 1.5 GB) and, for a moment, as much."""
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
