"""The command line: `mmsrarec run CONFIG`, `mmsrarec STAGE CONFIG`, the commands around them (plan, runs, explain,
rollback, forget); and `job`, the whole of a file in jobs/. It parses, calls and prints errors; it knows nothing of the
stages' work.

Exit status: 0 done; 2 a problem of the user's data or settings, told in words, and 3 to 11 other causes (errors.py);
1 an unexpected error, whose trace goes to a file that is named; 130 interrupted by Ctrl-C or SIGTERM.
"""

import argparse
import inspect
import signal
import sys
import time
import traceback
from collections.abc import Callable
from functools import wraps
from logging import ERROR
from pathlib import Path
from typing import Annotated

import typer

from mmsrarec import log, redact
from mmsrarec.config import Config, load
from mmsrarec.errors import DONE, INTERRUPTED, UNEXPECTED, UserError, disk_full, store_refused
from mmsrarec.pipeline import STAGES, run_stages
from mmsrarec.reports import ledger, metrics
from mmsrarec.storage.resume import Run
from mmsrarec.storage.runs import new_run_id

LOG_FORMAT = typer.Option("--log-format", help="Lines for people, or JSON lines for machines, on standard error.")


class Commands(typer.Typer):
    """Gives every command the option --log-format."""

    def command(self, *arguments, **options) -> Callable:  # noqa: ANN002, ANN003
        register = super().command(*arguments, **options)

        def add(function: Callable) -> Callable:
            @wraps(function)
            def logged(*values: object, log_format: log.Format = "people", **named: object) -> None:
                log.use(log_format)
                function(*values, **named)

            signature = inspect.signature(function)
            form = Annotated[log.Format, LOG_FORMAT]
            option = inspect.Parameter("log_format", inspect.Parameter.KEYWORD_ONLY, default="people", annotation=form)
            logged.__signature__ = signature.replace(parameters=[*signature.parameters.values(), option])
            logged.__annotations__ = {**function.__annotations__, "log_format": form}
            register(logged)
            return function

        return add


app = Commands(
    help="Nightly multimodal recommendation for a whole catalog.\n\n"
    "Start with `mmsrarec run conf/local.yaml`; then point it at your own data:\n\n"
    "    mmsrarec run conf/local.yaml --set inputs.items=items.csv --set inputs.interactions=events.parquet "
    "--set inputs.columns.user_id=customer --set lake.root=lake",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file; conf/local.yaml is one to start from.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=VALUE", help="Override a setting; may be given many times.", show_default=False),
]


@app.command()
def run(config: ConfigPath, settings: Settings = None) -> None:
    """Every stage in order: from items and interactions to lists with reasons, and their evaluation."""
    sys.exit(_run(lambda: load(config, settings or []), list(STAGES)))


@app.command()
def explain(
    config: ConfigPath,
    user: Annotated[str, typer.Option("--user", help="The user_id to explain.")],
    settings: Settings = None,
) -> None:
    """A user's history, similar users, candidates and list, with the reasons; reads tables only."""
    from mmsrarec.recommendation.explain import explain as explain_user

    sys.exit(_guarded(lambda: explain_user(load(config, settings or []), user)))


@app.command()
def runs(
    config: ConfigPath,
    run_id: Annotated[
        str | None, typer.Option("--run", metavar="RUN_ID", help="Only this run, in full.", show_default=False)
    ] = None,
    settings: Settings = None,
) -> None:
    """The ledger: what every run and stage did, what it cost and with which versions; and who holds the lake."""
    sys.exit(_guarded(lambda: ledger.show(load(config, settings or []), run_id)))


@app.command()
def plan(
    config: ConfigPath,
    settings: Settings = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Read the inputs anew, not the lake's catalog.")] = False,
) -> None:
    """What a run would ask its engines: items, pairs, tokens, hours and money per stage; starts none."""

    def work() -> None:
        from mmsrarec.planning.report import show

        show(load(config, settings or []), fresh)

    sys.exit(_guarded(work))


