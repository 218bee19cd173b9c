"""Delta tables through Arrow (delta-rs): reading, writing, comparing and swapping. The Spark side is storage/spark.py;
both write the same plain protocol. What keeps tables small is upkeep.py.

A table that does not exist yet reads as an empty one with its schema, so a first night needs no special case.
`name` is always a key of schemas.TABLES, `root` the lake root.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import DeltaError
from pyarrow.dataset import Dataset
from pyarrow.parquet import filters_to_expression

from mmsrarec.schemas import KEYS, PARTITIONS, TABLES
from mmsrarec.storage import guard
from mmsrarec.storage.delta import is_table, named, open_dataset, open_table, write

# What keeps a table readable by every reader (see schemas.py).
PROPERTIES = {"delta.enableDeletionVectors": "false"}
# Of a table that is swapped every minute: nobody asks what it said last week.
SHORT_MEMORY = {
    "delta.logRetentionDuration": "interval 1 days",
    "delta.deletedFileRetentionDuration": "interval 1 days",
}


@dataclass(frozen=True)
class Commit:
    """The run behind a commit, and what makes it happen once: a table remembers the last `number` of each work of a
    run, and what comes with this number or an earlier one is a replay and is skipped. Numbers ascend.

    Delta itself only records this, as an application transaction.
    """

    run_id: str
    work: str
    number: int

    @property
    def writer(self) -> str:
        return f"{self.run_id}/{self.work}"


def address(root: str, name: str) -> str:
    """Where the table is."""
    return f"{root.rstrip('/')}/{name}"


def exists(root: str, name: str) -> bool:
    return is_table(address(root, name))


def version(root: str, name: str) -> int | None:
    """Delta version of the table, None where there is none."""
    return open_table(address(root, name)).version() if exists(root, name) else None


def read(root: str, name: str, columns: list[str] | None = None, filters: list | None = None) -> pa.Table:
    """The whole table, or some columns and rows of it (`filters` as in pyarrow: [("user_id", "=", "7")])."""
    schema = _schema(name, columns)
    if not exists(root, name):
        return schema.empty_table()
    rows = filters_to_expression(filters) if filters else None
    with named(address(root, name)):
        return _dataset(root, name).to_table(columns=schema.names, filter=rows).cast(schema)


def count(root: str, name: str, filters: list | None = None) -> int:
    """Rows of the table, or of those that `filters` (as in `read`) select."""
    return read(root, name, list(KEYS[name][:1]), filters).num_rows


def stream(
    root: str,
    name: str,
    columns: list[str] | None = None,
    batch_rows: int = 8192,
    filters: list | None = None,
) -> Iterator[pa.RecordBatch]:
    """The table as batches of at most `batch_rows` rows, in no particular order; memory stays at a few batches."""
    schema = _schema(name, columns)
    if not exists(root, name):
        return
    rows = filters_to_expression(filters) if filters else None
    options = {"columns": schema.names, "filter": rows, "batch_size": batch_rows, "batch_readahead": 2}
    with named(address(root, name)):
        for batch in _dataset(root, name).to_batches(**options):
            if batch.num_rows:
                yield pa.Table.from_batches([batch]).cast(schema).combine_chunks().to_batches()[0]


def replace(
    root: str,
    name: str,
    data: pa.Table | Iterable[pa.RecordBatch],
    predicate: str | None = None,
    commit: Commit | None = None,
) -> None:
    """Put `data` in the place of the whole table, or of the rows that `predicate` (SQL) selects, in one commit."""
    if commit and committed(root, name, commit):
        return
    _write(root, name, data, "overwrite", predicate if exists(root, name) else None, commit)


def append(root: str, name: str, data: pa.Table | Iterable[pa.RecordBatch], commit: Commit | None = None) -> None:
    """Add rows in one commit; nothing is committed where there are none."""
    if (isinstance(data, pa.Table) and data.num_rows == 0) or (commit and committed(root, name, commit)):
        return
    _write(root, name, data, "append", commit=commit)


def delete(root: str, name: str, predicate: str, commit: Commit | None = None) -> None:
    """Take away the rows that `predicate` selects, in one commit. The predicate stays readable in the table's log."""
    if not exists(root, name) or (commit and committed(root, name, commit)):
        return
    # A DELETE of delta-rs would leave files with strings of a type that Arrow cannot filter together with ours.
    _write(root, name, TABLES[name].empty_table(), "overwrite", predicate, commit)


def committed(root: str, name: str, commit: Commit) -> bool:
    """Is this commit, or a later one of the same work of the run, in the table already?"""
    return last_committed(root, name, commit.writer) >= commit.number


