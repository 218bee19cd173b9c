"""The run ledger: every stage has one row in `runs`, from its start on, and holds the lake meanwhile (lock.py).

with runs.stage(config, "index_cf", run_id, reads=("histories", "sasrec")) as stage:
    stage.rows_in = ...
    stage.reject(key, error, message, row)

ledger(config)    what happened, oldest first
"""

import hashlib
import json
import secrets
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from logging import WARNING
from pathlib import Path

import mmsrarec
from mmsrarec import log
from mmsrarec.config import Config
from mmsrarec.errors import BudgetError, UnfinishedError, explained
from mmsrarec.progress import Progress
from mmsrarec.redact import hidden
from mmsrarec.schemas import MADE_BY, TABLES
from mmsrarec.storage import lock, tables

LOST = "lost"  # shown for a stage that is `running` in the ledger while its run does not hold the lake
MAX_ROW_CHARS = 2000  # of a rejected row, kept in `rejects`
FLUSH_ROWS = 10_000


def new_run_id() -> str:
    """Sorts by time and does not repeat."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"


@dataclass
class Stage:
    """What a stage tells the ledger. `reject` also writes the row to `rejects`."""

    config: Config
    name: str
    run_id: str
    rows_in: int = 0
    rows_out: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    notes: dict = field(default_factory=dict)
    versions: dict = field(default_factory=dict)
    rejected: Counter = field(default_factory=Counter)
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    tables_read: dict[str, int | None] = field(default_factory=dict)
    _pending: list[dict] = field(default_factory=list)

    def reject(self, key: str, error: str, message: str, row: object = None) -> None:
        """One row of `rejects`. `error` is a short class such as duplicate_item_id, `message` says what and why."""
        text = json.dumps(row, ensure_ascii=False, default=str)[:MAX_ROW_CHARS]
        told = {"key": key, "error": error, "message": hidden(message), "row": hidden(text)}
        self._pending.append({"run_id": self.run_id, "stage": self.name, **told})
        self.rejected[error] += 1
        if len(self._pending) >= FLUSH_ROWS:
            self.flush()

    def progress(self, total: int | None, unit: str) -> Progress:
        """A progress of the stage, which knows its rejects."""
        return Progress(self.name, total, unit, self.rejected)

    def count_rejected(self, error: str, rows: int) -> None:
        """For rejects that the stage has written to the table itself (Spark does)."""
        self.rejected[error] += rows

    def flush(self) -> None:
        tables.append(self.config.lake.root, "rejects", tables.from_rows("rejects", self._pending))
        self._pending = []

    def check_budget(self) -> None:
        """Raise BudgetError where more than run.error_budget of the rows read so far were rejected."""
        total = self.rejected.total()
        allowed = self.config.run.error_budget
        if total > allowed * max(self.rows_in, 1):
            counts = ", ".join(f"{error}: {rows:,}" for error, rows in self.rejected.most_common())
            raise BudgetError(
                f"{self.name}: {total:,} of {self.rows_in:,} rows rejected, more than run.error_budget={allowed:g} "
                f"allows ({counts}). The rows are in {self.config.table('rejects')} under run_id {self.run_id}; "
                "mend the input or raise run.error_budget."
            )

    def record(self, status: str) -> None:
        """Put the stage's row of the ledger, as it is by now, in the place of the one it had."""
        versions = {"mmsrarec": code_version(), "tables": self.tables_read, **self.versions}
        notes = {**self.notes, "rejected": dict(self.rejected)} if self.rejected else self.notes
        row = {
            "run_id": self.run_id,
            "stage": self.name,
            "status": status,
            "started_at": self.started_at,
            "finished_at": None if status == "running" else datetime.now(UTC),
            "rows_in": self.rows_in,
            "rows_out": self.rows_out,
            "rows_rejected": self.rejected.total(),
            "prompt_tokens": self.prompt_tokens,
            "output_tokens": self.output_tokens,
            "versions": json.dumps(versions),
            "notes": json.dumps(notes, default=str),
        }
        mine = f"run_id = '{self.run_id}' AND stage = '{self.name}'"
        tables.replace(self.config.lake.root, "runs", tables.from_rows("runs", [row]), mine)


