"""A distribution of scores in [0, 1] that any number of rows can be added to. Pure; memory is that of its bins."""

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa


@dataclass
class Distribution:
    """Counts in equal bins, and the sum; a quantile is exact to the width of a bin."""

    bins: int = 10_000
    total: float = 0.0
    counts: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.counts = np.zeros(self.bins, np.int64)

    def add(self, scores: pa.Array | pa.ChunkedArray) -> None:
        values = scores.to_numpy()
        places = np.clip((values * self.bins).astype(int), 0, self.bins - 1)
        self.counts += np.bincount(places, minlength=self.bins)
        self.total += float(values.sum())

    @property
    def mean(self) -> float:
        return self.total / max(int(self.counts.sum()), 1)

    def quantile(self, share: float) -> float:
        return float(np.searchsorted(self.counts.cumsum(), share * self.counts.sum()) / self.bins)
