"""Further matrices [items, items] that histories are multiplied with, each row cut to its highest values.

    user_cf   users who took both, each counting 1 / the length of its history, over the root of the items' takers:
              user-based collaborative filtering by cosine, summed the other way around
    rp3beta   the random walk item -> user -> item, popular ends counting less (Paudel et al. 2017)
    before    transitions backward: what the item tends to follow
    step      transitions to the very next item

Counts of training histories, whose latest items alone make pairs; so a history costs at most its length squared.
"""

from collections.abc import Iterator

import numpy as np
from scipy import sparse

from mmsrarec.collaborative.candidates import top
from mmsrarec.collaborative.embed import Sequences
from mmsrarec.collaborative.pieces.counting import latest, taken, transitions

NAMES = ("user_cf", "rp3beta", "before", "step")
BETA = 0.4
WORK = 20_000_000  # products in memory at a time


def related(
    histories: Sequences, follows: sparse.csr_array, max_history: int, most: int
) -> dict[str, sparse.csr_array]:
    """The matrices by NAMES; `follows` are the transitions of build_cf, `most` the values kept of a row."""
    items = follows.shape[0]
    users = taken(latest(histories, max_history), items)
    takers = np.maximum(users.sum(axis=0), 1)
    rows: dict[str, list[sparse.csr_array]] = {"user_cf": [], "rp3beta": []}
    for part, walks in _walks(users):
        rows["user_cf"].append(_scaled(walks, takers[part] ** -0.5, takers**-0.5, most))
        rows["rp3beta"].append(_scaled(walks, 1 / takers[part], takers**-BETA, most))
    joined = {name: sparse.vstack(parts, format="csr") for name, parts in rows.items()}
    steps = strongest(transitions(histories, items, 1, 1.0), most)
    return joined | {"before": follows.T.tocsr(), "step": steps.astype(np.float32)}


def strongest(matrix: sparse.csr_array, most: int) -> sparse.csr_array:
    """The `most` highest values of each row, of equal ones the first."""
    long = np.flatnonzero(np.diff(matrix.indptr) > most)
    kept = np.ones(matrix.nnz, bool)
    for row in long:
        start, end = matrix.indptr[row], matrix.indptr[row + 1]
        kept[start:end] = False
        kept[start + top(np.arange(end - start), matrix.data[start:end], most)] = True
    lengths = np.minimum(np.diff(matrix.indptr), most)
    parts = matrix.data[kept], matrix.indices[kept], np.concatenate([[0], np.cumsum(lengths)])
    return sparse.csr_array(parts, shape=matrix.shape)


def _walks(users: sparse.csr_array) -> Iterator[tuple[slice, sparse.csr_array]]:
    """Ranges of items, and of each item in it the shares [range, items] of its takers' histories, 0 of itself."""
    lengths = np.maximum(users.sum(axis=1), 1)
    takers = users.T.tocsr()
    shares = (sparse.diags_array(1 / lengths).tocsr() @ users).astype(np.float32)
    work = np.cumsum(takers @ lengths) // WORK
    edges = [0, *(np.flatnonzero(np.diff(work)) + 1).tolist(), len(work)]
    for start, end in zip(edges, edges[1:], strict=False):
        found = (takers[start:end] @ shares).tocsr()
        found.sort_indices()
        itself = np.repeat(np.arange(start, end), np.diff(found.indptr)) == found.indices
        found.data[itself] = 0
        found.eliminate_zeros()
        yield slice(start, end), found


def _scaled(walks: sparse.csr_array, rows: np.ndarray, columns: np.ndarray, most: int) -> sparse.csr_array:
    weights = np.repeat(rows, np.diff(walks.indptr)) * columns[walks.indices]
    scaled = (walks.data * weights).astype(np.float32)
    return strongest(sparse.csr_array((scaled, walks.indices, walks.indptr), shape=walks.shape), most)
