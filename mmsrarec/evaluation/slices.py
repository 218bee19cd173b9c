"""Questions by what is known of user and target: slices that add up, each kind of them, to the whole.

history     items before the target: up to 5, 6 to 10, more
target      popularity of the target in training: the lower, middle and upper third of the questions
cold        item: nobody took the target in training; user: at most two items before it
gap         time since the event before: none at all, up to an hour, more; only where timestamps come from a clock
"""

import numpy as np

from mmsrarec.evaluation.protocol import TestSet

SHORT, MIDDLE = 5, 10
COLD_HISTORY = 2
HOUR = 3600.0


def of(test: TestSet, popularity: np.ndarray) -> dict[str, np.ndarray]:
    """Name -> which questions, bool [questions]; `popularity` [items] is the training interactions of each item."""
    lengths, taken = test.lengths, popularity[test.targets]
    low, high = np.quantile(taken, [1 / 3, 2 / 3]) if len(taken) else (0.0, 0.0)
    found = {
        f"history <={SHORT}": lengths <= SHORT,
        f"history {SHORT + 1}-{MIDDLE}": (lengths > SHORT) & (lengths <= MIDDLE),
        f"history >{MIDDLE}": lengths > MIDDLE,
        "target low": taken <= low,
        "target middle": (taken > low) & (taken <= high),
        "target high": taken > high,
        "cold item": taken == 0,
        "warm item": taken > 0,
        "cold user": lengths <= COLD_HISTORY,
        "warm user": lengths > COLD_HISTORY,
    }
    if test.gaps is not None and not np.isnan(test.gaps).any():
        found |= {
            "gap none": test.gaps <= 0,
            "gap <=1h": (test.gaps > 0) & (test.gaps <= HOUR),
            "gap >1h": test.gaps > HOUR,
        }
    return {name: chosen for name, chosen in found.items() if chosen.any()}