def last_committed(root: str, name: str, writer: str) -> int:
    """Number of the last commit of this writer (Commit.writer) in the table, -1 where there is none."""
    found = open_table(address(root, name)).transaction_version(writer) if exists(root, name) else None
    return -1 if found is None else found


def spans(column: str, values: pa.ChunkedArray, rows: int) -> Iterator[list[tuple]]:
    """Filters (as in `read`) that cut all there can be in `column` into ranges, ascending, with `rows` of the different
    `values` in each."""
    ordered = values.take(pc.array_sort_indices(values))
    for start in range(0, len(ordered), rows):
        first = [(column, ">=", ordered[start].as_py())] if start else []
        last = [(column, "<", ordered[start + rows].as_py())] if start + rows < len(ordered) else []
        yield [*first, *last]


def partitions(root: str, name: str) -> list[str]:
    """Values of the column that the table is partitioned by, ascending; reads no row."""
    (column,) = PARTITIONS[name]
    found = open_table(address(root, name)).partitions() if exists(root, name) else []
    return sorted({partition[column] for partition in found})


def snapshot(root: str, name: str) -> tuple[int | None, pa.Table]:
    """The Delta version of the table (None where there is none) and all its rows at that version."""
    if not exists(root, name):
        return None, TABLES[name].empty_table()
    table = open_table(address(root, name))
    return table.version(), _dataset(root, name, table).to_table().cast(TABLES[name])


def read_before(
    root: str, name: str, time: datetime, columns: list[str] | None = None, filters: list | None = None
) -> pa.Table | None:
    """What `read` would have returned at that time; None where there was no table, or its files are gone by now."""
    if not exists(root, name):
        return None
    table = open_table(address(root, name))
    milliseconds = time.timestamp() * 1000
    old = [commit["version"] for commit in table.history() if commit["timestamp"] < milliseconds]
    if not old:
        return None
    schema = _schema(name, columns)
    rows = filters_to_expression(filters) if filters else None
    try:
        then = open_table(address(root, name), max(old))
        return _dataset(root, name, then).to_table(columns=schema.names, filter=rows).cast(schema)
    except (DeltaError, FileNotFoundError):
        return None


def swap(root: str, name: str, rows: pa.Table, seen: int | None) -> bool:
    """Put `rows` in the place of the whole table if it is still as at version `seen`; False where another was faster.

    Of any number of writers that saw the same version exactly one gets True, on every store that delta-rs commits to.
    It needs rows on both sides: two replacements of nothing would not be in each other's way.
    """
    place = address(root, name)
    try:
        write_deltalake(
            place if seen is None else open_table(place, seen),
            rows.cast(TABLES[name]),
            mode="error" if seen is None else "overwrite",
            configuration=PROPERTIES | SHORT_MEMORY,
            commit_properties=CommitProperties(max_commit_retries=0),
        )
    except DeltaError:
        if version(root, name) == seen:  # nobody else was there, so the store has another trouble
            raise
        return False
    return True


def from_rows(name: str, rows: list[dict]) -> pa.Table:
    """Rows as dictionaries to a table with the schema of `name`; a missing key becomes null."""
    return pa.Table.from_pylist(rows, schema=TABLES[name])


def _dataset(root: str, name: str, table: DeltaTable | None = None) -> Dataset:
    """A column that came into the schema after the table was written is null."""
    found = open_dataset(address(root, name), table)
    missing = [field for field in TABLES[name] if field.name not in found.schema.names]
    return found.replace_schema(pa.schema([*found.schema, *missing])) if missing else found


def _write(
    root: str,
    name: str,
    data: pa.Table | Iterable[pa.RecordBatch],
    mode: str,
    predicate: str | None = None,
    commit: Commit | None = None,
) -> None:
    schema = TABLES[name]
    guard.check(root)
    if isinstance(data, pa.Table):
        data = data.select(schema.names).cast(schema).to_batches()
    # A whole table gets the columns that we know today, whatever it had; one that keeps rows those that it lacks.
    whole = mode == "overwrite" and predicate is None
    how: dict[str, Any] = {"mode": mode, "predicate": predicate, "schema_mode": "overwrite" if whole else "merge"}
    with named(address(root, name)):
        write(
            address(root, name),
            pa.RecordBatchReader.from_batches(schema, data),
            PARTITIONS.get(name),
            **how,
            configuration=PROPERTIES,
            commit_properties=_properties(commit),
        )


def _properties(commit: Commit | None) -> CommitProperties | None:
    if commit is None:
        return None
    mark = Transaction(commit.writer, commit.number)
    return CommitProperties({"run_id": commit.run_id, "work": commit.work}, app_transactions=[mark])


def _schema(name: str, columns: list[str] | None) -> pa.Schema:
    schema = TABLES[name]
    return schema if columns is None else pa.schema([schema.field(column) for column in columns])
