"""Columns of the user's files: which one is meant, and its values as the types we need.

An input row keeps its original content as JSON beside the cleaned columns until it is known to be good. No row is
judged here; see catalog.py and interactions.py.
"""

import difflib

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
from mmsrarec.storage.runs import MAX_ROW_CHARS

MAX_ID_CHARS = 1024
OURS = ("user_id", "item_id", "timestamp", "title", "description", "image", "category", "available")


def check_mapping(config: Config, items: DataFrame, interactions: DataFrame) -> None:
    """Every pair of inputs.columns must name a column of ours, and one that a file has."""
    known = dict.fromkeys([*OURS, *config.inputs.text])
    found = dict.fromkeys([*items.columns, *interactions.columns])
    for ours, theirs in config.inputs.columns.items():
        if ours not in known:
            raise InputError(f"inputs.columns.{ours}: not a column of ours{_near(ours, known)} (ours: {_list(known)})")
        if theirs not in found:
            raise InputError(
                f"inputs.columns.{ours}={theirs}: neither inputs.items={config.inputs.items} nor "
                f"inputs.interactions={config.inputs.interactions} has a column {theirs}{_near(theirs, found)}; "
                f"found {_list(found)}"
            )


class Columns:
    """The columns of one input under our names."""

    def __init__(self, rows: DataFrame, config: Config, setting: str):
        self.types = {field.name: field.dataType for field in rows.schema.fields}
        self.mapping = config.inputs.columns
        self.source = f"{setting}={getattr(config.inputs, setting.removeprefix('inputs.'))}"

    def theirs(self, ours: str) -> str | None:
        """The name in the file: the mapped one where the file has it, else our own, else None."""
        for name in (self.mapping.get(ours), ours):
            if name in self.types:
                return name
        return None

    def require(self, ours: str) -> str:
        """As `theirs`, or InputError."""
        name = self.theirs(ours)
        if name is None:
            near = difflib.get_close_matches(ours, self.types, n=1, cutoff=0.0)
            example = near[0] if near else "…"
            raise InputError(
                f"{self.source}: no column {ours}; found {_list(self.types)}. If one of them is meant, say so, for "
                f"example --set inputs.columns.{ours}={example}"
            )
        return name

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


def _near(name: str, names: dict) -> str:
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""


def _list(names: dict) -> str:
    shown = list(names)[:30]
    return ", ".join(shown) + (", …" if len(names) > len(shown) else "")
