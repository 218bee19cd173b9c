"""The run ledger: every stage writes one row to `runs`, whether it completed or failed.

with runs.stage(config, "index_cf", run_id) as stage:
    stage.rows_in = ...
    stage.reject(key, error, message, row)
"""

import json
import secrets
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from mmsrarec import __version__
from mmsrarec.config import Config
from mmsrarec.errors import BudgetError
from mmsrarec.storage import tables

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
    _pending: list[dict] = field(default_factory=list)

    def reject(self, key: str, error: str, message: str, row: object = None) -> None:
        """One row of `rejects`. `error` is a short class such as duplicate_item_id, `message` says what and why."""
        text = json.dumps(row, ensure_ascii=False, default=str)[:MAX_ROW_CHARS]
        self._pending.append(
            {"run_id": self.run_id, "stage": self.name, "key": key, "error": error, "message": message, "row": text}
        )
        self.rejected[error] += 1
        if len(self._pending) >= FLUSH_ROWS:
            self.flush()

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


@contextmanager
def stage(config: Config, name: str, run_id: str) -> Iterator[Stage]:
    """Time a stage and write its ledger row; an exception makes the row `failed` and goes on up."""
    started = datetime.now(UTC)
    record = Stage(config, name, run_id)
    status = "failed"
    try:
        yield record
        status = "completed"
    except BaseException as error:
        record.notes["error"] = "".join(traceback.format_exception_only(error)).strip()[:MAX_ROW_CHARS]
        raise
    finally:
        record.flush()
        row = {
            "run_id": run_id,
            "stage": name,
            "status": status,
            "started_at": started,
            "finished_at": datetime.now(UTC),
            "rows_in": record.rows_in,
            "rows_out": record.rows_out,
            "rows_rejected": record.rejected.total(),
            "prompt_tokens": record.prompt_tokens,
            "output_tokens": record.output_tokens,
            "versions": json.dumps({"mmsrarec": __version__, **record.versions}),
            "notes": json.dumps(record.notes, default=str),
        }
        # A run that goes on after it was stopped has a stage a second time: its last row counts.
        same = f"run_id = '{run_id}' AND stage = '{name}'"
        tables.replace(config.lake.root, "runs", tables.from_rows("runs", [row]), same)
