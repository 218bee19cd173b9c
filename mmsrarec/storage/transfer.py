"""Bytes over the network: bounded in size and in time, and asked for again where that may help. For s3.py and web.py.

A server is trusted with nothing: it may send more than it announced, less, or a byte a minute.
"""

import random
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

CONNECTIONS = 16  # of a process, to one host
CONNECT_SECONDS = 5.0
READ_SECONDS = 20.0  # without a single byte
REQUESTS = 4  # of one request that is refused for the moment, by the libraries' own back-off
ATTEMPTS = 3  # of a body that breaks off
BACKOFF_SECONDS = 0.5  # before the second attempt at most; then twice as long
GRACE_SECONDS = 30.0  # after so long a transfer must have kept an average of
LEAST_RATE = 32 * 2**10  # bytes a second
CHUNK = 64 * 2**10
# Statuses that may be another one a moment later.
MOMENTARY = (429, 500, 502, 503, 504)
T = TypeVar("T")


class FetchError(Exception):
    """Nothing came, and asking again now does not help.

    `reason` is one of missing, forbidden, too_large, unreachable, unsupported_address, not_allowed, outside_folder.
    """

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.detail = reason, detail


class BrokenOffError(FetchError):
    """A body did not come as announced, or not in time."""

    def __init__(self, detail: str):
        super().__init__("unreachable", detail)


def persistently(work: Callable[[], T]) -> T:
    """The result of `work`, which may break off ATTEMPTS - 1 times; waits at random in between, ever longer."""
    for attempt in range(1, ATTEMPTS):
        try:
            return work()
        except BrokenOffError:
            time.sleep(random.uniform(0, BACKOFF_SECONDS * 2**attempt))
    return work()


def received(response: BaseHTTPResponse, announced: int | None, limit: int | None) -> Iterator[bytes]:
    """The body as it comes. Raises FetchError above `limit` bytes, BrokenOffError where it is slower than LEAST_RATE or
    not of the announced length."""
    if limit is not None and (announced or 0) > limit:
        raise FetchError("too_large", f"{announced:,} bytes; at most {limit:,}")
    started, count = time.monotonic(), 0
    try:
        while chunk := response.read1(CHUNK, decode_content=False):
            count += len(chunk)
            if limit is not None and count > limit:
                raise FetchError("too_large", f"more than {limit:,} bytes")
            if time.monotonic() - started > GRACE_SECONDS + count / LEAST_RATE:
                raise BrokenOffError(f"only {count:,} bytes in {time.monotonic() - started:.0f} s")
            yield chunk
    except (HTTPError, OSError) as error:
        raise BrokenOffError(f"after {count:,} bytes: {type(error).__name__}") from None
    if announced is not None and count != announced:
        raise BrokenOffError(f"{count:,} of {announced:,} bytes")
