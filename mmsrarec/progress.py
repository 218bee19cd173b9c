"""Progress of long work: stage, done/total, rate, time left. One live line on a terminal, plain lines in a log file.

with Progress("recommend", total=610, unit="users") as progress:
    progress.advance(32)
"""

import sys
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from mmsrarec import log

LINE_EVERY_SECONDS = 10.0


class Progress:
    """Counts up to `total` (None where it is not known); writes to standard error."""

    def __init__(self, stage: str, total: int | None, unit: str):
        self.stage, self.total, self.unit = stage, total, unit
        self.done = 0
        self._started = self._printed = time.monotonic()
        self._bar: Bar | None = None

    def __enter__(self) -> "Progress":
        if sys.stderr.isatty() and not log.is_json():
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
            )
            self._bar = Bar(*columns, console=Console(stderr=True))
            self._task = self._bar.add_task(f"{self.stage} {self.unit}", total=self.total, rate="")
            self._bar.start()
        return self

    def advance(self, count: int = 1, note: str = "") -> None:
        """`count` more are done; `note` (a loss, say) goes on the line."""
        self.done += count
        if self._bar is not None:
            self._bar.update(self._task, advance=count, rate=f"{self._rate():.1f} {self.unit}/s {note}")
        elif time.monotonic() - self._printed >= LINE_EVERY_SECONDS:
            self._line(note)

    def __exit__(self, error_type: type | None, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif error_type is None:
            self._line("done")

    def _rate(self) -> float:
        return self.done / max(time.monotonic() - self._started, 1e-9)

    def _line(self, note: str) -> None:
        self._printed = time.monotonic()
        rate, total, left = self._rate(), "", ""
        counts: dict[str, Any] = {"done": self.done, "total": self.total, "unit": self.unit, "note": note}
        counts["per_second"] = round(rate, 2)
        if self.total is not None:
            total = f"/{self.total:,}"
            if 0 < self.done < self.total:
                counts["seconds_left"] = round((self.total - self.done) / rate)
                left = f", {counts['seconds_left']} s left"
        suffix = f", {note}" if note else ""
        said = f"{self.stage}: {self.done:,}{total} {self.unit}, {rate:.1f} {self.unit}/s{left}{suffix}"
        log.say(said, "progress", **counts)
