"""Answers on their way from an engine to the table `answers`; nothing that was answered goes with whoever carries it.

An engine writes its answers beside the file that it was given. Now and then the driver lists such files in a numbered
portion, a file itself, and commits each portion once. If the driver dies, its folder stays in the lake's staging
folder, and whoever asks an engine next commits what is there first (`recover`), under the run that it belongs to. Only
who holds the lake does any of this, so every other folder there is a dead driver's.
"""

import json
import secrets
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mmsrarec.config import Config
from mmsrarec.engines.answers import COLUMNS
from mmsrarec.engines.types import Answer
from mmsrarec.schemas import TABLES
from mmsrarec.storage import files, guard, tables

ANSWERS = ".answers"  # ending of a file of answers
PORTION = ".portion"  # and of one with the names of files that are committed together
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Origin:
    """What every answer of a stage has in common."""

    period: str
    stage: str
    run_id: str


def folder(config: Config) -> str:
    """Where the folders of all drivers are; engines may have another working directory."""
    place = config.table("staging")
    return str(Path(place).resolve()) if files.is_local(place) else place


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
    place = _beside(file)
    return place if files.find(place) else None


def write(file: str, answers: Iterable[Answer], origin: Origin) -> str:
    """Put the answers to a staged file beside it, all or nothing; their file."""
    rows = [asdict(answer) | asdict(origin) for answer in answers]
    content = BytesIO()
    pq.write_table(tables.from_rows("answers", rows), content, compression="zstd")
    files.write(_beside(file), content.getvalue())
    return _beside(file)


def read(file: str) -> list[Answer]:
    rows = pq.read_table(BytesIO(files.content(file)), columns=COLUMNS).to_pylist()
    return [Answer(**row) for row in rows]


def _beside(file: str) -> str:
    return file.removesuffix(".parquet") + ANSWERS


def earlier(config: Config, run_id: str, stage: str) -> list[Answer]:
    """What a stage of a run was answered so far, as committed: a run that was stopped has paid for it."""
    of_stage = [("run_id", "=", run_id), ("stage", "=", stage)]
    rows = tables.read(config.lake.root, "answers", COLUMNS, of_stage).to_pylist()
    return list({row["key"]: Answer(**row) for row in rows}.values())  # once, though it may be in two periods


class Delivery:
    """The driver's side: a folder of its own, whose files of answers it commits; use as a context manager.

    The folder goes with it, unless it ends by an error and has answers: `recover` finds what has not been committed.
    """

    def __init__(self, config: Config, name: str):
        self.folder = f"{folder(config)}/{name}-{secrets.token_hex(4)}"
        self._root, self._commits = config.lake.root, 0
        self._pending: list[str] = []

    def __enter__(self) -> "Delivery":
        return self

    def __exit__(self, error_type: type | None, *_: object) -> None:
        if error_type is None or not any(file.name.endswith(ANSWERS) for file in files.listing(self.folder)):
            files.delete_folder(self.folder)

    def add(self, file: str) -> list[Answer]:
        """Read a file of answers, and have it in the next commit."""
        guard.check(self._root)  # whoever has the lake now has also taken this folder
        self._pending.append(file)
        return read(file)

    def commit(self) -> None:
        if self._pending:
            _commit(self._root, self.folder, _portion(self.folder, self._commits, self._pending))
            self._commits, self._pending = self._commits + 1, []


def recover(config: Config) -> None:
    """Commit what dead drivers have left, and delete their folders."""
    left: dict[str, list[str]] = {}
    for file in files.listing(folder(config)):
        work, _, name = file.name.partition("/")
        left.setdefault(work, []).append(name)
    for work, names in left.items():
        _recover(config.lake.root, f"{folder(config)}/{work}", names)
    files.delete_folder(folder(config))


def _recover(root: str, place: str, names: list[str]) -> None:
    portions = [f"{place}/{name}" for name in names if name.endswith(PORTION)]
    listed = {name for portion in portions for name in json.loads(files.content(portion))}
    loose = [name for name in names if name.endswith(ANSWERS) and name not in listed]
    if loose:
        portions.append(_portion(place, _next(root, place, loose[0], portions), loose))
    for portion in portions:
        _commit(root, place, portion)


def _next(root: str, place: str, loose: str, portions: list[str]) -> int:
    """A number after all that this driver ever used: an engine of its may have outlived an earlier recovery, too."""
    run_id = pq.read_table(BytesIO(files.content(f"{place}/{loose}")), columns=["run_id"])["run_id"][0].as_py()
    before = tables.last_committed(root, "answers", tables.Commit(run_id, _work(place), 0).writer)
    return 1 + max([before, *map(_number, portions)])


def _portion(place: str, number: int, written: Iterable[str]) -> str:
    """The list of these files of answers, named by its number: the unit that is committed once."""
    portion = f"{place}/{number:06d}{PORTION}"
    files.write(portion, json.dumps([PurePosixPath(file).name for file in written]).encode())
    return portion


def _commit(root: str, place: str, portion: str) -> None:
    """Append what a portion lists to `answers`, once. An error is no answer to remember: it is asked again."""
    schema = TABLES["answers"]
    contents = [files.content(f"{place}/{name}") for name in json.loads(files.content(portion))]
    rows = [pq.read_table(BytesIO(content), schema=schema) for content in contents]
    found = pa.concat_tables(rows or [schema.empty_table()])
    found = found.filter(pc.is_null(found["error"]))
    if found.num_rows:
        commit = tables.Commit(found["run_id"][0].as_py(), _work(place), _number(portion))
        tables.append(root, "answers", found, commit)


def _number(portion: str) -> int:
    return int(PurePosixPath(portion).stem)


def _work(place: str) -> str:
    return f"answers/{PurePosixPath(place).name}"
