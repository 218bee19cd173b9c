"""Two nights side by side, and a look at one that is not finished; for bench/chaos.py."""

import json
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from mmsrarec.schemas import KEYS, TABLES
from mmsrarec.storage import tables

TOLERANCE = 1e-5  # of p_yes and what is made of it: how requests are batched changes its last bits
# What is another in every run, or depends on how requests met in a batch.
VARY = {"run_id", "period", "seconds", "cached_tokens", "started_at", "finished_at", "notes", "versions"}


@dataclass
class Differences:
    """Rows of all tables: those of the undisturbed night that are missing, those too many, those that differ."""

    lost: int = 0
    doubled: int = 0
    different: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def any(self) -> bool:
        return bool(self.lost or self.doubled or self.different)

    def add(self, other: "Differences") -> None:
        self.lost += other.lost
        self.doubled += other.doubled
        self.different += other.different
        self.examples += other.examples


def compared(calm: Path, lake: Path) -> Differences:
    """The tables of `lake` against those of an undisturbed night. `locks` says who holds a lake, not what is in it."""
    found = Differences()
    for name in TABLES.keys() - {"locks", "runs"}:
        _compare(name, _rows(calm, name), _rows(lake, name), found)
    _compare("runs", _first_run(calm), _first_run(lake), found)
    return found


def leftovers(lake: Path) -> list[Path]:
    """What a finished night should not have left."""
    staged = list((lake / "staging").iterdir()) if (lake / "staging").exists() else []
    return [*staged, *lake.glob("*.part"), *lake.glob("unfinished.json"), *(lake / "models").rglob("*.part")]


class Reader:
    """Looks at the lake until its end, as someone who serves from it would: lists and answers that are not whole."""

    def __init__(self, lake: Path, calm: Path):
        self._root = str(lake)
        self._expected = len(_rows(calm, "recommendations"))
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.looks = self.half_visible = 0

    def __enter__(self) -> "Reader":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _look(self) -> None:
        seen: dict[str, int | None] = {}
        while not self._end.wait(0.5):
            for name in ("recommendations", "answers"):
                try:
                    version = tables.version(self._root, name)
                    if version is not None and version != seen.get(name):
                        seen[name] = version
                        self.looks += 1
                        self.half_visible += self._half(name)
                except Exception as error:  # whoever reads meets an error: that is no whole table either
                    print(f"  reader: {type(error).__name__}: {error}", flush=True)
                    self.half_visible += 1

    def _half(self, name: str) -> bool:
        rows = tables.read(self._root, name, list(KEYS[name]))
        doubled = rows.group_by(rows.column_names).aggregate([]).num_rows != rows.num_rows
        return doubled or (name == "recommendations" and rows.num_rows not in (0, self._expected))


def _rows(lake: Path | str, name: str) -> list[dict]:
    return tables.read(str(lake), name).to_pylist()


def _first_run(lake: Path) -> list[dict]:
    """The ledger of the first run: a command that was killed after that one had finished is, again, one of its own."""
    rows = _rows(lake, "runs")
    first = min(row["run_id"] for row in rows)
    return [row for row in rows if row["run_id"] == first]


def _compare(name: str, calm: list[dict], rows: list[dict], found: Differences) -> None:
    vary = VARY | ({"prompt_tokens", "output_tokens"} if name == "runs" else set())
    key = [column for column in KEYS[name] if column not in vary]
    before, after = (Counter(_key(row, key) for row in some) for some in (calm, rows))
    lost, doubled = before - after, after - before
    found.lost += lost.total()
    found.doubled += doubled.total()
    found.examples += [f"{name}: lost {one}" for one in list(lost)[:3]]
    found.examples += [f"{name}: doubled {one}" for one in list(doubled)[:3]]
    known = {_key(row, key): row for row in calm}
    for row in rows:
        other = known.get(_key(row, key), row)
        columns = [column for column in row if column not in vary and not _same(row[column], other[column])]
        if columns:
            found.different += 1
            if len(found.examples) < 20:
                said = [f"{column} {other[column]!r} -> {row[column]!r}" for column in columns]
                found.examples.append(f"{name}: {_key(row, key)}: {'; '.join(said)}")


def _key(row: dict, columns: list[str]) -> str:
    return json.dumps([row[column] for column in columns], default=str)


def _same(one: object, other: object) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= TOLERANCE * max(1.0, abs(one))
    return one == other


def differences(calm: Path | str, lake: Path | str, names: list[str]) -> list[str]:
    """The same of some tables, in words."""
    found = Differences()
    for name in names:
        _compare(name, _rows(calm, name), _rows(lake, name), found)
    return found.examples
