"""A table of the user's through Arrow: Delta, Parquet or CSV, on this machine or at s3://, opened as build_cf opens it.

On S3 the usual AWS variables hold: AWS_ACCESS_KEY_ID and its kin, AWS_REGION, AWS_ENDPOINT_URL.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pyarrow as pa
from pyarrow import csv, dataset, fs

from mmsrarec.config import Config
from mmsrarec.errors import InputError
from mmsrarec.intake import dialect
from mmsrarec.intake.dialect import Dialect
from mmsrarec.storage import delta, inputs

HEAD = 1 << 20  # bytes from which a file's encoding, delimiter and header are read
BATCH_ROWS = 65_536
ANSWER_SECONDS = 10.0  # that an object store may take


class Table:
    """inputs.items or inputs.interactions. Raises InputError where it cannot be read; opening it reads no row.

    `ragged` counts the rows of a CSV file, of those read so far, with more or fewer values than the header.
    """

    def __init__(self, config: Config, table: str):
        self.name, self.place = table, getattr(config.inputs, table)
        self.source = inputs.source(config, table)
        self.ragged = 0
        self._csv: Dialect | None = None
        with readable(self.source):
            self.files = files(self.place, self.source)
            self.delta = is_delta(self.place)
            if self.delta:
                self._data = delta.open_dataset(self.place)
            elif inputs.kind(names(self.files), config, table) == ".parquet":
                self._data = _parquet(self.place)
            else:
                encoding = getattr(config.inputs.csv, table).encoding
                self._csv = Dialect(encoding, inputs.delimiter(names(self.files), config, table))
            self.schema = self._header(self._csv) if self._csv else self._data.schema
        if not self.schema.names:
            raise InputError(f"{self.source}: the file is empty")

    @property
    def kind(self) -> str:
        """For people: Delta, Parquet, or CSV and how it is written."""
        if self.delta or not self._csv:
            return "Delta" if self.delta else "Parquet"
        return f"CSV, {'tab' if self._csv.delimiter == chr(9) else repr(self._csv.delimiter)}, {self._csv.encoding}"

    @property
    def bytes(self) -> int:
        return sum(file.size or 0 for file in self.files)

    def rows(self) -> int | None:
        """Rows of the whole table; None for CSV, where all of it would have to be read."""
        with readable(self.source):
            return None if self._csv else self._data.count_rows()

    def batches(self, columns: list[str], most: int) -> Iterator[pa.RecordBatch]:
        """The first `most` rows; values of a CSV file are text."""
        left = most
        with readable(self.source):
            found = self._csv_batches(self._csv, columns) if self._csv else self._data.to_batches(columns, **_SIZES)
            for batch in found:
                if batch.num_rows:
                    yield batch.slice(0, left)
                left -= batch.num_rows
                if left <= 0:
                    return

    def _header(self, written: Dialect) -> pa.Schema:
        """Names as Spark gives them: one that is empty or there twice gets its number."""
        text = dialect.decoded(head(self.files[0], self.place), written.encoding)
        found = dialect.records(text, written.delimiter, 1)
        given = found[0] if found else []
        small = [name.lower() for name in given]
        twice = {name for name in small if small.count(name) > 1}
        numbered = [
            f"_c{number}" if not name else f"{name}{number}" if name.lower() in twice else name
            for number, name in enumerate(given)
        ]
        return pa.schema([(name, pa.string()) for name in numbered])

    def _csv_batches(self, written: Dialect, columns: list[str]) -> Iterator[pa.RecordBatch]:
        read = csv.ReadOptions(
            column_names=self.schema.names, skip_rows_after_names=1, encoding=written.encoding, block_size=HEAD
        )
        parse = csv.ParseOptions(
            delimiter=written.delimiter, newlines_in_values=True, invalid_row_handler=self._count_ragged
        )
        convert = csv.ConvertOptions(
            column_types=dict.fromkeys(self.schema.names, pa.binary()), include_columns=columns,
            null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=True,
        )  # fmt: skip
        system, _ = locate(self.place)
        for file in self.files:
            with system.open_input_stream(file.path) as stream, csv.open_csv(stream, read, parse, convert) as reader:
                yield from (_as_text(batch) for batch in reader)

    def _count_ragged(self, row: csv.InvalidRow) -> str:
        self.ragged += 1
        return "skip"


_SIZES = {"batch_size": BATCH_ROWS, "batch_readahead": 2, "fragment_readahead": 1}


def is_delta(place: str) -> bool:
    """Is there a log of Delta's? Not asked of delta-rs, which takes minutes where a store does not answer."""
    system, path = locate(place)
    log = system.get_file_info(fs.FileSelector(f"{path}/_delta_log", allow_not_found=True))
    return any(file.extension in ("json", "parquet") for file in log)


