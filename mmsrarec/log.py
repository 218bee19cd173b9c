"""What the program says while it works, on standard error: lines for people, or JSON lines for machines.

say("recommend: started", "stage_started", rows=610)

A JSON line has time, level, run_id, stage, event, message and fields. Results (a report, an explanation) are not log
and go to standard output.
"""

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Literal

from mmsrarec.redact import hidden

Format = Literal["people", "json"]
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
        handler.setFormatter(formatter)
    logging.captureWarnings(machine)


def is_json() -> bool:
    return isinstance(_handler.formatter, _JsonLines)


class _Lines(logging.Formatter):
    """Whatever is said leaves without credentials."""

    def format(self, record: logging.LogRecord) -> str:
        return hidden(super().format(record))


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
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


class _Stderr(logging.StreamHandler):
    """Writes to what standard error is at the time, which tests and progress bars exchange."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self):  # noqa: ANN201
        return sys.stderr


_handler = _Stderr()
for _writer in (_logger, logging.getLogger("py.warnings")):
    _writer.addHandler(_handler)
_logger.setLevel(logging.INFO)
_logger.propagate = False
use("people")
