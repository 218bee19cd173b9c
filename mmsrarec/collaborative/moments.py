"""Timestamps of histories, in microseconds: of a clock, or mere places in an order."""

import numpy as np

CLOCK = 100_000_000 * 10**6  # March 1973: where all are before it, they are places in an order


def timed(times: np.ndarray | None) -> bool:
    """Whether they are of a clock."""
    return times is not None and len(times) > 0 and float(np.max(times)) >= CLOCK