def files(place: str, source: str) -> list[fs.FileInfo]:
    """The files at or under an address that count; raises InputError where there is none."""
    system, path = locate(place)
    with readable(source):
        found = system.get_file_info(path)
        if found.type == fs.FileType.NotFound:
            raise InputError(f"{source}: no such file or folder (relative paths start at {os.getcwd()})")
        if found.type == fs.FileType.File:
            return [found]
        under = system.get_file_info(fs.FileSelector(path, recursive=True))
    kept = [file for file in under if file.is_file and not _hidden(file.path.removeprefix(path))]
    if not kept:
        raise InputError(f"{source}: the folder is empty")
    return sorted(kept, key=lambda file: file.path)


def _hidden(path: str) -> bool:
    """As Spark has it; _day=1 is a partition."""
    return any(part.startswith(".") or (part.startswith("_") and "=" not in part) for part in path.split("/"))


def names(found: list[fs.FileInfo]) -> list[str]:
    return [file.base_name for file in found]


def locate(place: str) -> tuple[fs.FileSystem, str]:
    """The file system of an address and the path there."""
    if not place.startswith("s3://"):
        return fs.LocalFileSystem(), os.path.abspath(place)
    found = urlsplit(endpoint())
    own = {"scheme": found.scheme, "endpoint_override": found.netloc} if found.netloc else {}
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or ("us-east-1" if own else None)
    system = fs.S3FileSystem(
        region=region,
        connect_timeout=ANSWER_SECONDS,
        request_timeout=ANSWER_SECONDS,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=2),
        **own,
    )
    return system, place.removeprefix("s3://").rstrip("/")


def endpoint() -> str:
    """Where S3 is, if not at Amazon; else ''."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""


def head(file: fs.FileInfo, place: str) -> bytes:
    """The first part of a file, unpacked where its name says .gz or .zst."""
    system, _ = locate(place)
    with system.open_input_stream(file.path) as stream:
        return stream.read(HEAD)


@contextmanager
def readable(source: str) -> Iterator[None]:
    """Turn what Arrow and delta-rs say about a broken file or store into an InputError."""
    try:
        yield
    except InputError:
        raise
    except (OSError, pa.ArrowException, LookupError, ValueError, delta.DeltaError) as error:
        raise InputError(f"{source}: cannot be read: {' '.join(str(error).split())[:500]}") from None


def _parquet(place: str) -> dataset.Dataset:
    system, path = locate(place)
    return dataset.dataset(path, filesystem=system, format="parquet", partitioning="hive")


def _as_text(batch: pa.RecordBatch) -> pa.RecordBatch:
    columns = [as_text(column) for column in batch.columns]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def as_text(values: pa.Array) -> pa.Array:
    """Bytes as UTF-8; what is not valid becomes U+FFFD, as it does in Spark."""
    try:
        text = values.cast(pa.string())
        text.validate(full=True)  # a column of text may hold any bytes, too
        return text
    except pa.ArrowInvalid:
        raw = values.cast(pa.binary()).to_pylist()
        return pa.array([value if value is None else value.decode(errors="replace") for value in raw], pa.string())
