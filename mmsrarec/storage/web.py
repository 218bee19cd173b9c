"""Pictures from web servers, by urllib3 (boto3's own HTTP client): the only file that knows HTTP.

An address in a shop's table is a wish of whoever wrote it, and this process may be inside a private network. So a host
is asked only if the configuration names it, on its usual port or the one named there; it is resolved here, every
address is judged, and the connection goes to the very address that was judged (a name that changes its mind gains
nothing; the certificate is still that of the name). A redirect is followed to the same host only, judged again.
Proxies of the environment are not asked.
"""

import ipaddress
import socket
from collections.abc import Collection
from functools import lru_cache
from urllib.parse import urljoin

import urllib3
from urllib3.exceptions import HTTPError, LocationParseError
from urllib3.util import Retry, Timeout, Url, parse_url

from mmsrarec.storage.transfer import (
    BACKOFF_SECONDS,
    CONNECT_SECONDS,
    CONNECTIONS,
    MOMENTARY,
    READ_SECONDS,
    REQUESTS,
    FetchError,
    persistently,
    received,
)

PORTS = {"http": 80, "https": 443}
REDIRECTS = 3
HOSTS = 32  # whose connections are kept
HEADERS = {"User-Agent": "mmsrarec", "Accept": "image/*", "Accept-Encoding": "identity"}
# Prefixes of IPv6 that carry an IPv4 address in their last or third 32 bits.
NAT64, SIX_TO_FOUR = ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("2002::/16")


def parsed(address: str) -> Url:
    """The parts of an http(s) address, as they will be asked for; FetchError where it is none."""
    try:
        url = parse_url(address)
    except (LocationParseError, ValueError):
        raise FetchError("unsupported_address", "not a web address") from None
    if url.scheme not in PORTS or not url.host:
        raise FetchError("unsupported_address", "not a web address")
    if url.auth:
        raise FetchError("unsupported_address", "user and password in an address are not taken")
    return url


def place(url: Url) -> str:
    """host:port, as settings name a host."""
    return f"{url.host}:{_port(url)}"


def _port(url: Url) -> int:
    return url.port or PORTS[url.scheme or "https"]


def _bare_host(url: Url) -> str:
    """Without the brackets of IPv6."""
    return (url.host or "").strip("[]")


def read(address: str, limit: int, private: Collection[str] = ()) -> bytes:
    """The body behind an address whose host is allowed; only places of `private` may be in a private network.

    Raises FetchError: missing, forbidden, too_large, unreachable, not_allowed, unsupported_address.
    """
    return persistently(lambda: _followed(parsed(address), limit, private))


def judged(found: str, private: bool) -> None:
    """Raise FetchError where an IP address is not one of the public network (or, if `private`, of no network)."""
    address = ipaddress.ip_address(found.partition("%")[0])
    for inner in (address, *_carried(address)):
        # What is link-local answers for the machine itself: where it runs, and with which credentials.
        never = inner.is_link_local or inner.is_multicast or inner.is_unspecified
        if never or not (private or inner.is_global):
            raise FetchError("not_allowed", "its host is in a private network")


def _carried(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> list[ipaddress.IPv4Address]:
    """The IPv4 addresses that an IPv6 address stands for."""
    if address.version == 4:
        return []
    carried = [address.ipv4_mapped, *(address.teredo or ())]
    if address in SIX_TO_FOUR:
        carried.append(address.sixtofour)
    if address in NAT64 or int(address) >> 32 == 0 and int(address) > 1:
        carried.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return [one for one in carried if one is not None]


def _followed(url: Url, limit: int, private: Collection[str]) -> bytes:
    for _ in range(REDIRECTS + 1):
        response = _asked(url, private)
        try:
            if response.status not in (301, 302, 303, 307, 308):
                _accepted(response.status)
                return b"".join(received(response, _announced(response), limit))
            url = _next(url, response.headers.get("Location", ""))
        finally:
            response.close() if response.status != 200 else response.release_conn()
    raise FetchError("unreachable", f"more than {REDIRECTS} redirects")


def _next(url: Url, location: str) -> Url:
    target = parsed(urljoin(url.url, location))
    # http to https of the same host is the one change of port that is let pass.
    usual = place(target) == f"{url.host}:{PORTS['https']}" and place(url) == f"{url.host}:{PORTS['http']}"
    if not (usual or (place(target) == place(url) and target.scheme == url.scheme)):
        raise FetchError("not_allowed", "it redirects to another host")
    return target


def _asked(url: Url, private: Collection[str]) -> urllib3.BaseHTTPResponse:
    """The response from the first of the host's addresses that can be connected to."""
    names = _resolved(url, place(url) in private)
    for number, name in enumerate(names, 1):
        try:
            return _pool(url, name).urlopen(
                "GET",
                url.request_uri,
                headers={**HEADERS, "Host": url.netloc or ""},
                redirect=False,
                retries=_retries(),
                preload_content=False,
            )
        except HTTPError as error:
            if number == len(names):
                cause = getattr(error, "reason", None) or error
                raise FetchError("unreachable", type(cause).__name__) from None
    raise FetchError("unreachable", "its host has no address")


def _resolved(url: Url, private: bool) -> list[str]:
    """All IP addresses of the host, judged. Decimal and shortened forms become what they mean here."""
    try:
        found = socket.getaddrinfo(_bare_host(url), _port(url), type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise FetchError("unreachable", "its host has no address") from None
    names = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    for name in names:
        judged(name, private)
    return names


def _pool(url: Url, name: str) -> urllib3.HTTPConnectionPool:
    """Kept connections to this very IP address, for this host's certificate."""
    host = _bare_host(url)
    tls = {"server_hostname": host, "assert_hostname": host} if url.scheme == "https" else {}
    return _manager().connection_from_host(name, _port(url), url.scheme, pool_kwargs=_kept() | tls)


def _kept() -> dict:
    timeout = Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS)
    return {"maxsize": CONNECTIONS, "block": True, "timeout": timeout}


@lru_cache(maxsize=1)
def _manager() -> urllib3.PoolManager:
    return urllib3.PoolManager(num_pools=HOSTS)


def _retries() -> Retry:
    """How long a server asks us to wait is its own wish; ours is bounded."""
    return Retry(
        total=REQUESTS - 1,
        redirect=0,
        status_forcelist=MOMENTARY,
        backoff_factor=BACKOFF_SECONDS,
        backoff_jitter=BACKOFF_SECONDS,
        raise_on_status=False,
        respect_retry_after_header=False,
    )


def _accepted(status: int) -> None:
    if status in (404, 410):
        raise FetchError("missing", f"status {status}")
    if status in (401, 402, 403, 407, 451):
        raise FetchError("forbidden", f"status {status}")
    if status != 200:
        raise FetchError("unreachable", f"status {status}")


def _announced(response: urllib3.BaseHTTPResponse) -> int | None:
    text = response.headers.get("Content-Length", "")
    return int(text) if text.isdigit() and "Transfer-Encoding" not in response.headers else None
