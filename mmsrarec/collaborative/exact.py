"""Exact search over a sample, which a filled index is compared with. Pure numpy."""

import numpy as np

SAMPLE = 100  # vectors that are looked up before the swap, each for
DEPTH = 10  # neighbors
EPSILON = 1e-4  # cosines nearer than this are a tie


class Exact:
    """The true nearest similarities of a sample, gathered while the vectors pass by; memory is that of one batch."""

    def __init__(self) -> None:
        self.queries, self._best = np.zeros((0, 0), np.float32), np.zeros((0, 0), np.float32)

    def add(self, vectors: np.ndarray) -> None:
        if not len(self.queries):  # of the first batch, which holds the latest positions of many users
            self.queries = vectors[:: max(1, len(vectors) // SAMPLE)][:SAMPLE]
            self._best = np.full((len(self.queries), DEPTH), -np.inf, np.float32)
        every = np.concatenate([self._best, self.queries @ vectors.T], axis=1)
        self._best = -np.partition(-every, DEPTH - 1, axis=1)[:, :DEPTH]

    def recall(self, found: list[list[float]]) -> float:
        """Share of the nearest DEPTH that are among `found`, a list of similarities per query; a tie counts."""
        least = np.where(np.isfinite(self._best), self._best, np.inf).min(axis=1) - EPSILON
        hits = sum(similarity >= line for row, line in zip(found, least, strict=True) for similarity in row)
        return hits / int(np.isfinite(self._best).sum())
