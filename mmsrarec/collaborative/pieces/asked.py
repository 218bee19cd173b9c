"""A batch of users and what each is asked about."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from mmsrarec.collaborative.embed import Sequences

NOBODY = -1  # fills up a pool that is shorter than others
MAIN = "sasrec"  # what the evidence calls the network of the section `sasrec`, whichever it is


@dataclass(frozen=True)
class Asked:
    """pool [users, width] has item codes, none twice in a row, NOBODY to the right.

    `logits` [users, items] are by network, MAIN first, -inf for items that one does not know or the user has seen;
    `votes` [users, items] the similarities of the similar users who took an item next. A user without any item that a
    network knows has only -inf there.
    """

    histories: Sequences
    logits: Mapping[str, np.ndarray]
    votes: sparse.csr_array
    pool: np.ndarray

    @property
    def valid(self) -> np.ndarray:
        return self.pool != NOBODY

    def cells(self, matrix: sparse.csr_array) -> np.ndarray:
        """matrix[user, pool[user, place]] of a sparse [users, items], 0 at NOBODY."""
        return np.where(self.valid, self.gathered(matrix.toarray()), 0).astype(np.float32)

    def gathered(self, values: np.ndarray) -> np.ndarray:
        """values[user, pool[user, place]] of a dense [users, items], anything at NOBODY."""
        return np.take_along_axis(values, np.where(self.valid, self.pool, 0), axis=1)

    def of_item(self, values: np.ndarray) -> np.ndarray:
        """values[pool], NaN at NOBODY."""
        return np.where(self.valid, values[self.pool], np.nan).astype(np.float32)

    def last(self, age: int = 0) -> np.ndarray:
        """The code of each user's item `age` before the last, NOBODY where there is none."""
        if not len(self.histories.codes):
            return np.full(len(self.histories), NOBODY)
        place = self.histories.offsets[1:] - 1 - age
        found = self.histories.codes[np.clip(place, 0, None)].astype(np.int64)
        return np.where(place >= self.histories.offsets[:-1], found, NOBODY)


def ranks(values: np.ndarray) -> np.ndarray:
    """Place from 1 of each value in its row [users, width], the greatest first, equal ones alike; NaN stands last."""
    ordered = np.nan_to_num(-values, nan=np.inf, posinf=np.inf, neginf=-np.inf)
    order = np.argsort(ordered, axis=1, kind="stable")
    line = np.take_along_axis(ordered, order, axis=1)
    starts = np.ones(line.shape, bool)
    starts[:, 1:] = line[:, 1:] != line[:, :-1]
    places = np.maximum.accumulate(np.where(starts, np.arange(1, line.shape[1] + 1), 0), axis=1)
    found = np.empty(values.shape, np.float32)
    np.put_along_axis(found, order, places.astype(np.float32), axis=1)
    return found
