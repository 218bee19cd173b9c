"""How often each value occurs in a column of a table of any size; memory follows the number of different values."""

import pyarrow as pa

BATCH_ROWS = 131_072
MERGE_ROWS = 2_000_000  # counts of parts are added up when there are so many


class Tally:
    """Counts of strings, added column by column; nulls are a value like any other."""

    def __init__(self) -> None:
        self._parts = [pa.table({"value": pa.array([], pa.string()), "count": pa.array([], pa.int64())})]
        self._rows = 0

    def add(self, column: pa.Array) -> None:
        counted = column.value_counts()
        self._parts.append(pa.table({"value": counted.field("values"), "count": counted.field("counts")}))
        self._rows += len(counted)
        if self._rows > MERGE_ROWS:
            self._parts = [self._merged()]
            self._rows = self._parts[0].num_rows

    def table(self) -> pa.Table:
        """`value` and `count`, the most frequent first, equals by value."""
        return self._merged().sort_by([("count", "descending"), ("value", "ascending")])

    def counts(self) -> dict[str, int]:
        """The same as a dictionary, for few values."""
        found = self.table()
        return dict(zip(found["value"].to_pylist(), found["count"].to_pylist(), strict=True))

    def _merged(self) -> pa.Table:
        summed = pa.concat_tables(self._parts).group_by("value").aggregate([("count", "sum")])
        return summed.rename_columns({"count_sum": "count"}).select(["value", "count"])
