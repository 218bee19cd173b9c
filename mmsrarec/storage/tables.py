"""Delta tables through Arrow (delta-rs). The Spark side is storage/spark.py; both write the same plain protocol.

A table that does not exist yet reads as an empty one with its schema, so a first night needs no special case.
`name` is always a key of schemas.TABLES, `root` the lake root.
"""

import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from pyarrow import fs
from pyarrow.dataset import Dataset
from pyarrow.parquet import filters_to_expression

from mmsrarec.schemas import KEYS, PARTITIONS, TABLES

# What keeps a table readable by every reader (see schemas.py).
PROPERTIES = {"delta.enableDeletionVectors": "false"}


class Mark(NamedTuple):
    """What makes a commit happen once: the table remembers the last `number` of each `writer`. Numbers ascend."""

    writer: str
    number: int


def address(root: str, name: str) -> str:
    """Where the table is."""
    return f"{root.rstrip('/')}/{name}"


def exists(root: str, name: str) -> bool:
    return DeltaTable.is_deltatable(address(root, name))


def version(root: str, name: str) -> int | None:
    """Delta version of the table, None where there is none."""
    return DeltaTable(address(root, name)).version() if exists(root, name) else None


def read(root: str, name: str, columns: list[str] | None = None, filters: list | None = None) -> pa.Table:
    """The whole table, or some columns and rows of it (`filters` as in pyarrow: [("user_id", "=", "7")])."""
    schema = _schema(name, columns)
    if not exists(root, name):
        return schema.empty_table()
    rows = filters_to_expression(filters) if filters else None
    return _dataset(root, name).to_table(columns=schema.names, filter=rows).cast(schema)


def count(root: str, name: str, filters: list | None = None) -> int:
    """Rows of the table, or of those that `filters` (as in `read`) select."""
    return read(root, name, list(KEYS[name][:1]), filters).num_rows


def stream(
    root: str, name: str, columns: list[str] | None = None, batch_rows: int = 8192, filters: list | None = None
) -> Iterator[pa.RecordBatch]:
    """The table as batches of at most `batch_rows` rows, in no particular order; memory stays at a few batches."""
    schema = _schema(name, columns)
    if not exists(root, name):
        return
    scan = {"filter": filters_to_expression(filters) if filters else None, "batch_size": batch_rows}
    for batch in _dataset(root, name).to_batches(columns=schema.names, batch_readahead=2, **scan):
        if batch.num_rows:
            yield pa.Table.from_batches([batch]).cast(schema).combine_chunks().to_batches()[0]


def replace(root: str, name: str, data: pa.Table | Iterable[pa.RecordBatch], predicate: str | None = None) -> None:
    """Put `data` in the place of the whole table, or of the rows that `predicate` (SQL) selects, in one commit."""
    _write(root, name, data, mode="overwrite", predicate=predicate if exists(root, name) else None)


def append(root: str, name: str, data: pa.Table | Iterable[pa.RecordBatch], mark: Mark | None = None) -> None:
    """Add rows in one commit; nothing is committed where there are none, or where the table has seen `mark`."""
    if isinstance(data, pa.Table) and data.num_rows == 0:
        return
    if mark and _marked(root, name, mark):
        return
    _write(root, name, data, mode="append", predicate=None, mark=mark)


def delete(root: str, name: str, predicate: str) -> None:
    """Delete the rows that `predicate` (SQL) selects; nothing is committed where there are none."""
    if exists(root, name):
        DeltaTable(address(root, name)).delete(predicate)


def spans(root: str, name: str, column: str, rows: int) -> Iterator[list[tuple]]:
    """Filters for `read` that cut a table into ranges of its key `column`, ascending, of `rows` values each."""
    values = read(root, name, [column])[column]
    values = values.take(pc.array_sort_indices(values))
    for start in range(0, len(values), rows):
        last = min(start + rows, len(values)) - 1
        yield [(column, ">=", values[start].as_py()), (column, "<=", values[last].as_py())]


def tidy(root: str, name: str, days: float) -> int:
    """Join small files into large ones, and delete those that the table has not needed for `days`; how many files."""
    if not exists(root, name):
        return 0
    table = DeltaTable(address(root, name))
    table.optimize.compact()
    options = {"retention_hours": int(24 * days), "enforce_retention_duration": False}
    old = table.vacuum(**options)
    if old:  # a vacuum of nothing would be a commit, too
        table.vacuum(**options, dry_run=False)
    table.cleanup_metadata()
    return len(old)


def from_rows(name: str, rows: list[dict]) -> pa.Table:
    """Rows as dictionaries to a table with the schema of `name`; a missing key becomes null."""
    return pa.Table.from_pylist(rows, schema=TABLES[name])


def _dataset(root: str, name: str) -> Dataset:
    """The table's files. Local ones are read by Arrow's own file system: threads that still hold a file of delta-rs,
    a Python object, when the interpreter ends abort the whole process now and then."""
    place = address(root, name)
    local = "://" not in place
    system = fs.SubTreeFileSystem(os.path.abspath(place), fs.LocalFileSystem()) if local else None
    return DeltaTable(place).to_pyarrow_dataset(filesystem=system)


def _marked(root: str, name: str, mark: Mark) -> bool:
    """Whether this commit, or a later one of the same writer, was made before. Delta records it and skips nothing."""
    before = DeltaTable(address(root, name)).transaction_version(mark.writer) if exists(root, name) else None
    return before is not None and before >= mark.number


def _write(
    root: str,
    name: str,
    data: pa.Table | Iterable[pa.RecordBatch],
    mode: str,
    predicate: str | None,
    mark: Mark | None = None,
) -> None:
    schema = TABLES[name]
    if isinstance(data, pa.Table):
        data = data.select(schema.names).cast(schema)
    else:
        data = pa.RecordBatchReader.from_batches(schema, data)
    write_deltalake(
        address(root, name),
        data,
        mode=mode,
        predicate=predicate,
        partition_by=None if exists(root, name) else PARTITIONS.get(name),
        configuration=PROPERTIES,
        commit_properties=CommitProperties(app_transactions=[Transaction(*mark)]) if mark else None,
    )


def _schema(name: str, columns: list[str] | None) -> pa.Schema:
    schema = TABLES[name]
    return schema if columns is None else pa.schema([schema.field(column) for column in columns])
