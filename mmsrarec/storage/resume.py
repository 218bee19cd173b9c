"""The run that is not finished yet: the same command again goes on with it, under its run id, after what it completed.

A file in the lake names the run, what was asked of it, and the stages that are complete. It is the same command where
settings, date, inputs, model and stages are the same; any other command starts a run of its own, and with it the one
that was not finished is forgotten.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

from mmsrarec import __version__
from mmsrarec.config import Config
from mmsrarec.storage import tables
from mmsrarec.storage.runs import new_run_id

FILE = "unfinished.json"


class Run:
    """A run in progress. `done` are the stages that it completed before."""

    def __init__(self, config: Config, names: Iterable[str]):
        # A lake that is no local folder remembers nothing: there a run is always a new one.
        self._file = None if "://" in config.lake.root else Path(config.lake.root) / FILE
        asked = _asked(config, names)
        before = json.loads(self._file.read_text()) if self._file and self._file.exists() else {}
        resumed = before.get("asked") == asked
        self._state = before if resumed else {"run_id": new_run_id(), "asked": asked, "done": []}
        self.run_id: str = self._state["run_id"]
        self.done: tuple[str, ...] = tuple(self._state["done"])
        if resumed:
            _forget_rejects(config, self.run_id, self.done)
        else:
            self._write()

    def complete(self, name: str) -> None:
        """The stage's tables are committed; it is not run again."""
        self._state["done"].append(name)
        self._write()

    def finish(self) -> None:
        """Nothing is left to do, so the same command again is a new run."""
        if self._file:
            self._file.unlink(missing_ok=True)

    def _write(self) -> None:
        if self._file is None:
            return
        self._file.parent.mkdir(parents=True, exist_ok=True)
        draft = self._file.with_suffix(".part")
        draft.write_text(json.dumps(self._state))
        os.replace(draft, self._file)


def _asked(config: Config, names: Iterable[str]) -> str:
    """Hash of everything that decides what the run will do."""
    places = (config.inputs.items, config.inputs.interactions, config.model_path)
    seen = [list(_files(place)) for place in places]
    parts = [__version__, config.model_dump(mode="json"), config.run.run_date, list(names), seen]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _files(place: str) -> Iterable[tuple[str, int, int]]:
    """Path, size and time of a local file, or of all files in a local folder."""
    paths = [place] if os.path.isfile(place) else [str(path) for path in Path(place).rglob("*") if path.is_file()]
    for path in sorted(paths):
        found = os.stat(path)
        yield path, found.st_size, found.st_mtime_ns


def _forget_rejects(config: Config, run_id: str, done: tuple[str, ...]) -> None:
    """Stages that are run again name their rejects again."""
    kept = "".join(f" AND stage != '{name}'" for name in done)
    tables.delete(config.lake.root, "rejects", f"run_id = '{run_id}'{kept}")
