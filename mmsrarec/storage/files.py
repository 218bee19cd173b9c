"""Files in the lake beside its tables, on a local disk or on S3: read and written whole, and by nothing else.

A file is there with all of its content or not at all: on S3 an object is by nature, on a disk a draft is renamed. So
nothing needs a lock, and nothing of an S3 lake needs the driver's disk. A place is a path or an s3:// address.
"""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmsrarec.errors import StoreError
from mmsrarec.storage import s3
from mmsrarec.storage.s3 import File
from mmsrarec.storage.transfer import FetchError

DRAFT = ".part"


def is_local(place: str | Path) -> bool:
    return "://" not in str(place)


def known(place: str | Path) -> bool:
    """Whether it is an address that is understood here: a path or s3://."""
    return is_local(place) or s3.is_address(str(place))


def read(place: str | Path) -> bytes | None:
    """The content, None where there is no such file."""
    if is_local(place):
        path = Path(place)
        return path.read_bytes() if path.exists() else None
    with told(place):
        try:
            return s3.read(str(place))
        except FetchError as error:
            if error.reason == "missing":
                return None
            raise


def content(place: str | Path) -> bytes:
    """As `read`, where the file must be there: else FileNotFoundError."""
    found = read(place)
    if found is None:
        raise FileNotFoundError(errno.ENOENT, "no such file", str(place))
    return found


def write(place: str | Path, content: bytes) -> None:
    """Put the content in the place of what is there."""
    if not is_local(place):
        with told(place):
            return s3.write(str(place), content)
    path = Path(place)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + DRAFT)
    try:
        draft.write_bytes(content)
        os.replace(draft, path)
    except OSError:  # a full disk, say, on which half a file only takes room
        draft.unlink(missing_ok=True)
        raise


def find(place: str | Path) -> File | None:
    """What is known of one file, None where there is none."""
    if is_local(place):
        return _described(Path(place), "") if os.path.isfile(place) else None
    with told(place):
        return s3.find(str(place))


def listing(folder: str | Path) -> list[File]:
    """All files below a folder, by name; none where there is no folder."""
    if is_local(folder):
        paths = [path for path in sorted(Path(folder).rglob("*")) if path.is_file()]
        return [_described(path, str(path.relative_to(folder))) for path in paths]
    with told(folder):
        return [one for one in s3.listing(str(folder)) if not one.name.endswith("/")]


def delete(place: str | Path) -> None:
    """No error where there is none."""
    if is_local(place):
        return Path(place).unlink(missing_ok=True)
    with told(place):
        s3.delete([str(place)])


def delete_folder(folder: str | Path) -> None:
    """With all that is below; on a disk, what cannot be deleted now stays."""
    if is_local(folder):
        return shutil.rmtree(folder, ignore_errors=True)
    with told(folder):
        s3.delete([f"{folder}/", *(f"{folder}/{one.name}" for one in s3.listing(str(folder)))])


def _described(path: Path, name: str) -> File:
    found = path.stat()
    return File(name, found.st_size, str(found.st_mtime_ns))


@contextmanager
def told(place: str | Path) -> Iterator[None]:
    """Make of what a store refuses an error for people."""
    try:
        yield
    except FetchError as error:
        raise StoreError(
            f"{place}: {error}. Check that the store is up and that this machine may list, read, write and delete "
            "there; what is finished is kept: run the same command again to go on from there"
        ) from None
