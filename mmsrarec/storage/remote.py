"""Pictures that are not on this machine: which addresses may be followed, and by which client.

Followed are addresses below inputs.images, where that is one, and below those of inputs.image_sources. Whatever keeps
a web host from answering costs its pictures only, and after a while no more time; S3 is the shop's own, so where it
does not answer, or refuses what it lists, the stage ends, to go on later: else a night without pictures would pass
for one of a shop that has none.
"""

import posixpath
import re
import threading
import time
from collections import Counter
from urllib.parse import quote, unquote

from mmsrarec.config import Config
from mmsrarec.errors import InputError, StoreError
from mmsrarec.storage import s3, web
from mmsrarec.storage.transfer import FetchError

SCHEME = re.compile(r"[a-z][a-z0-9+.-]+://|data:", re.IGNORECASE)
FAILURES = 8  # in a row, each after all its repeats: then a host is left alone
PAUSE_SECONDS = 60.0


class Remote:
    """`read` takes an item's image address that begins with a scheme, or any where `base` (inputs.images) is remote.

    Raises InputError where a setting is no address or S3 has nothing there. May be used by many threads at once.
    """

    def __init__(self, config: Config):
        images, sources = config.inputs.images, config.inputs.image_sources
        self.base = images.rstrip("/") if images and SCHEME.match(images) else None
        named = {"inputs.image_sources": sources, "inputs.images": [self.base] if self.base else []}
        self._sources = [_source(setting, given) for setting, every in named.items() for given in every]
        self._private = frozenset(_host(given) for given in config.inputs.private_hosts)
        self._failed: Counter[str] = Counter()
        self._paused: dict[str, float] = {}
        self._counting = threading.Lock()
        if self.base and s3.is_address(self.base):
            s3.require(self.base, "inputs.images")

    def read(self, address: str, limit: int) -> bytes:
        """At most `limit` bytes. Raises FetchError (transfer.py), StoreError where S3 as a whole does not answer."""
        address = address if SCHEME.match(address) else self._below(address)
        on_s3 = s3.is_address(address)
        host, path = _parts(address)
        if not any(host == allowed and (path + "/").startswith(folder) for allowed, folder in self._sources):
            raise FetchError("not_allowed", "not below inputs.images or one of inputs.image_sources")
        if time.monotonic() < self._paused.get(host, 0.0):
            raise FetchError("unreachable", "its host did not answer lately")
        try:
            content = s3.read(address, limit) if on_s3 else web.read(address, limit, self._private)
        except FetchError as error:
            if error.reason == "unreachable" or (error.reason == "forbidden" and on_s3 and self.base):
                self._count(host, error, on_s3)
            raise
        self._failed.pop(host, None)
        return content

    def _below(self, address: str) -> str:
        if address.startswith("/"):
            raise FetchError("outside_folder", "the address leaves inputs.images")
        name = posixpath.normpath(address)
        return f"{self.base}/{name if s3.is_address(str(self.base)) else quote(name)}"

    def _count(self, host: str, error: FetchError, on_s3: bool) -> None:
        with self._counting:
            self._failed[host] += 1
            if self._failed[host] < FAILURES:
                return
            self._failed[host], self._paused[host] = 0, time.monotonic() + PAUSE_SECONDS
        if on_s3:
            raise StoreError(
                f"{host}: {FAILURES} pictures in a row cannot be read ({error.detail}); when the store is up again, "
                "run the same command to go on from there"
            ) from None


def _parts(address: str) -> tuple[str, str]:
    """Where it is (bucket or host and port) and the plain path there; FetchError where it steps out of a folder."""
    if s3.is_address(address):
        bucket, _, path = address.removeprefix(s3.SCHEME).partition("/")
        host, path = s3.SCHEME + bucket, "/" + path
    else:
        url = web.parsed(address)
        host, path = f"{url.scheme}://{web.place(url)}", unquote(url.path or "/")
    if {".", ".."} & set(re.split(r"[/\\]", path)):
        raise FetchError("outside_folder", "the address leaves its folder")
    return host, path


def _source(setting: str, given: str) -> tuple[str, str]:
    try:
        host, path = _parts(given)
    except FetchError as error:
        raise InputError(f"{setting}: {error.detail}; expected https://HOST/FOLDER or s3://BUCKET/FOLDER") from None
    return host, path.rstrip("/") + "/"


def _host(given: str) -> str:
    """host:port of a setting that may leave the port out, which is https's then."""
    url = web.parsed(given if "://" in given else f"https://{given}")
    return web.place(url)
