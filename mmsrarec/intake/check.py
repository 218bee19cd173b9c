"""`mmsrarec check`: everything that can be said before a run without starting an engine, worst first."""

import time

from mmsrarec.config import Config
from mmsrarec.errors import DONE, UserError
from mmsrarec.intake import data, findings, machine, model
from mmsrarec.intake.findings import Finding


def check(config: Config, as_json: bool = False) -> int:
    """Print the findings; the exit status, that of a UserError where one of them is an error."""
    started = time.monotonic()
    found = inspect(config)
    findings.show(found, time.monotonic() - started, as_json)
    return UserError.exit_status if any(finding.level == "error" for finding in found) else DONE


def inspect(config: Config) -> list[Finding]:
    """Every finding, worst first."""
    return findings.ordered([*data.check(config), *machine.check(config), *model.check(config)])
