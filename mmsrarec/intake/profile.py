"""What the first rows of a table show about each of its columns; nothing is guessed here."""

import re
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc

from mmsrarec.intake import values
from mmsrarec.intake.sources import Table
from mmsrarec.storage.inputs import NUMBER

ROWS = 100_000  # that are looked at, of either file
ID_ROWS = 2_000_000  # of the items, of whose columns the ids are read
MAX_ID_MEAN = 64  # characters; what is longer on average is a text
_PICTURE = re.compile(r"\.(jpe?g|png|webp|gif|bmp|tiff?|avif|ppm)(\?.*)?$", re.IGNORECASE)
_YEAR_1990 = 631_152_000 * 10**6


@dataclass(eq=False)
class Column:
    """A column of the sample; `text` has what `values.trimmed` makes of it, nulls left out."""

    name: str
    kind: pa.DataType
    raw: pa.Array
    text: pa.Array
    known: pa.Array | None = None

    @property
    def ids(self) -> pa.Array:
        """The different values of more rows than the sample has, where they were read."""
        return self.distinct if self.known is None else self.known

    @cached_property
    def filled(self) -> float:
        return len(self.text) / max(len(self.raw), 1)

    @cached_property
    def distinct(self) -> pa.Array:
        return pc.unique(self.text)

    @cached_property
    def unique(self) -> float:
        """Different values per value."""
        return len(self.distinct) / max(len(self.text), 1)

    @cached_property
    def mean_length(self) -> float:
        return pc.mean(pc.utf8_length(self.text)).as_py() or 0.0

    @property
    def is_text(self) -> bool:
        return values.is_string(self.kind) or pa.types.is_list(self.kind) or pa.types.is_large_list(self.kind)

    @cached_property
    def all_numbers(self) -> bool:
        return bool(len(self.text)) and bool(pc.all(pc.match_substring_regex(self.text, NUMBER)).as_py())

    @cached_property
    def may_identify(self) -> bool:
        """Short text or whole numbers, of more than one value."""
        scalar = values.is_string(self.kind) or values.is_number(self.kind)
        fits = scalar and 1 < len(self.distinct) and self.mean_length <= MAX_ID_MEAN
        return fits and not (self.all_numbers and pc.any(pc.match_substring(self.text, ".")).as_py())

    @cached_property
    def times(self) -> float:
        """Share of the values that are times between 1990 and tomorrow, a number's magnitude telling its unit."""
        if not values.is_time(self.kind):
            return 0.0
        found = values.microseconds(self.raw)
        real = pc.and_(pc.greater(found, _YEAR_1990), pc.less(found, values.tomorrow()))
        return (pc.sum(real).as_py() or 0) / max(len(self.text), 1)

    @cached_property
    def picture_names(self) -> float:
        """Share of the first values that end as pictures do."""
        some = self.text[:1000].to_pylist()
        return sum(bool(_PICTURE.search(name)) for name in some) / max(len(some), 1)

    @cached_property
    def says_available(self) -> bool:
        """Can build_cf tell of every value whether it means yes or no?"""
        found = values.available(self.raw)
        return found is not None and found.null_count == 0

    def examples(self, most: int = 3) -> str:
        """The first different values, for a question."""
        return ", ".join(value if len(value) <= 24 else f"{value[:23]}…" for value in self.distinct[:most].to_pylist())


def columns(table: Table) -> tuple[list[Column], int]:
    """Every column, and the rows that were looked at."""
    batches = list(table.batches(table.schema.names, ROWS))
    sample = pa.Table.from_batches(batches) if batches else pa.schema(list(table.schema)).empty_table()
    found = []
    for name, column in zip(sample.column_names, sample.columns, strict=True):
        raw = column.combine_chunks() if not isinstance(column, pa.Array) else column
        raw = raw.dictionary_decode() if pa.types.is_dictionary(raw.type) else raw
        found.append(Column(name, raw.type, raw, values.trimmed(raw).drop_null()))
    return found, sample.num_rows


def widen(table: Table, found: list[Column]) -> None:
    """Read what may identify a row from ID_ROWS rows, so that the ids of a large catalog are all there."""
    chosen = [column for column in found if column.may_identify]
    parts: dict[str, list[pa.Array]] = {column.name: [] for column in chosen}
    for batch in table.batches(list(parts), ID_ROWS) if chosen else ():
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            parts[name].append(pc.unique(values.identifier(column)))
    for column in chosen:
        column.known = pc.unique(pa.chunked_array(parts[column.name], pa.string())).drop_null()
