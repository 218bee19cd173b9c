"""What is the same for every user: counts, vectors and times of the items. Items are codes of the catalog."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

from mmsrarec.collaborative.embed import unit
from mmsrarec.collaborative.pieces.asked import MAIN

RARE = 1e-12


@dataclass(frozen=True)
class Context:
    """Made once from training interactions only; whoever learns from held-out items must see that they are not in it.

    Arrays are by item code. `clock` is where an item's takers are in time, from 0 to 1. `linear` is EASE's weights
    [items, items], None above its limit. `text` and `keywords` are rows of length 1 over their terms, `meaning` dense
    ones; a row of an item without any is zero. `related` are further matrices [items, items] by name (related.py), and
    `networks` the item vectors of the sequence networks, MAIN first, zero where one does not know the item.
    """

    popularity: np.ndarray
    recent: np.ndarray
    clock: np.ndarray
    together: sparse.csr_array
    follows: sparse.csr_array
    linear: np.ndarray | None
    text: sparse.csr_array
    meaning: np.ndarray
    keywords: sparse.csr_array
    related: Mapping[str, sparse.csr_array]
    networks: Mapping[str, np.ndarray]

    @property
    def items(self) -> int:
        return len(self.popularity)

    @cached_property
    def known(self) -> dict[str, np.ndarray]:
        """Which items each network knows, [items]."""
        return {name: np.asarray(vectors.any(axis=1)) for name, vectors in self.networks.items()}

    @cached_property
    def directions(self) -> np.ndarray:
        """The main network's item vectors scaled to length 1."""
        return unit(self.networks[MAIN])

    @cached_property
    def text_columns(self) -> sparse.csr_array:
        """`text` by term, to multiply with."""
        return self.text.T.tocsr()

    @cached_property
    def keywords_columns(self) -> sparse.csr_array:
        return self.keywords.T.tocsr()


def quantiles(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The share of all weight below each value, half of its own counted: from 0 to 1, equal values alike."""
    places, groups = np.unique(values, return_inverse=True)
    mass = np.bincount(groups, weights, len(places))
    return ((np.cumsum(mass) - mass / 2) / max(mass.sum(), RARE))[groups]
