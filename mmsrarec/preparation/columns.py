"""Columns of the user's files: which one is meant, and its values as the types we need.

An input row keeps its original content as JSON beside the cleaned columns until it is known to be good. No row is
judged here; see catalog.py and interactions.py.
"""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import (
    ArrayType,
    BinaryType,
    DataType,
    DecimalType,
    DoubleType,
    FloatType,
    IntegralType,
    MapType,
    StringType,
    StructType,
)

from mmsrarec.config import Config
from mmsrarec.errors import InputError
from mmsrarec.storage import inputs
from mmsrarec.storage.runs import MAX_ROW_CHARS


class Columns:
    """The columns of one input, items or interactions, under our names."""

    def __init__(self, rows: DataFrame, config: Config, table: str):
        self.types = {field.name: field.dataType for field in rows.schema.fields}
        self.source = inputs.source(config, table)
        self._config, self._table = config, table

    def theirs(self, ours: str) -> str | None:
        """The name in the file: the mapped one where the file has it, else our own, else None."""
        return inputs.theirs(ours, self.types, inputs.mapping(self._config, self._table))

    def require(self, ours: str) -> str:
        """As `theirs`, or InputError."""
        return inputs.required(self._config, self._table, ours, list(self.types))

    def identifier(self, ours: str) -> Column:
        """A required id as a string; null where it is null, empty or not a number at all."""
        name = self.require(ours)
        kind, value = self.types[name], quoted(name)
        if isinstance(kind, ArrayType | MapType | StructType):
            raise InputError(
                f"{self.source}: column {name} ({ours}) holds {kind.simpleString()}, expected text or numbers"
            )
        return F.nullif(_text_of(value, kind), F.lit(""))

    def text(self, ours: str) -> Column:
        """An optional column as text without blanks around it; null where it is absent or blank."""
        name = self.theirs(ours)
        if name is None:
            return F.lit(None).cast("string")
        return F.nullif(F.trim(_text_of(quoted(name), self.types[name])), F.lit(""))


def quoted(name: str) -> Column:
    """A column by its exact name, dots and quotes included."""
    return F.col("`" + name.replace("`", "``") + "`")


def whole(rows: DataFrame) -> Column:
    """An input row as it came, bytes left out; JSON is made of it only where it is rejected."""
    kept = [field.name for field in rows.schema.fields if not isinstance(field.dataType, BinaryType)]
    return F.struct(*map(quoted, kept))


def row_json(name: str) -> Column:
    """The column `name`, made by `whole`, as JSON for `rejects`, cut."""
    return F.substring(F.to_json(name, {"ignoreNullFields": "false"}), 1, MAX_ROW_CHARS)


def _text_of(value: Column, kind: DataType) -> Column:
    """Any type as valid UTF-8: 1.0 is "1", a list is joined by commas, what has parts is JSON."""
    if isinstance(kind, FloatType | DoubleType):
        return _number_text(value.cast("double"))
    if isinstance(kind, DecimalType):
        return F.regexp_replace(value.cast("string"), r"\.0*$", "") if kind.scale else value.cast("string")
    if isinstance(kind, ArrayType) and isinstance(kind.elementType, StringType | IntegralType):
        return F.make_valid_utf8(F.array_join(value.cast("array<string>"), ", "))
    if isinstance(kind, ArrayType | MapType | StructType):
        return F.make_valid_utf8(F.to_json(value))
    return F.make_valid_utf8(value.cast("string"))


def _number_text(value: Column) -> Column:
    """Columns of whole numbers with gaps arrive as doubles: 1.0 means "1"."""
    whole = (value == F.floor(value)) & (F.abs(value) < 2.0**53)
    return F.when(F.isnan(value), None).when(whole, value.cast("bigint").cast("string")).otherwise(value.cast("string"))
