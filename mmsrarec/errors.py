"""Errors that a person reads: one clear message with what, where and the remedy; the command line prints no trace."""


class UserError(Exception):
    """Base of every error whose message is meant for the person who runs the job."""


class ConfigError(UserError, ValueError):
    """The configuration is wrong."""


class InputError(UserError, ValueError):
    """The user's data cannot be read or is not what the configuration says."""


class BudgetError(UserError):
    """More rows were rejected than `run.error_budget` allows; the message has the counts per reason."""


class ModelError(UserError, ValueError):
    """The model, or the engine that should serve it, cannot be used."""


class DiskFullError(UserError):
    """A disk has no room left. What is finished is kept."""

    exit_status = 9


class ProcessDiedError(UserError):
    """A process that this one needs was killed. What is finished is kept."""

    exit_status = 10


FULL = ("No space left on device", "os error 28", "disk is full", "Disk quota exceeded")


def disk_full(error: BaseException | None) -> bool:
    """Whether a full disk is behind this error; every library tells of it in its own way."""
    while error is not None:
        if any(words in str(error) for words in FULL):
            return True
        error = error.__cause__ or error.__context__
    return False
