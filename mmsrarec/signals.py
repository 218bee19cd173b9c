"""Signals that a library takes for itself."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread


@contextmanager
def given_back(number: signal.Signals) -> Iterator[None]:
    """At the end the signal's handler is the one from before; off the main thread, which alone may set one, nothing
    is done."""
    if current_thread() is not main_thread():
        yield
        return
    before = signal.getsignal(number)
    try:
        yield
    finally:
        signal.signal(number, before or signal.SIG_DFL)
