"""The command line: `mmsrarec run CONFIG`, `mmsrarec STAGE CONFIG`, the commands around them (init, check, plan, runs,
explain, report, rollback, forget, night); and `job`, the whole of a file in jobs/. Read upward: options, endings ->
commands -> here.
"""

import argparse
import sys
from typing import get_args

from mmsrarec import log
from mmsrarec.cli import endings
from mmsrarec.cli.commands import app
from mmsrarec.cli.options import ADDRESS
from mmsrarec.config import at, load
from mmsrarec.pipeline import STAGES


def main() -> None:
    app()


def job(name: str) -> None:
    """The main function of jobs/NAME.py: `--config FILE`, `--set a.b=value`, then the stage."""
    parser = argparse.ArgumentParser(description=STAGES[name].summary)
    parser.add_argument("--config", required=True, help="YAML file, e.g. conf/local.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=VALUE", help="override a setting")
    parser.add_argument("--address", action="append", help=ADDRESS)
    parser.add_argument("--log-format", choices=get_args(log.Format), default="people", help="form of the log lines")
    arguments = parser.parse_args()
    log.use(arguments.log_format)
    sys.exit(endings.run(lambda: load(arguments.config, [*arguments.set, *at(arguments.address)]), [name]))
