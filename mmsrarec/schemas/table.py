"""What is said of a table, and the types and columns that many of them share."""

from dataclasses import dataclass, field

import pyarrow as pa

STRING, LONG, DOUBLE, BOOLEAN = pa.string(), pa.int64(), pa.float64(), pa.bool_()
STRINGS, LONGS, TIME = pa.list_(pa.string()), pa.list_(pa.int64()), pa.timestamp("us", tz="UTC")
VECTOR = pa.list_(pa.float32())


@dataclass(frozen=True)
class Table:
    """`meaning` says what a row is; `key` names one; `writers` are commands, none: every stage."""

    meaning: str
    key: tuple[str, ...]
    writers: tuple[str, ...]
    columns: dict[str, tuple[pa.DataType, str]]
    partitions: list[str] = field(default_factory=list)

    @property
    def schema(self) -> pa.Schema:
        return pa.schema([(column, kind) for column, (kind, _) in self.columns.items()])


RUN_ID = (STRING, "the run that wrote the row")
MODEL = (STRING, "`model` of the run")
VERSION = (STRING, "of the index and SASRec behind the row")
