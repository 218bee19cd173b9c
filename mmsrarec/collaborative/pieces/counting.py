"""Counts over training histories for what build_cf does not count: the clock, what is popular of late; and, for
histories that are in no lake, co-occurrence and transitions as build_cf counts them. Pure; histories come as codes.
"""

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import cg

from mmsrarec.collaborative.embed import Sequences
from mmsrarec.collaborative.moments import timed
from mmsrarec.collaborative.pieces.context import quantiles

CHUNK_USERS = 65_536
RECENT = 0.1  # share of the interactions that are recent
CLOCK_PENALTY = 1.0


def taken(histories: Sequences, items: int) -> sparse.csr_array:
    """1 at [user, item] for what a user has taken."""
    cells = np.ones(len(histories.codes), np.float32), histories.codes, histories.offsets
    # A copy: what is summed in place must not be the histories' own arrays.
    matrix = sparse.csr_array(cells, shape=(len(histories), items), copy=True)
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix


def gram(histories: Sequences, items: int) -> sparse.csr_array:
    """[items, items]: users who took both, chunk by chunk."""
    total = sparse.csr_array((items, items), dtype=np.float32)
    for start in range(0, len(histories), CHUNK_USERS):
        rows = taken(part(histories, start, start + CHUNK_USERS), items)
        total = total + rows.T.tocsr() @ rows
    return total


def part(histories: Sequences, start: int, end: int) -> Sequences:
    """Rows start to end."""
    offsets = histories.offsets[start : min(end, len(histories)) + 1]
    return Sequences(histories.codes[offsets[0] : offsets[-1]], offsets - offsets[0])


def latest(histories: Sequences, most: int) -> Sequences:
    """Of each row the last `most` codes."""
    kept = np.minimum(histories.lengths, most)
    return Sequences(histories.codes[histories.ages < most], np.concatenate([[0], np.cumsum(kept)]))


def cosine(both: sparse.csr_array) -> sparse.csr_array:
    """Of a `gram`: users who took both over the root of the product of those who took each; 0 with itself."""
    counts = both.diagonal()
    inverse = sparse.diags_array(1 / np.sqrt(np.maximum(counts, 1))).tocsr()
    scaled = (inverse @ both @ inverse).tocsr()
    scaled = scaled - sparse.diags_array(scaled.diagonal())
    return _kept(scaled.tocsr())


def transitions(histories: Sequences, items: int, window: int, decay: float) -> sparse.csr_array:
    """[item, next item]: decay^(d - 1) for every pair at distance d, over all that comes after the item."""
    total = sparse.csr_array((items, items), dtype=np.float64)
    rows = histories.rows
    for distance in range(1, window + 1):
        same = rows[:-distance] == rows[distance:]
        before, after = histories.codes[:-distance][same], histories.codes[distance:][same]
        weights = np.full(len(before), decay ** (distance - 1))
        total = total + sparse.csr_array((weights, (before, after)), shape=(items, items))
    total = _kept(total - sparse.diags_array(total.diagonal()))
    return (sparse.diags_array(1 / np.maximum(total.sum(axis=1), 1e-12)).tocsr() @ total).tocsr()


def clock(histories: Sequences, times: np.ndarray | None, items: int) -> np.ndarray:
    """Where an item's takers are in time, from 0 to 1 by shares of the interactions; 0.5 where nobody took it.

    With `times` (microseconds, one per code of the histories) their mean. Without (None, or places in an order) the
    potential that comes nearest to a rise by one with every step of every history (HodgeRank, Jiang et al. 2011):
    what tends to come later in histories is later.
    """
    counts = np.bincount(histories.codes, minlength=items).astype(float)
    if timed(times):
        assert times is not None
        places = np.bincount(histories.codes, times, items) / np.maximum(counts, 1)
    else:
        places = _potential(histories, items)
    found = np.full(items, 0.5)
    found[counts > 0] = quantiles(places[counts > 0], counts[counts > 0])
    return found


def recent(histories: Sequences, times: np.ndarray | None, items: int) -> np.ndarray:
    """Interactions per item among the latest tenth; without times, among the last of each history."""
    if timed(times):
        assert times is not None
        late = times >= np.quantile(times, 1 - RECENT)
    else:
        late = np.zeros(len(histories.codes), bool)
        late[histories.offsets[1:][histories.lengths > 0] - 1] = True
    return np.bincount(histories.codes[late], minlength=items).astype(float)


def _potential(histories: Sequences, items: int) -> np.ndarray:
    same = histories.rows[:-1] == histories.rows[1:]
    before, after = histories.codes[:-1][same], histories.codes[1:][same]
    weights = np.ones(len(before))
    steps = sparse.csr_array((weights, (before, after)), shape=(items, items))
    both = steps + steps.T
    laplacian = sparse.diags_array(both.sum(axis=1) + CLOCK_PENALTY) - both
    rise = np.bincount(after, minlength=items) - np.bincount(before, minlength=items)
    solution, _ = cg(laplacian.tocsr(), rise.astype(float), rtol=1e-6, maxiter=500)
    return solution.round(6)


def _kept(matrix: sparse.csr_array) -> sparse.csr_array:
    matrix = matrix.tocsr()
    matrix.eliminate_zeros()
    matrix.sort_indices()
    return matrix