@contextmanager
def stage(config: Config, name: str, run_id: str, reads: tuple[str, ...] = ()) -> Iterator[Stage]:
    """Hold the lake and keep the ledger's row of a stage: `running`, then `completed`, or `failed` or `interrupted`
    with the exception, which goes on up.

    `reads` names what the stage takes from other stages (keys of schemas.MADE_BY): the row gets the Delta versions of
    those tables. Raises UnfinishedError where the latest run of a stage that made one of them did not complete.
    """
    with lock.held(config, run_id), log.context(run_id=run_id, stage=name):
        record = Stage(config, name, run_id)
        record.tables_read = {table: tables.version(config.lake.root, table) for table in reads if table in TABLES}
        record.record("running")
        try:
            require_finished(config, name, reads)
            yield record
            record.flush()
            record.record("completed")
        except BaseException as error:
            error.add_note(f"in stage {name}")
            known = explained(error) if isinstance(error, Exception) else None
            told = traceback.format_exception_only(known or error)[0]
            record.notes["error"] = hidden(told.strip())[:MAX_ROW_CHARS]
            _record_failure(record, "failed" if isinstance(error, Exception) else "interrupted")
            if known is None or known is error:
                raise
            raise type(known)(f"{name}: {known}") from error


def seconds(row: dict | None) -> float:
    """How long the stage of a row of the ledger took; 0 for none, or one that has not ended."""
    return (row["finished_at"] - row["started_at"]).total_seconds() if row and row["finished_at"] else 0.0


def _record_failure(record: Stage, status: str) -> None:
    """What goes wrong here must not hide what went wrong before: a full disk, or a lake that another run has now."""
    try:
        record.flush()
        record.record(status)
    except Exception as error:
        said = f"{record.name}: the ledger does not say that it {status}, it will show as {LOST}: {error}"
        log.say(said, "ledger_not_written", WARNING)


def require_finished(config: Config, name: str, reads: tuple[str, ...]) -> None:
    """Raise UnfinishedError unless the latest run of every stage that makes one of `reads` completed.

    A stage that the ledger does not know has not left anything half-done.
    """
    latest = {row["stage"]: row for row in ledger(config) if row["stage"] != name}
    for read in reads:
        row = latest.get(MADE_BY[read])
        if row and row["status"] != "completed":
            raise UnfinishedError(
                f"{name}: reads {read}, but the latest run of {row['stage']}, which makes it, has not completed (run "
                f"{row['run_id']}: {row['status']}); run {row['stage']} again, or all stages by `run`"
            )


def ledger(config: Config, run_id: str | None = None) -> list[dict]:
    """Rows of `runs`, all or of one run, in the order in which the stages started; versions and notes as dictionaries.

    status is `lost` where it says `running` and the run does not hold the lake.
    """
    chosen = [("run_id", "=", run_id)] if run_id else None
    rows = tables.read(config.lake.root, "runs", filters=chosen).sort_by("started_at").to_pylist()
    running = any(row["status"] == "running" for row in rows)
    holder = lock.holder(config.lake.root) if running else None
    for row in rows:
        row |= {name: json.loads(row[name] or "{}") for name in ("versions", "notes")}
        if row["status"] == "running" and not (holder and holder.run_id == row["run_id"]):
            row["status"] = LOST
    return rows


@cache
def code_version() -> str:
    """The version of this package and a hash of its Python files, so that a changed checkout shows."""
    digest = hashlib.sha256()
    folder = Path(mmsrarec.__file__).parent
    for file in sorted(folder.rglob("*.py")):
        digest.update(str(file.relative_to(folder)).encode() + file.read_bytes())
    return f"{mmsrarec.__version__}+{digest.hexdigest()[:10]}"
