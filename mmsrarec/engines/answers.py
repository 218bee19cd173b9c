"""Answers of one stage by key, in a file on disk: tens of millions fit, whatever the memory.

answers.ask(keys)      what the stage wants to know; a key that was asked before is not asked twice
answers.recall(root)   fills in what the `answers` table knows already
answers.missing(keys)  what is left for an engine
answers.get(key)       the answer
"""

import json
import sqlite3
import tempfile
from collections.abc import Iterable
from dataclasses import astuple, fields
from pathlib import Path

import pyarrow as pa

from mmsrarec.engines.types import Answer
from mmsrarec.storage import tables

COLUMNS = [field.name for field in fields(Answer)]


class Answers:
    """Lives as long as the object does; the file goes with it."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="mmsrarec-answers-")
        self._base = sqlite3.connect(Path(self._folder.name) / "answers.sqlite", isolation_level=None)
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

    def recall(self, root: str) -> int:
        """Take over what the `answers` table of the lake at `root` knows of the keys asked; how many those are."""
        found = 0
        for batch in tables.stream(root, "answers", COLUMNS):
            asked = self._chosen("AND kind IS NULL", batch["key"].to_pylist())
            if asked:
                known = batch.filter(pa.array(key in asked for key in batch["key"].to_pylist()))
                self.put(Answer(**row) for row in known.to_pylist())
                found += len(asked)
        return found

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