@app.command()
def rollback(
    config: ConfigPath,
    to: Annotated[str, typer.Option("--to", metavar="DATE", help="The published night to go back to, YYYY-MM-DD.")],
    settings: Settings = None,
) -> None:
    """Make an earlier night the current one again; later ones stay staged, from where `publish` brings them back."""
    from mmsrarec.publishing.publish import rollback as roll_back

    sys.exit(_guarded(lambda: roll_back(load(config, settings or []), new_run_id(), to)))


@app.command()
def forget(
    config: ConfigPath,
    user: Annotated[list[str] | None, typer.Option("--user", help="A user_id; may be given many times.")] = None,
    users_file: Annotated[
        str | None, typer.Option("--users-file", help="A Delta table, Parquet or CSV file with a column user_id.")
    ] = None,
    retention_hours: Annotated[
        int, typer.Option("--retention-hours", min=0, help="Keep old table versions, which hold the users, this long.")
    ] = 0,
    settings: Settings = None,
) -> None:
    """Remove users from every table and the index, old versions included, and leave them out of later nights."""
    from mmsrarec.publishing.forget import forget as forget_users
    from mmsrarec.publishing.forget import named

    def work() -> None:
        loaded = load(config, settings or [])
        forget_users(loaded, new_run_id(), named(loaded, user or [], users_file), retention_hours)

    sys.exit(_guarded(work))


def _add_stage(name: str) -> None:
    def command(config: ConfigPath, settings: Settings = None) -> None:
        sys.exit(_run(lambda: load(config, settings or []), [name]))

    app.command(name, help=f"{STAGES[name].summary} (One stage of `run`.)")(command)


for _name in STAGES:
    _add_stage(_name)


def main() -> None:
    app()


def job(name: str) -> None:
    """The main function of jobs/NAME.py: `--config FILE`, `--set a.b=value`, then the stage."""
    parser = argparse.ArgumentParser(description=STAGES[name].summary)
    parser.add_argument("--config", required=True, help="YAML file, e.g. conf/local.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=VALUE", help="override a setting")
    parser.add_argument("--log-format", choices=log.Format.__args__, default="people", help="form of the log lines")
    arguments = parser.parse_args()
    log.use(arguments.log_format)
    sys.exit(_run(lambda: load(arguments.config, arguments.set), [name]))


def _run(read: Callable[[], Config], names: list[str]) -> int:
    started = time.monotonic()

    def work() -> int:
        run = Run(read(), names)
        with log.context(run_id=run.run_id):
            lake = run.config.lake.root
            log.say(f"run {run.run_id}: {', '.join(names)}; lake {lake}", "run_started", stages=names)
            status = _guarded(lambda: run_stages(run))
            metrics.write(run.config)
            ledger.last_line(run.config, run.run_id, status, time.monotonic() - started)
            return status

    return _guarded(work)


def _guarded(work: Callable[[], int | None]) -> int:
    """The exit status: what `work` returns, or by the cause of its end, which is said."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return work() or DONE
    except (KeyboardInterrupt, SystemExit) as error:  # Ray's own handler of SIGTERM exits
        _fail("interrupted; the same command goes on from what is done", error, INTERRUPTED)
        return INTERRUPTED
    except Exception as error:
        known = disk_full(error) or store_refused(error) or error
        if isinstance(known, UserError):
            _fail(f"error: {known}", known, known.exit_status)
            return known.exit_status
        trace = Path("mmsrarec-error.log").resolve()
        trace.write_text(redact.hidden(traceback.format_exc()))
        said = f"unexpected error: {type(error).__name__}: {str(error)[:500]}\nthe full trace is in {trace}"
        _fail(said, error, UNEXPECTED)
        return UNEXPECTED


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _fail(said: str, error: BaseException, status: int) -> None:
    log.say(said, "error", ERROR, error=type(error).__name__, exit_status=status)
