"""Rows of several tables, gathered side by side on disk, so that each can then be committed by one streaming write."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from mmsrarec.schemas import TABLES
from mmsrarec.storage.scratch import Scratch


class Spool:
    """One Arrow file per table in a temporary folder; use as a context manager. Write first, then read."""

    def __init__(self, *names: str):
        self._names = names
        self.rows: Counter = Counter()

    def __enter__(self) -> "Spool":
        self._folder = Scratch("spool")
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        self._writers = {
            name: pa.ipc.new_stream(str(self._file(name)), TABLES[name], options=options) for name in self._names
        }
        return self

    def __exit__(self, *_: object) -> None:
        try:
            for writer in self._writers.values():
                writer.close()
        finally:
            self._folder.close()

    def write(self, name: str, rows: pa.Table) -> None:
        self._writers[name].write_table(rows)
        self.rows[name] += rows.num_rows

    def batches(self, name: str) -> Iterator[pa.RecordBatch]:
        """All rows of the table, in the order written; nothing can be written to it any more."""
        self._writers[name].close()
        with pa.ipc.open_stream(str(self._file(name))) as reader:
            yield from reader

    def _file(self, name: str) -> Path:
        return self._folder.path / f"{name}.arrow"
