"""What Spark, Ray and vLLM print goes to a log file; what matters of it is said in a line (matters.py).

Libraries, their subprocesses and Java write to the file descriptors 1 and 2, whatever Python's sys.stderr is. So these
two become the file itself, and the program keeps what they were for its own lines and results (log.py). There is no
pipe and no process between: nothing can block, and nothing is left behind by a kill. A thread reads what is new in the
file. For programs only, from their main function to their end: what is printed while Python ends is noise, too.
"""

import getpass
import os
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TextIO

from mmsrarec import log
from mmsrarec.config import Config
from mmsrarec.errors import ConfigError
from mmsrarec.matters import Matters
from mmsrarec.redact import hidden

LOOK_EVERY_SECONDS = 0.5
ERROR_LOG = "mmsrarec-error.log"
FOLDER = "logs"  # in the lake
BLOCK = 2**20
HOUR = 3600


def log_file(config: Config, run_id: str) -> str:
    """`run.log`, by default one per run in the lake."""
    return config.run.log or str(folder(config) / f"{run_id}.log")


def folder(config: Config) -> Path:
    """Where the log files are by default: in the lake, or in the temporary folder where that is no local one."""
    if "://" in config.lake.root:
        return Path(tempfile.gettempdir()) / f"mmsrarec-{getpass.getuser()}-{FOLDER}"
    return Path(config.lake.root) / FOLDER


def delete_old(config: Config, hours: float) -> int:
    """Delete the log files in their folder that nobody has written to for so many hours; how many."""
    old = [
        file
        for file in folder(config).glob("*.log")
        if str(file) != log.diverted() and time.time() - file.stat().st_mtime >= hours * HOUR
    ]
    for file in old:
        file.unlink()
    return len(old)


@contextmanager
def diverted(file: str | None) -> Iterator[None]:
    """From now on standard output and error are this file (None: nothing is kept); meanwhile it is watched.

    Raises ConfigError where it cannot be written.
    """
    watch = _divert(file)
    try:
        yield
    finally:
        watch.close()


def _divert(file: str | None) -> "Watch":
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass  # in the place of one that was closed when the program was started
    os.close(descriptor)
    screen, results = _writer(os.dup(2)), _writer(os.dup(1))
    try:
        with _opened(file) as opened:
            for number, name in ((1, "stdout"), (2, "stderr")):
                if (stream := getattr(sys, name)) is not None:
                    stream.flush()
                os.dup2(opened.fileno(), number)
                setattr(sys, name, _writer(number, closefd=False))
    except OSError as error:
        raise ConfigError(
            f"run.log: {error.filename}: cannot be written ({error.strerror}); name another file there"
        ) from None
    # A device has no lines to read.
    named = file if file and os.path.isfile(file) else None
    log.divert(screen, results, named)
    return Watch(named)


def keep_trace(error: BaseException) -> str:
    """Write the trace of an error to the log file, else to a file in the working folder; where it is."""
    trace = hidden("".join(traceback.format_exception(error)))
    file = log.diverted()
    place = f"{file}:{_lines(file) + 1}" if file else os.path.abspath(ERROR_LOG)
    try:
        with open(file or ERROR_LOG, "a" if file else "w", encoding="utf-8", errors="backslashreplace") as opened:
            opened.write(trace)
    except OSError as lost:
        return f"{place} (not written: {lost.strerror})"
    return place


class Watch:
    """Reads what is new in a file now and then, and says what matters of it."""

    def __init__(self, file: str | None):
        self._matters = Matters(file)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._look, name="log-watch", daemon=True)
        if file:
            self._lines = _lines(file)  # those of the same run before it was stopped
            self._file = open(file, "rb")  # noqa: SIM115
            self._file.seek(0, os.SEEK_END)
            self._rest = b""
            self._thread.start()

    def close(self) -> None:
        """Look a last time; what comes later is nobody's concern any more."""
        if self._thread.ident:
            self._stopped.set()
            self._thread.join()
            self._matters.close()

    def _look(self) -> None:
        while True:
            over = self._stopped.wait(LOOK_EVERY_SECONDS)
            while block := self._file.read(BLOCK):
                *lines, rest = (self._rest + block).split(b"\n")
                self._rest = rest[-BLOCK:]
                for line in lines:
                    self._lines += 1
                    self._matters.see(line.decode("utf-8", "replace"), self._lines)
            if over:
                return


def _lines(file: str | Path) -> int:
    with open(file, "rb") as opened:
        return sum(block.count(b"\n") for block in iter(lambda: opened.read(BLOCK), b""))


def _opened(file: str | None) -> IO[bytes]:
    if file is None:
        return open(os.devnull, "ab", buffering=0)
    os.makedirs(os.path.dirname(os.path.abspath(file)), exist_ok=True)
    return open(file, "ab", buffering=0)


def _writer(descriptor: int, closefd: bool = True) -> TextIO:
    return open(descriptor, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=closefd)
