"""What must hold before anything is committed to a lake. storage/lock.py says it; whatever commits asks.

A file of its own, because the lock is kept in a table itself. A process that holds no lock is not asked for one.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_CHECKS: dict[str, tuple[int, Callable[[], None]]] = {}  # by lake: the thread that guards it, and how


def check(root: str) -> None:
    """Raise what the guard of the lake at `root` raises, if it has one. Call it right before a commit."""
    if guarding := _CHECKS.get(_place(root)):
        guarding[1]()


def guarded(root: str) -> bool:
    """Whether this thread guards the lake at present. Another one of the process, with a run of its own, does not."""
    return _CHECKS.get(_place(root), (None,))[0] == threading.get_ident()


@contextmanager
def guarding(root: str, check: Callable[[], None]) -> Iterator[None]:
    """Have `check` called before every commit of this process to the lake."""
    _CHECKS[_place(root)] = threading.get_ident(), check
    try:
        yield
    finally:
        del _CHECKS[_place(root)]


def _place(root: str) -> str:
    return root.rstrip("/") if "://" in root else os.path.realpath(root)
