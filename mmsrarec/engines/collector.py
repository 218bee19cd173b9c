"""Python's garbage collector, while much is made that stays."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused() -> Iterator[None]:
    """For large libraries, whose import makes a million objects and throws few away: the collector looks through none
    of what is there at the end, now or later. By itself it would take half of the time of the import."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if before:
            gc.enable()
