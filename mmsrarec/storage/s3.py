"""S3, and what speaks its protocol, by boto3: the only file that knows it. Tables on S3 are delta-rs's (tables.py).

Credentials, region and endpoint come from where every AWS tool takes them: the environment (AWS_PROFILE, AWS_REGION,
AWS_ENDPOINT_URL, …), ~/.aws, or the role of the machine or pod. Nothing of them is in the configuration, and nothing is
kept here. A process has one client with at most CONNECTIONS connections; requests that fail for the moment are
repeated by boto3 with back-off and jitter, bodies that break off by transfer.py. boto3 is imported with the first
request: who has no S3 does not wait for it.
"""

import os
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from pyarrow import fs

from mmsrarec.errors import InputError, StoreError
from mmsrarec.storage.transfer import (
    CONNECT_SECONDS,
    CONNECTIONS,
    READ_SECONDS,
    REQUESTS,
    FetchError,
    persistently,
    received,
)

SCHEME = "s3://"
PAGE = 1000  # objects listed or deleted at once: S3's own limit
_making = threading.Lock()


@dataclass(frozen=True)
class File:
    """A file below a folder (or, where a single one was asked for, with an empty name); another content has another
    version: of an object, its ETag."""

    name: str
    size: int
    version: str


def is_address(place: str) -> bool:
    return str(place).startswith(SCHEME)


def read(address: str, limit: int | None = None) -> bytes:
    """The object's content. Raises FetchError: missing, forbidden, too_large, unreachable."""
    return persistently(lambda: b"".join(_body(address, limit)))


def download(address: str, file: Path, version: str) -> None:
    """The object as a file, whatever its size. Raises FetchError where it is not this version any more."""

    def work() -> None:
        with open(file, "wb") as out:
            out.writelines(_body(address, None, IfMatch=f'"{version}"'))

    persistently(work)


def write(address: str, content: bytes) -> None:
    """Put an object in the place of what is there: readers see the old one or the new one."""
    bucket, key = split(address)
    _asked(address, "put_object", Bucket=bucket, Key=key, Body=content)


def find(address: str) -> File | None:
    """What is at exactly this address."""
    bucket, key = split(address)
    try:
        found = _asked(address, "head_object", Bucket=bucket, Key=key)
    except FetchError as error:
        if error.reason == "missing":
            return None
        raise
    return File("", found["ContentLength"], found["ETag"].strip('"'))


