"""Errors that a person reads: one clear message with what, where and the remedy; the command line prints no trace."""


class UserError(Exception):
    """Base of every error whose message is meant for the person who runs the job."""

    exit_status = 2


class ConfigError(UserError, ValueError):
    """The configuration is wrong."""


class InputError(UserError, ValueError):
    """The user's data cannot be read or is not what the configuration says."""


class BudgetError(UserError):
    """More rows were rejected than `run.error_budget` allows; the message has the counts per reason."""


class ModelError(UserError, ValueError):
    """The model, or the engine that should serve it, cannot be used."""


class GateError(UserError):
    """The staged lists do not pass their gates; readers keep what was published before."""

    exit_status = 6
