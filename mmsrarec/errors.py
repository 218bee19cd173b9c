"""Errors that a person reads: one clear message with what, where and the remedy; the command line prints no trace.

Each carries the exit status of the program, one per cause, so that a scheduler can act (README, Exit status).
"""

import errno
import re
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

DONE, UNEXPECTED, INTERRUPTED = 0, 1, 130


class UserError(Exception):
    """Base of every error whose message is meant for the person who runs the job.

    `retry`: the same command may well succeed later, and goes on from what is done, without anybody doing anything.
    """

    exit_status = 2
    retry = False


class ConfigError(UserError, ValueError):
    """The configuration is wrong."""


class InputError(UserError, ValueError):
    """The user's data cannot be read or is not what the configuration says."""


class BudgetError(UserError):
    """More rows were rejected than `run.error_budget` allows; the message has the counts per reason."""

    exit_status = 3


class LockError(UserError):
    """Another run holds the lake, or took it over while this one was not there."""

    exit_status = 4
    retry = True


class GateError(UserError):
    """The staged lists do not pass their gates; readers keep what was published before."""

    exit_status = 5


class PlanError(UserError):
    """The work ahead would cost more than `budget` allows; no engine was started."""

    exit_status = 6


class ModelError(UserError, ValueError):
    """The model, or the engine that should serve it, cannot be used."""

    exit_status = 7
    retry = True


class UnfinishedError(UserError):
    """The latest run of a stage whose tables are to be read did not complete."""

    exit_status = 8


class DiskFullError(UserError):
    """A disk has no room left. What is finished is kept."""

    exit_status = 9


class LakeError(UserError):
    """A table of the lake cannot be read or written."""


class ProcessDiedError(UserError):
    """A process that this one needs was killed. What is finished is kept."""

    exit_status = 10
    retry = True


class StoreError(UserError):
    """S3 cannot be reached, or refuses us. What is finished is kept."""

    exit_status = 11
    retry = True


class NightError(UserError):
    """A part of a night on a cluster failed; the exit status is the part's own."""

    def __init__(self, message: str, exit_status: int):
        super().__init__(message)
        self.exit_status = exit_status


Explain = Callable[[Any], UserError | None]
_EXPLAINERS: list[tuple[tuple[type[BaseException], ...], Explain]] = []


def explains(*types: type[BaseException]) -> Callable[[Explain], Explain]:
    """Registers who can put errors of these types into words (or not: None), where their library is imported."""

    def register(explain: Explain) -> Explain:
        _EXPLAINERS.append((types, explain))
        return explain

    return register


def explained(error: BaseException) -> UserError | None:
    """The error itself if it is meant for people, else what is known of it or of what caused it; None: nothing."""
    known: UserError | None = disk_full(error)
    if known:
        return known
    for cause in _chain(error, lambda each: each.__cause__):
        if isinstance(cause, UserError):
            return cause
        if known := _explained(cause):
            known.__cause__ = error
            return known
    return None


def shortened(error: BaseException | str, length: int = 300) -> str:
    """What an error says, on one line, cut."""
    words = " ".join(str(error).split())
    return words if len(words) <= length else f"{words[: length - 1]}…"


def _explained(error: BaseException) -> UserError | None:
    for types, explain in _EXPLAINERS:
        if isinstance(error, types) and (known := explain(error)):
            return known
    return None


REFUSED = re.compile(r"Generic S3 error|AWS Error")
SAID = re.compile(
    r"<Code>(\w+)</Code>|AWS Error (\w+)|(\d{3} [A-Z][a-z]+(?: [A-Z][a-z]+)*)|(timed out|dns error|refused|a body)"
)


@explains(Exception)
def _store(error: Exception) -> StoreError | None:
    """The S3 behind an error of delta-rs or Arrow, if it is one: they say much, of which little helps."""
    if not REFUSED.search(str(error)):
        return None
    said = " ".join(dict.fromkeys(part for found in SAID.findall(str(error)) for part in found if part))
    return StoreError(
        f"a table on S3 cannot be read or written: {said or type(error).__name__}. Check the bucket, that this machine "
        "may list, read, write and delete in it, and AWS_REGION or AWS_ENDPOINT_URL. What is "
        "finished is kept: run the same command again to go on from there"
    )


@explains(PermissionError)
def _permission(error: PermissionError) -> UserError:
    return UserError(
        f"{error.filename or shortened(error)}: permission denied; let the user that runs this read and write there, "
        "or name another place"
    )


@explains(MemoryError)
def _memory(error: MemoryError) -> UserError:
    return ProcessDiedError(
        f"this machine's memory is not enough ({shortened(error) or 'no more could be had'}). What is finished is "
        "kept; make room, or take a larger machine, then run the same command again to go on from there"
    )


@explains(OSError)
def _system(error: OSError) -> UserError | None:
    if error.errno == errno.EROFS:
        return UserError(f"{error.filename or shortened(error)}: the file system is read-only; name another place")
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return UserError(f"too many files are open ({shortened(error)}); raise the limit (ulimit -n), then run again")
    return None


@explains(UnicodeEncodeError)
def _no_text(error: UnicodeEncodeError) -> UserError | None:
    if "surrogates" not in error.reason:
        return None
    return UserError(f"{error.object[:80]!r}: not valid UTF-8, which ids, settings and paths must be; mend it")


FULL = ("No space left on device", "os error 28", "disk is full", "Disk quota exceeded")


def disk_full(error: BaseException) -> DiskFullError | None:
    """The full disk behind an error, if one is; every library tells of it in its own way."""
    for cause in _chain(error, lambda each: each.__cause__ or each.__context__):
        if any(words in str(cause) for words in FULL):
            return DiskFullError(
                f"no space is left on the disk of the lake or of the temporary folder {tempfile.gettempdir()} "
                f"({shortened(cause)}). What is finished is kept: make room, then run the same command again to go on "
                "from there"
            )
    return None


def _chain(error: BaseException, behind: Callable[[BaseException], BaseException | None]) -> Iterator[BaseException]:
    """The error and what is behind it, each once: libraries that keep errors and raise them again make circles."""
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        yield each
        each = behind(each)
