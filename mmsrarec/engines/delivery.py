"""Answers on their way from an engine to the table `answers`; nothing that was answered goes with whoever carries it.

An engine writes its answers beside the file that it was given. Now and then the driver gathers such files in a numbered
folder and commits each folder once. If the driver dies, its files stay in the lake's staging folder, and whoever asks
an engine next commits them first (`recover`), under the run that they belong to.
"""

import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mmsrarec.config import Config
from mmsrarec.engines.answers import COLUMNS
from mmsrarec.engines.types import Answer
from mmsrarec.schemas import TABLES
from mmsrarec.storage import scratch, tables
from mmsrarec.storage.scratch import Scratch

ANSWERS = ".answers"  # ending of a file of answers
TAKEN = ".taken"  # ending of a dead driver's folder, so that engines it has left behind find theirs gone
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Origin:
    """What every answer of a stage has in common."""

    period: str
    stage: str
    run_id: str


def folder(config: Config) -> Path:
    """Where the folders of all drivers are."""
    return Path(config.lake.root) / "staging"


def period(config: Config) -> str:
    """First day of the span of answers.keep_days that today lies in."""
    return _period(config, 0)


def prune(config: Config) -> None:
    """Delete the answers that no run asked for in this period or the last: whole partitions, no file is rewritten."""
    tables.delete(config.lake.root, "answers", f"period < '{_period(config, 1)}'")


def _period(config: Config, ago: int) -> str:
    length = config.answers.keep_days
    days = (datetime.now(UTC) - EPOCH).days
    return (EPOCH + timedelta(days=(days // length - ago) * length)).date().isoformat()


def written(file: str) -> str | None:
    """The answers to a staged file, None where it has none yet."""
    path = Path(file).with_suffix(ANSWERS)
    return str(path) if path.exists() else None


def write(file: str, answers: Iterable[Answer], origin: Origin) -> str:
    """Put the answers to a staged file beside it, all or nothing; their file."""
    path = Path(file).with_suffix(ANSWERS)
    draft = path.with_suffix(".part")
    rows = [asdict(answer) | asdict(origin) for answer in answers]
    pq.write_table(tables.from_rows("answers", rows), draft, compression="zstd")
    os.replace(draft, path)
    return str(path)


def read(file: str) -> list[Answer]:
    rows = pq.read_table(file, columns=COLUMNS, partitioning=None).to_pylist()
    return [Answer(**row) for row in rows]


def earlier(config: Config, run_id: str, stage: str) -> list[Answer]:
    """What a stage of a run was answered so far, as committed: a run that was stopped has paid for it."""
    of_stage = [("run_id", "=", run_id), ("stage", "=", stage)]
    rows = tables.read(config.lake.root, "answers", COLUMNS, of_stage).to_pylist()
    return list({row["key"]: Answer(**row) for row in rows}.values())  # once, though it may be in two periods


class Delivery:
    """The driver's side: gathers files of answers and commits them."""

    def __init__(self, config: Config, scratch: Scratch):
        self._root, self._folder, self._commits = config.lake.root, scratch.path, 0
        self._pending: list[str] = []

    def add(self, file: str) -> list[Answer]:
        """Read a file of answers, and have it in the next commit."""
        self._pending.append(file)
        return read(file)

    def commit(self) -> None:
        if self._pending:
            _commit(self._root, self._folder.name, _gathered(self._folder, self._commits, self._pending))
            self._commits, self._pending = self._commits + 1, []


def recover(config: Config) -> None:
    """Commit what dead drivers have left, and delete their folders."""
    for left in scratch.abandoned(folder(config)):
        place = left if left.name.endswith(TAKEN) else left.rename(left.with_name(left.name + TAKEN))
        done = sorted(path for path in place.iterdir() if path.is_dir())
        loose = sorted(map(str, place.glob(f"*{ANSWERS}")))
        if loose:
            done.append(_gathered(place, len(done), loose))
        for part in done:
            _commit(config.lake.root, place.name.removesuffix(TAKEN), part)
        scratch.remove(place)


def _gathered(folder: Path, number: int, files: list[str]) -> Path:
    """The files in a folder of their own, named by its number: the unit that is committed once."""
    place = folder / f"{number:06d}"
    place.mkdir(exist_ok=True)
    for file in files:
        os.replace(file, place / Path(file).name)
    return place


def _commit(root: str, work: str, part: Path) -> None:
    """Append what a folder holds to `answers`, once. An error is no answer to remember: it is asked again."""
    schema = TABLES["answers"]
    rows = [pq.read_table(file, schema=schema, partitioning=None) for file in sorted(part.iterdir())]
    found = pa.concat_tables(rows or [schema.empty_table()])
    found = found.filter(pc.is_null(found["error"]))
    if found.num_rows:
        commit = tables.Commit(found["run_id"][0].as_py(), f"answers/{work}", int(part.name))
        tables.append(root, "answers", found, commit)
