"""Errors that a person reads: one clear message with what, where and the remedy; the command line prints no trace.

Each carries the exit status of the program, one per cause, so that a scheduler can act (README, Exit status).
"""

import re
import tempfile

DONE, UNEXPECTED, INTERRUPTED = 0, 1, 130


class UserError(Exception):
    """Base of every error whose message is meant for the person who runs the job."""

    exit_status = 2


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


class GateError(UserError):
    """The staged lists do not pass their gates; readers keep what was published before."""

    exit_status = 5


class PlanError(UserError):
    """The work ahead would cost more than `budget` allows; no engine was started."""

    exit_status = 6


class ModelError(UserError, ValueError):
    """The model, or the engine that should serve it, cannot be used."""

    exit_status = 7


class UnfinishedError(UserError):
    """The latest run of a stage whose tables are to be read did not complete."""

    exit_status = 8


class DiskFullError(UserError):
    """A disk has no room left. What is finished is kept."""

    exit_status = 9


class ProcessDiedError(UserError):
    """A process that this one needs was killed. What is finished is kept."""

    exit_status = 10


class StoreError(UserError):
    """S3 cannot be reached, or refuses us."""

    exit_status = 11


FULL = ("No space left on device", "os error 28", "disk is full", "Disk quota exceeded")


def disk_full(error: BaseException | None) -> DiskFullError | None:
    """The full disk behind an error, if one is; every library tells of it in its own way."""
    while error is not None:
        if any(words in str(error) for words in FULL):
            return DiskFullError(
                f"no space is left on the disk of the lake or of the temporary folder {tempfile.gettempdir()} "
                f"({' '.join(str(error).split())[:300]}). What is finished is kept: make room, then run the same "
                "command again to go on from there"
            )
        error = error.__cause__ or error.__context__
    return None


REFUSED = re.compile(r"Generic S3 error|AWS Error")
SAID = re.compile(
    r"<Code>(\w+)</Code>|AWS Error (\w+)|(\d{3} [A-Z][a-z]+(?: [A-Z][a-z]+)*)|(timed out|dns error|refused|a body)"
)


def store_refused(error: BaseException | None) -> StoreError | None:
    """The S3 behind an error of delta-rs or Arrow, if it is one: they say much, of which little helps."""
    if isinstance(error, UserError):
        return None
    while error is not None:
        if REFUSED.search(str(error)):
            said = " ".join(dict.fromkeys(part for found in SAID.findall(str(error)) for part in found if part))
            return StoreError(
                f"a table on S3 cannot be read or written: {said or type(error).__name__}. Check the bucket, that this "
                "machine may list, read, write and delete in it, and AWS_REGION or AWS_ENDPOINT_URL (with "
                "AWS_ALLOW_HTTP=true where that is http://). What is finished is kept: run the same command again to "
                "go on from there"
            )
        error = error.__cause__ or error.__context__
    return None
