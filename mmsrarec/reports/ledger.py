"""The ledger on the screen: `mmsrarec runs`, and the last line of a run."""

import json
import sys
from collections import Counter
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mmsrarec import log
from mmsrarec.config import Config
from mmsrarec.errors import DONE, InputError
from mmsrarec.storage import lock, runs

LATEST = 10  # runs shown where none is named
LOG_WIDTH = 200  # where standard output is no terminal, so that no cell is folded
NUMBERS = ("rows_in", "rows_out", "rows_rejected", "prompt_tokens", "output_tokens")
GREEN, RED = ("completed", "running"), ("failed", "interrupted", runs.LOST)


def show(config: Config, run_id: str | None, console: Console | None = None) -> None:
    """Print who holds the lake, and a row per run and stage: of the latest runs, or of one with all that it noted."""
    console = console or Console(width=None if sys.stdout.isatty() else LOG_WIDTH)
    rows = runs.ledger(config, run_id)
    if not rows:
        wanted = f"no run {run_id} in the ledger" if run_id else "no run yet"
        raise InputError(f"{config.table('runs')}: {wanted}")
    latest = list(dict.fromkeys(row["run_id"] for row in rows))[-LATEST:]
    console.print(_lock_line(config), highlight=False)
    console.print(_table([row for row in rows if row["run_id"] in latest]))
    if run_id:
        for row in rows:
            console.print(Text(f"{row['stage']}: {_pretty(row['versions'])}; {_pretty(row['notes'])}"))


def _lock_line(config: Config) -> Text:
    found = lock.holder(config.lake.root)
    return Text(lock.describe(config.lake.root, found) if found else f"lake {config.lake.root}: no run holds it")


def _table(rows: list[dict]) -> Table:
    table = Table(show_edge=False)
    for name in ("run", "stage", "status", "started (UTC)"):
        table.add_column(name)
    for name in ("seconds", *NUMBERS):
        table.add_column(name.replace("_", " "), justify="right")
    table.add_column("versions")
    last = None
    for row in rows:
        table.add_section() if last not in (None, row["run_id"]) else None
        started = f"{row['started_at'].astimezone(UTC):%Y-%m-%d %H:%M:%S}"
        status = Text(row["status"], style="green" if row["status"] in GREEN else "red")
        numbers = [f"{_seconds(row):,.1f}", *(f"{row[name]:,}" for name in NUMBERS)]
        run = row["run_id"] if row["run_id"] != last else ""
        table.add_row(Text(run), row["stage"], status, started, *numbers, Text(_versions(row["versions"])))
        last = row["run_id"]
    return table


def _versions(versions: dict) -> str:
    """All but the tables, in short: the whole is shown for one run."""
    return " ".join(f"{name}={value}" for name, value in versions.items() if name != "tables" and value)


def _pretty(values: dict) -> str:
    return json.dumps(values, ensure_ascii=False)


def _seconds(row: dict) -> float:
    """Until now where it still runs."""
    if row["status"] == runs.LOST:
        return 0.0
    return ((row["finished_at"] or datetime.now(UTC)) - row["started_at"]).total_seconds()


def last_line(config: Config, run_id: str, status: int, seconds: float) -> None:
    """Say what the run wrote, what it rejected and why, and what it cost; nothing where it did not come to begin."""
    rows = runs.ledger(config, run_id)
    if not rows:
        return
    failed = [row for row in rows if row["status"] != "completed"]
    ended = (
        "completed" if status == DONE else f"{failed[-1]['status']} in {failed[-1]['stage']}" if failed else "failed"
    )
    written = {row["stage"]: row["rows_out"] for row in rows if row["status"] == "completed"}
    rejected = sum((Counter(row["notes"].get("rejected", {})) for row in rows), Counter())
    published = [row["notes"]["published"] for row in rows if "published" in row["notes"]]
    prompt, output = (sum(row[name] for row in rows) for name in ("prompt_tokens", "output_tokens"))
    parts = [
        f"run {run_id}: {ended}",
        *(f"published {text}" for text in published),
        f"wrote {_counts(written) or 'nothing'}",
        f"rejected {_counts(rejected) or 'nothing'}",
        f"engine tokens {prompt:,} in, {output:,} out",
        f"{seconds:.1f} s",
        *(f"report {row['notes']['page']}" for row in rows if "page" in row["notes"]),
    ]
    figures: dict[str, Any] = {"written": written, "rejected": rejected, "published": published}
    figures |= {"prompt_tokens": prompt, "output_tokens": output, "seconds": round(seconds, 1), "exit_status": status}
    log.say("; ".join(parts), "run_finished", **figures)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items() if count)