def listing(folder: str) -> Iterator[File]:
    """Everything below a folder, by name; one that ends with a slash is a mark that Hadoop makes for a folder."""
    bucket, key = split(folder)
    prefix = f"{key}/" if key else ""
    token: dict[str, str] = {}
    while True:
        page = _asked(folder, "list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=PAGE, **token)
        for one in page.get("Contents", ()):
            if name := one["Key"].removeprefix(prefix):
                yield File(name, one["Size"], one["ETag"].strip('"'))
        if not page.get("IsTruncated"):
            return
        token = {"ContinuationToken": page["NextContinuationToken"]}


def delete(addresses: Iterable[str]) -> None:
    """Delete these objects, all in one bucket; one that is not there is no error."""
    for some in _portions(addresses):
        keys = [{"Key": address.removeprefix(SCHEME).partition("/")[2]} for address in some]
        bucket = split(some[0])[0]
        done = _asked(some[0], "delete_objects", Bucket=bucket, Delete={"Objects": keys, "Quiet": True})
        if failed := done.get("Errors"):
            raise StoreError(f"s3://{bucket}/{failed[0]['Key']}: cannot be deleted: {failed[0].get('Code')}")


def require(folder: str, setting: str) -> None:
    """Raise InputError or StoreError, naming the setting, unless something can be listed there."""
    bucket, key = split(folder)
    try:
        found = _asked(folder, "list_objects_v2", Bucket=bucket, Prefix=f"{key}/" if key else "", MaxKeys=1)
    except FetchError as error:
        kind = StoreError if error.reason == "unreachable" else InputError
        raise kind(
            f"{setting}={folder}: {error}; check the address, and that this machine may list and read it"
        ) from None
    if not found.get("KeyCount"):
        raise InputError(f"{setting}={folder}: nothing there; check bucket and folder")


def split(address: str) -> tuple[str, str]:
    """Bucket and key, without a slash at its end; InputError where it is no such address."""
    bucket, _, key = address.removeprefix(SCHEME).partition("/")
    if not is_address(address) or not bucket or "@" in bucket:
        raise InputError("an address on S3 is s3://BUCKET/NAME; credentials come from the environment, not from it")
    return bucket, key.rstrip("/")


def _portions(addresses: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(addresses)
    while some := list(islice(rest, PAGE)):
        yield some


def _body(address: str, limit: int | None, **conditions: str) -> Iterator[bytes]:
    bucket, key = split(address)
    found = _asked(address, "get_object", Bucket=bucket, Key=key, **conditions)
    # boto3's own reading waits for a whole chunk, so for hours where a byte comes every second.
    with found["Body"] as raw:
        yield from received(raw, found["ContentLength"], limit)


def _asked(address: str, operation: str, **parameters: object) -> dict:
    from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

    try:
        return getattr(_client(os.getpid()), operation)(**parameters)
    except ClientError as error:
        raise _refused(address, error.response) from None
    except HTTPClientError as error:
        raise FetchError("unreachable", f"{type(error).__name__} after {REQUESTS} attempts") from None
    except BotoCoreError as error:  # no credentials, no region, an expired login
        said = " ".join(str(error).split())[:300]
        raise StoreError(
            f"{address}: {said}. Set AWS_PROFILE, or the AWS_… variables, or give the machine a role"
        ) from None


def _refused(address: str, response: dict) -> Exception:
    code = response.get("Error", {}).get("Code", "")
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code == "NoSuchBucket":
        return InputError(f"s3://{split(address)[0]}: no such bucket")
    if status == 404:
        return FetchError("missing", "no such object")
    if status in (400, 401, 403):
        return FetchError("forbidden", f"{code} ({status})")
    return FetchError("unreachable", f"{code} ({status})")


@lru_cache(maxsize=1)
def _client(process: int) -> Any:
    """The client of this process: one that was forked makes its own."""
    import boto3
    from botocore.config import Config

    settings = Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        max_pool_connections=CONNECTIONS,
        retries={"mode": "standard", "total_max_attempts": REQUESTS},
        response_checksum_validation="when_required",
        s3={"addressing_style": "path"} if _endpoint() else None,
    )
    with _making:  # a session must not be made by two threads at a time
        return boto3.session.Session().client("s3", config=settings)


def arrow(address: str) -> fs.FileSystem:
    """The folder as Arrow reads files of tables: natively, since threads that still hold a file of another library, a
    Python object, when the interpreter ends kill the process."""
    bucket, key = split(address)
    return fs.SubTreeFileSystem(f"{bucket}/{key}", _arrow(os.getpid(), bucket, _endpoint()))


@lru_cache(maxsize=8)
def _arrow(process: int, bucket: str, endpoint: str | None) -> fs.FileSystem:
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    scheme, _, host = (endpoint or "https://").partition("://")
    return fs.S3FileSystem(
        region=region or (None if endpoint else fs.resolve_s3_region(bucket)),
        scheme=scheme,
        endpoint_override=host.rstrip("/") or None,
        connect_timeout=CONNECT_SECONDS,
        request_timeout=READ_SECONDS,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=REQUESTS),
    )


def allow_http() -> None:
    """Let delta-rs, too, use a store without encryption that the environment names."""
    if (_endpoint() or "").startswith("http://"):
        os.environ.setdefault("AWS_ALLOW_HTTP", "true")


def _endpoint() -> str | None:
    """Of another store than Amazon's."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
