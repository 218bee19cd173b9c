"""What the program says while it works, on standard error: lines for people, or JSON lines for machines.

say("recommend: started", "stage_started", rows=610)

A JSON line has time, level, run_id, stage, event, message and fields. Results (a report, an explanation) are not log
and go to `results()`, which is standard output. Where noise.py has taken standard output and error away from the
libraries, both are the program's own, and a file has all lines, those below INFO too, among what the libraries write.
"""

import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

from rich.console import Console

from mmsrarec.redact import hidden

Format = Literal["people", "json"]
OWN = "mmsrarec "  # what a line of the program's own begins with in the file, after its time
_logger = logging.getLogger("mmsrarec")
_context: dict[str, str] = {}


def say(message: str, event: str, level: int = logging.INFO, **fields: object) -> None:
    """One line: `message` for people; `event`, a fixed name, and `fields` for machines."""
    _logger.log(level, message, extra={"event": event, "fields": fields})


@contextmanager
def context(**values: str) -> Iterator[None]:
    """Everything said meanwhile, by any thread, carries these: run_id, stage."""
    before = dict(_context)
    _context.update(values)
    try:
        yield
    finally:
        _context.clear()
        _context.update(before)


def use(form: Format) -> None:
    """Choose the form of all lines from now on, those of libraries that have no handler of their own included."""
    machine = form == "json"
    formatter = _JsonLines() if machine else _Lines("%(message)s")
    for handler in (_handler, logging.lastResort):
        if handler is not None:
            handler.setFormatter(formatter)
    logging.captureWarnings(machine)


def is_json() -> bool:
    return isinstance(_handler.formatter, _JsonLines)


class _Lines(logging.Formatter):
    """Whatever is said leaves without credentials."""

    def format(self, record: logging.LogRecord) -> str:
        return hidden(super().format(record))


def on_terminal() -> bool:
    """Whether people watch, so that a live line can show what goes on."""
    return screen().isatty() and not is_json()


def screen() -> TextIO:
    """Where lines go: what standard error is at the time, or was before it was diverted."""
    return _streams.get("screen") or sys.stderr


def results() -> TextIO:
    """Where results go: what standard output is at the time, or was before it was diverted."""
    return _streams.get("results") or sys.stdout


def console(width: int) -> Console:
    """For results; `width` columns where they go to no terminal, so that no cell is folded."""
    return Console(file=results(), width=None if results().isatty() else width)


def diverted() -> str | None:
    """The file that standard output and error of this process go to, if they go to one."""
    return _places.get("file")


def divert(screen: TextIO, results: TextIO, file: str | None) -> None:
    """Say on these streams from now on, and also in the file, if there is one, that all others write to now."""
    _streams.update(screen=screen, results=results)
    if file:
        _places["file"] = file
        copy = _Copy(file, encoding="utf-8")
        copy.setFormatter(_Marked("%(asctime)s %(message)s"))
        _logger.addHandler(copy)
    # Libraries' own lines and warnings are noise now.
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_Lines("%(message)s"))
    logging.captureWarnings(False)


def through(printer: Callable[[str], None] | None) -> None:
    """Have lines printed by whoever has a live line on the terminal, above it; None: directly."""
    _handler.printer = printer


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "run_id": _context.get("run_id"),
            "stage": _context.get("stage"),
            "event": getattr(record, "event", record.name),
            "message": record.getMessage(),
            "fields": getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["fields"] = {**line["fields"], "trace": self.formatException(record.exc_info)}
        return hidden(json.dumps(line, ensure_ascii=False, default=str))


class _Marked(_Lines):
    """Every line can be told from those of others, also a second one of the same message."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        record.message = OWN + record.message.replace("\n", f"\n{' ' * 24}{OWN}")
        return super().formatMessage(record)


class _Screen(logging.StreamHandler):
    """Writes to what the screen is at the time, which tests exchange."""

    printer: Callable[[str], None] | None = None

    def __init__(self) -> None:
        logging.Handler.__init__(self, logging.INFO)

    @property
    def stream(self) -> Any:
        return screen()

    def emit(self, record: logging.LogRecord) -> None:
        if self.printer is not None:
            self.printer(self.format(record))
        else:
            super().emit(record)


class _Copy(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """A full disk must not be told by a trace per line: whoever works on that disk will say it."""


_streams: dict[str, TextIO] = {}
_places: dict[str, str] = {}
_handler = _Screen()
for _writer in (_logger, logging.getLogger("py.warnings")):
    _writer.addHandler(_handler)
_logger.setLevel(logging.DEBUG)
_logger.propagate = False
use("people")
