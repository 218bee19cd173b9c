"""What must hold before anything is committed to a lake. storage/lock.py says it; whatever commits asks.

A file of its own, because the lock is kept in a table itself. A process that holds no lock is not asked for one.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_CHECKS: dict[str, Callable[[], None]] = {}


def check(root: str) -> None:
    """Raise what the guard of the lake at `root` raises, if it has one. Call it right before a commit."""
    if guarding := _CHECKS.get(_place(root)):
        guarding()


def guarded(root: str) -> bool:
    """Whether this process guards the lake at present."""
    return _place(root) in _CHECKS


@contextmanager
def guarding(root: str, check: Callable[[], None]) -> Iterator[None]:
    """Have `check` called before every commit of this process to the lake."""
    _CHECKS[_place(root)] = check
    try:
        yield
    finally:
        del _CHECKS[_place(root)]


def _place(root: str) -> str:
    return root.rstrip("/") if "://" in root else os.path.realpath(root)
