"""Histories as training batches: windows, and batches of like length that hold about as many positions each."""

from collections.abc import Iterator

import numpy as np

from mmsrarec.collaborative.embed import Sequences

STEPS_PER_EPOCH = 32  # a small shop gets smaller batches, down to SMALLEST_BATCH, so that it sees enough steps
SMALLEST_BATCH = 16  # sequences of average length


def windowed(sequences: Sequences, max_length: int) -> Sequences:
    """Sequences cut from the end into windows of at most max_length + 1 items, so each but the first item is a target
    exactly once: neighboring windows share one item. Rows of one item go."""
    starts, ends = [], []
    for row in np.flatnonzero(sequences.lengths >= 2):
        first, end = sequences.offsets[row], sequences.offsets[row + 1]
        while end - first >= 2:
            start = max(first, end - max_length - 1)
            starts.append(start)
            ends.append(end)
            end = start + 1
    lengths = np.array(ends) - np.array(starts)
    codes = np.concatenate([sequences.codes[start:end] for start, end in zip(starts, ends, strict=True)])
    return Sequences(codes, np.concatenate([[0], np.cumsum(lengths)]))


def batches(lengths: np.ndarray, batch_size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """All rows once, in batches of like length in random order; a batch has about as many positions as batch_size rows
    of average length, so that little is padding and every position weighs about the same."""
    size = min(batch_size, max(SMALLEST_BATCH, len(lengths) // STEPS_PER_EPOCH))
    order = rng.permutation(len(lengths))
    order = order[np.argsort(lengths[order], kind="stable")]
    before = np.cumsum(lengths[order]) - lengths[order]
    of = (before // (size * lengths.mean())).astype(np.int64)
    parts = np.split(order, np.flatnonzero(np.diff(of)) + 1)
    for number in rng.permutation(len(parts)):
        yield parts[number]
