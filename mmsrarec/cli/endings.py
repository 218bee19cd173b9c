"""From work to an exit status, and what is said about its end.

Exit status: 0 done; 2 a problem of the user's data or settings, told in words, and 3 to 11 other causes (errors.py);
1 an unexpected error, whose trace goes to a file that is named; 130 interrupted by Ctrl-C or SIGTERM.
"""

import signal
import time
from collections.abc import Callable
from logging import ERROR

from mmsrarec import log, noise
from mmsrarec.config import Config
from mmsrarec.errors import DONE, INTERRUPTED, UNEXPECTED, explained, shortened
from mmsrarec.pipeline import conclude, run_stages
from mmsrarec.storage.resume import Run


def run(read: Callable[[], Config], names: list[str]) -> int:
    started = time.monotonic()

    def work() -> int:
        run = Run(read(), names)
        with log.context(run_id=run.run_id):
            status = guarded(lambda: _stages(run))
            conclude(run, status, time.monotonic() - started)
            return status

    return guarded(work)


def _stages(run: Run) -> None:
    lake, file = run.config.lake.root, noise.log_file(run.config, run.run_id)
    with noise.diverted(file):
        said = f"run {run.run_id}: {', '.join(run.names)}; lake {lake}\nwhat Spark, Ray and vLLM print goes to {file}"
        log.say(said, "run_started", stages=run.names, log=file)
        run_stages(run)


def guarded(work: Callable[[], int | None]) -> int:
    """The exit status: what `work` returns, or by the cause of its end, which is said."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return work() or DONE
    except (KeyboardInterrupt, SystemExit) as error:  # Ray's own handler of SIGTERM exits
        _fail("interrupted; the same command goes on from what is done", error, INTERRUPTED)
        return INTERRUPTED
    except Exception as error:
        known = explained(error)
        if known is None:
            what = f"{type(error).__name__}: {shortened(error)}"
            where = " ".join(getattr(error, "__notes__", []))
            trace = noise.keep_trace(error)
            _fail(f"unexpected error {where}: {what}\nthe full trace is in {trace}", error, UNEXPECTED, trace=trace)
            return UNEXPECTED
        kept = noise.keep_trace(error) if known.__cause__ and log.diverted() else None
        _fail(f"error: {known}{f' (trace: {kept})' if kept else ''}", known, known.exit_status, trace=kept)
        return known.exit_status


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _fail(said: str, error: BaseException, status: int, **fields: object) -> None:
    log.say(said, "error", ERROR, error=type(error).__name__, exit_status=status, **fields)
