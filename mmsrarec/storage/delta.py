"""A Delta table at an address, on a disk or on S3: opened and written by delta-rs, read by Arrow; and its damages put
into words.

What the tables are, and what is written to them, is tables.py.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError
from pyarrow import dataset, fs
from pyarrow.dataset import Dataset

from mmsrarec.errors import LakeError, explains, shortened
from mmsrarec.schemas import MADE_BY
from mmsrarec.storage import files, s3
from mmsrarec.storage.transfer import BrokenOffError, persistently

T = TypeVar("T")

TABLE = "table "
PARQUET_LOST = re.compile(
    r"(?:Could not open Parquet input source|Failed to open local file|Path does not exist) '(?P<file>[^']*)'"
)


@explains(DeltaError, pa.ArrowInvalid, FileNotFoundError)
def _broken(error: DeltaError | pa.ArrowInvalid | FileNotFoundError) -> LakeError | None:
    """A table that cannot be used as it is."""
    said = shortened(error)
    place = next((note for note in getattr(error, "__notes__", []) if note.startswith(TABLE)), "a table of the lake")
    if isinstance(error, DeltaError):
        said = said.split(" 0: <unknown>")[0]
        if "ermission" in said and "denied" in said.lower():
            return LakeError(f"{place}: permission denied ({said}); let the user that runs this read and write there")
    elif found := PARQUET_LOST.search(said):
        said = f"{found['file']} is damaged or gone"
    else:
        return None
    stage = MADE_BY.get(place.rsplit("/", 1)[-1])
    again = f", or delete its folder and run {stage}, which makes it, again" if stage else ""
    return LakeError(f"{place}: {said}. Put the table back from a copy{again}")


@contextmanager
def named(place: str) -> Iterator[None]:
    """Have errors tell the table at this address."""
    try:
        yield
    except Exception as error:
        error.add_note(f"{TABLE}{place}")
        raise


def is_table(place: str) -> bool:
    """Is there a Delta table at this address?"""
    return _patiently(place, lambda: DeltaTable.is_deltatable(place))


def open_table(place: str, at: int | None = None) -> DeltaTable:
    """The Delta table at an address, at its latest version or the one named."""
    return _patiently(place, lambda: DeltaTable(place, version=at))


def open_dataset(place: str, table: DeltaTable | None = None) -> Dataset:
    """The files of the Delta table at an address, read by Arrow's own file systems: threads that still hold a file of
    delta-rs, a Python object, when the interpreter ends abort the whole process now and then."""
    local = "://" not in place
    system = fs.SubTreeFileSystem(os.path.abspath(place), fs.LocalFileSystem()) if local else s3.arrow(place)
    return (table or open_table(place)).to_pyarrow_dataset(filesystem=system)


def open_rows(place: str) -> Dataset:
    """The Delta table, the Parquet file or the folder of such files at an address."""
    if not os.path.isfile(place) and is_table(place):
        return open_dataset(place)
    if files.is_local(place):
        return dataset.dataset(place, format="parquet")
    folder, _, name = place.rstrip("/").rpartition("/")
    return dataset.dataset(name, format="parquet", filesystem=s3.arrow(folder))


def write(place: str, rows: pa.RecordBatchReader, partition_by: list[str] | None, **how: Any) -> None:
    """Commit rows to the table at an address, which is made if there is none, partitioned so; `how` is delta-rs's."""
    begun = False

    def read() -> Iterator[pa.RecordBatch]:
        nonlocal begun
        for batch in rows:
            begun = True
            yield batch

    def commit() -> None:
        # An address would do, but delta-rs gives up where a body breaks off while it opens the table there.
        found = open_table(place) if is_table(place) else None
        data = pa.RecordBatchReader.from_batches(rows.schema, read())
        write_deltalake(found or place, data, partition_by=None if found else partition_by, **how)

    _patiently(place, commit, lambda: not begun)


def _patiently(place: str, work: Callable[[], T], again: Callable[[], bool] = lambda: True) -> T:
    """delta-rs asks again where a request fails, but not where a body breaks off."""
    if "://" not in place:
        return work()

    def attempt() -> T:
        try:
            return work()
        except OSError as error:
            if "reading a body" in str(error) and again():
                raise BrokenOffError("a body broke off") from error
            raise

    s3.allow_http()
    with files.told(place):
        return persistently(attempt)
