"""Progress of long work: done of total, rate, time left, rejects so far. One live line on a terminal, else plain lines.

with under_way("recommend"):
    with Progress("recommend", total=610, unit="users") as progress:
        progress.advance(32)

Plain lines are few: the first after ten seconds, then one whenever a tenth more time has passed, and a last one.
"""

import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from logging import DEBUG, INFO

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from mmsrarec import log

LINE_EVERY_SECONDS = 10.0  # and later a tenth of the time so far
LONGEST_SILENCE = 300.0
RATE_OVER_SECONDS = 60.0  # the time left follows from the latest rate: an engine takes long to start
MARK_EVERY_SECONDS = 0.2
BAR_WIDTH = 24


class Progress:
    """Counts up to `total` (None where it is not known); `rejected` counts the rows that the stage has rejected."""

    def __init__(self, stage: str, total: int | None, unit: str, rejected: Counter | None = None):
        self.stage, self.total, self.unit = stage, total, unit
        self._rejected = Counter() if rejected is None else rejected
        self.done, self._note = 0, ""
        self.started = self._printed = time.monotonic()
        self._marks = deque([(self.started, 0)])

    def __enter__(self) -> "Progress":
        _line.show(self)
        return self

    def advance(self, count: int = 1, note: str = "") -> None:
        """`count` more are done; `note` (a loss, say) goes on the line."""
        now = time.monotonic()
        self.done += count
        self._note = note
        if len(self._marks) > 2 and now - self._marks[-2][0] < MARK_EVERY_SECONDS:
            self._marks.pop()
        self._marks.append((now, self.done))
        while len(self._marks) > 2 and now - self._marks[1][0] > RATE_OVER_SECONDS:
            self._marks.popleft()
        silence = min(max(LINE_EVERY_SECONDS, (now - self.started) / 10), LONGEST_SILENCE)
        if now - self._printed >= silence:
            self._say(self._rate())

    def __exit__(self, error_type: type | None, *_: object) -> None:
        _line.hide(self)
        if error_type is None:
            self._note = "done"
            self._say(self.done / max(time.monotonic() - self.started, 1e-9))

    @property
    def share(self) -> float | None:
        return min(self.done / self.total, 1.0) if self.total else None

    def words(self) -> str:
        """What a person wants to know, without the stage's name."""
        return self._words(self._rate())

    def _rate(self) -> float:
        """Of the latest minute; before that is over, since the first results came."""
        (start, before), (end, after) = self._marks[min(1, len(self._marks) - 2)], self._marks[-1]
        if end > start and after > before:
            return (after - before) / (end - start)
        return self.done / max(time.monotonic() - self.started, 1e-9)

    def _left(self, rate: float) -> float | None:
        """Unknown until more than the first results have come: those carry the start of an engine."""
        if not self.total or not 0 < self.done < self.total or len(self._marks) < 3:
            return None
        return max(0.0, (self.total - self.done) / rate - (time.monotonic() - self._marks[-1][0]))

    def _words(self, rate: float) -> str:
        total = "" if self.total is None else f"/{self.total:,}"
        parts = [f"{self.done:,}{total} {self.unit}"]
        if self.done:
            parts.append(speed(rate, self.unit))
        if (left := self._left(rate)) is not None:
            parts.append(f"{duration(left)} left")
        if rejected := self._rejected.total():
            parts.append(f"{rejected:,} rejected")
        return ", ".join([*parts, self._note] if self._note else parts)

    def _say(self, rate: float) -> None:
        self._printed = time.monotonic()
        counts = {"done": self.done, "total": self.total, "unit": self.unit, "per_second": round(rate, 2)}
        counts |= {"note": self._note, "rejected": self._rejected.total()}
        if (left := self._left(rate)) is not None:
            counts["seconds_left"] = round(left)
        # Where the live line shows it, only the log file keeps it.
        level = DEBUG if _line.live else INFO
        log.say(f"{self.stage}: {self._words(rate)}", "progress", level, **counts)


@contextmanager
def under_way(stage: str) -> Iterator[None]:
    """A stage from its start to its end: what one line on a terminal is about, whatever it counts meanwhile."""
    line = _Named(stage)
    _line.show(line)
    log.say(f"{stage}: started", "stage_started", DEBUG if _line.live else INFO)
    try:
        yield
    finally:
        _line.hide(line)


@contextmanager
def aside() -> Iterator[None]:
    """Something else is printed meanwhile: the live line makes room."""
    if shown := _line.live is not None:
        _line.stop()
    try:
        yield
    finally:
        if shown:
            _line.start()


def speed(rate: float, unit: str) -> str:
    """`12.3 users/s`; what takes longer than ten seconds each, per minute."""
    return f"{rate:,.1f} {unit}/s" if rate >= 0.1 or not rate else f"{60 * rate:.1f} {unit}/min"


def duration(seconds: float) -> str:
    """`48 s`, `12 min`, `3 h 5 min`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


class _Named:
    """A stage that counts nothing at the moment."""

    share, words = None, staticmethod(str)

    def __init__(self, stage: str):
        self.stage, self.started = stage, time.monotonic()


class _Line:
    """The one live line of a terminal: it shows what was begun last."""

    live: Live | None = None

    def __init__(self) -> None:
        self._shown: list[Progress | _Named] = []

    def show(self, progress: "Progress | _Named") -> None:
        self._shown.append(progress)
        if self.live is None and log.on_terminal():
            self.start()

    def hide(self, progress: "Progress | _Named") -> None:
        self._shown.remove(progress)
        if self.live is not None and not self._shown:
            self.stop()

    def start(self) -> None:
        console = Console(file=log.screen())
        self._spinner = Spinner("dots")
        self.live = Live(
            get_renderable=self._renderable,
            console=console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self.live.start()
        log.through(lambda said: console.print(Text(said), soft_wrap=True))

    def stop(self) -> None:
        log.through(None)
        if self.live is not None:
            self.live.stop()
        self.live = None

    def _renderable(self) -> RenderableType:
        if not self._shown:
            return ""
        last = self._shown[-1]
        row = Table.grid(padding=(0, 1))
        row.add_column(no_wrap=True)
        bar = [] if last.share is None else [ProgressBar(total=1.0, completed=last.share, width=BAR_WIDTH)]
        since = duration(time.monotonic() - self._shown[0].started)
        said = ", ".join(filter(None, (last.words(), f"{since} so far")))
        row.add_row(self._spinner, Text(last.stage, style="bold"), *bar, Text(said, no_wrap=True, overflow="ellipsis"))
        return row


_line = _Line()
