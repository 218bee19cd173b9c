"""Answers of one stage by key, in a file on disk: tens of millions fit, whatever the memory.

answers.ask(keys)      what the stage wants to know; a key that was asked before is not asked twice
answers.recall(...)    fills in what the `answers` table knows already
answers.missing(keys)  what is left for an engine
answers.get(key)       the answer
"""

import json
import sqlite3
from collections.abc import Collection, Iterable, Iterator
from dataclasses import astuple, fields
from itertools import chain

import pyarrow as pa

from mmsrarec.engines.types import Answer
from mmsrarec.storage import tables
from mmsrarec.storage.scratch import Scratch
from mmsrarec.storage.spool import Spool

COLUMNS = [field.name for field in fields(Answer)]


class Answers:
    """Lives as long as the object does; the file goes with it."""

    def __init__(self) -> None:
        self._folder = Scratch("answers")
        self._base = sqlite3.connect(self._folder.path / "answers.sqlite", isolation_level=None)
        # A scratch file: nothing in it must survive a crash.
        self._base.execute("PRAGMA journal_mode = OFF")
        self._base.execute("PRAGMA synchronous = OFF")
        columns = ", ".join(f"{name} PRIMARY KEY" if name == "key" else name for name in COLUMNS)
        self._base.execute(f"CREATE TABLE answers ({columns}) WITHOUT ROWID")

    def ask(self, keys: list[str]) -> list[bool]:
        """Note that these are wanted; True where a key is new."""
        before = self._chosen("", keys)
        self._base.executemany("INSERT OR IGNORE INTO answers (key) VALUES (?)", [(key,) for key in keys])
        new = []
        for key in keys:
            new.append(key not in before)
            before.add(key)
        return new

    def recall(self, root: str, kinds: Collection[str], period: str | None = None, learned: str | None = None) -> int:
        """Take over what the table of the lake at `root` knows of the keys asked, all of `kinds`, then what that of the
        lake at `learned` knows; how many those are.

        What is known from an earlier period only, or by the other lake, is copied to `period`, since it is in use here;
        without a period nothing is written.
        """
        if not kinds:
            return 0
        of_kinds = ("kind", "in", sorted(kinds))
        others = self._taken(learned, [of_kinds]) if learned else iter(())
        if period is None:
            return sum(map(len, chain(self._taken(root, [of_kinds]), others)))
        found = sum(map(len, self._taken(root, [of_kinds, ("period", "=", period)])))
        with Spool("answers") as spool:
            for rows in chain(self._taken(root, [of_kinds, ("period", "<", period)]), others):
                spool.write("answers", rows.set_column(0, "period", pa.array([period] * len(rows))))
            if spool.rows["answers"]:
                tables.append(root, "answers", spool.batches("answers"))
            return found + spool.rows["answers"]

    def _taken(self, root: str, filters: list) -> Iterator[pa.Table]:
        """Rows of the table that answer what has no answer yet, put in."""
        for batch in tables.stream(root, "answers", filters=filters):
            wanted = self._chosen("AND kind IS NULL", batch["key"].to_pylist())
            if wanted:
                # A key may come twice, from two earlier periods.
                rows = {row["key"]: row for row in batch.to_pylist() if row["key"] in wanted}.values()
                self.put(Answer(**{column: row[column] for column in COLUMNS}) for row in rows)
                yield tables.from_rows("answers", list(rows))

    def missing(self, keys: list[str]) -> set[str]:
        """Those of the asked keys that have no answer yet."""
        return self._chosen("AND kind IS NULL", keys)

    def put(self, answers: Iterable[Answer]) -> None:
        marks = ", ".join("?" * len(COLUMNS))
        rows = [astuple(answer) for answer in answers]
        self._base.execute("BEGIN")
        self._base.executemany(f"INSERT OR REPLACE INTO answers ({', '.join(COLUMNS)}) VALUES ({marks})", rows)
        self._base.execute("COMMIT")

    def get(self, key: str | None) -> Answer | None:
        """None for None and for a key that has no answer. An answer with `error` is there, too."""
        row = self._base.execute("SELECT * FROM answers WHERE key = ? AND kind IS NOT NULL", (key,)).fetchone()
        return Answer(*row) if row else None

    def _chosen(self, condition: str, keys: list[str]) -> set[str]:
        query = f"SELECT key FROM answers WHERE key IN (SELECT value FROM json_each(?)) {condition}"
        return {key for (key,) in self._base.execute(query, (json.dumps(keys),))}
