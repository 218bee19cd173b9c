"""The run that is not finished yet: the same command again goes on with it, under its run id, after what it completed.

A file in the lake names the run and what was asked of it; which of its stages are complete, the ledger says. It is the
same command where settings, date, inputs, model, code and stages are the same; any other run is one of its own, and
with it the one that was not finished is forgotten.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import astuple
from itertools import dropwhile

from mmsrarec.config import Config
from mmsrarec.storage import files, guard, lock, runs, tables

FILE = "unfinished.json"


class Run:
    """Some stages in order, new or gone on with; nothing is written before `begin`."""

    def __init__(self, config: Config, names: Iterable[str]):
        self.config, self.names = config, tuple(names)
        self._file = config.table(FILE)
        self._asked = _asked(config, self.names)
        before = json.loads(files.read(self._file) or "{}")
        # One that is under way somewhere is not gone on with: the lock will refuse this one. It may be this very run's
        # own dead attempt, where run.id says so: the lock knows.
        holder = lock.holder(config.lake.root)
        free = holder is None or holder.run_id == config.run.id
        self._resumed = before.get("asked") == self._asked and free
        self.run_id: str = before["run_id"] if self._resumed else config.run.id or runs.new_run_id()

    def begin(self) -> list[str]:
        """The stages that are left to do. Whoever calls it holds the lake."""
        if not self._resumed:
            self._write()
            return list(self.names)
        rows = runs.ledger(self.config, self.run_id)
        done = {row["stage"] for row in rows if row["status"] == "completed"}
        left = list(dropwhile(lambda name: name in done, self.names))
        for name in left:  # it names its rejects again
            tables.delete(self.config.lake.root, "rejects", f"run_id = '{self.run_id}' AND stage = '{name}'")
        return left

    def finish(self) -> None:
        """Nothing is left to do, so the same command again is a new run."""
        files.delete(self._file)

    def _write(self) -> None:
        guard.check(self.config.lake.root)
        files.write(self._file, json.dumps({"run_id": self.run_id, "asked": self._asked}).encode())


def _asked(config: Config, names: tuple[str, ...]) -> str:
    """Hash of everything that decides what the run will do."""
    rules, inputs = config.rules, config.inputs
    places = inputs.items, inputs.interactions, config.model_path, rules.exclude_items_file, rules.exclude_users_file
    seen = [_seen(place) for place in places if place]
    settings = config.model_dump(mode="json", exclude={"spark": {"master"}, "engine": {"address"}})  # a cluster may go
    parts = [runs.code_version(), settings, config.run.run_date, names, seen]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _seen(place: str) -> list[tuple[str, int, str]]:
    """Name, size and version of a file, or of all files in a folder."""
    if not files.known(place):
        return []
    one = files.find(place)
    return [astuple(file) for file in ([one] if one else files.listing(place))]
