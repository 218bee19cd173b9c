"""The command line: `mmsrarec run CONFIG`, `mmsrarec STAGE CONFIG`, `mmsrarec explain CONFIG --user ID`; and `job`, the
whole of a file in jobs/. It parses, calls and prints errors; it knows nothing of the stages' work.

Exit status: 0 done, 2 a problem of the user's data or settings (told in words), 1 an unexpected error (the trace goes
to a file that is named), 130 interrupted.
"""

import argparse
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from mmsrarec.config import Config, load
from mmsrarec.errors import UserError
from mmsrarec.pipeline import STAGES, run_stage
from mmsrarec.pipeline import clean as clean_lake
from mmsrarec.storage.resume import Run

app = typer.Typer(
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
    _exit(_guarded(lambda: _night(load(config, settings or []))))


@app.command()
def explain(
    config: ConfigPath,
    user: Annotated[str, typer.Option("--user", help="The user_id to explain.")],
    settings: Settings = None,
) -> None:
    """A user's history, similar users, candidates and list, with the reasons; reads tables only."""
    from mmsrarec.recommendation.explain import explain as explain_user

    _exit(_guarded(lambda: explain_user(load(config, settings or []), user)))


@app.command()
def clean(config: ConfigPath, settings: Settings = None) -> None:
    """Delete leftovers of dead runs, answers no run asks for, and files that no table needs. `run` ends with it."""
    _exit(_guarded(lambda: _clean(load(config, settings or []))))


def _add_stage(name: str) -> None:
    def command(config: ConfigPath, settings: Settings = None) -> None:
        _exit(_guarded(lambda: _run(load(config, settings or []), [name])))

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
    arguments = parser.parse_args()
    _exit(_guarded(lambda: _run(load(arguments.config, arguments.set), [name])))


def _night(config: Config) -> None:
    _run(config, list(STAGES))
    _clean(config)


def _run(config: Config, names: list[str]) -> None:
    run = Run(config, names)
    _say(f"run {run.run_id}: {', '.join(names)}; lake {config.lake.root}")
    for name in names:
        if name in run.done:
            _say(f"{name}: completed before this run was stopped")
            continue
        started = time.monotonic()
        _say(f"{name}: started")
        run_stage(name, config, run.run_id)
        run.complete(name)
        _say(f"{name}: completed in {time.monotonic() - started:.1f} s")
    run.finish()


def _clean(config: Config) -> None:
    _say(f"clean: {clean_lake(config):,} files deleted that no table needs any more")


def _guarded(work: Callable[[], None]) -> int:
    try:
        work()
    except UserError as error:
        _say(f"error: {error}")
        return 2
    except KeyboardInterrupt:
        _say("interrupted; the same command goes on from what is done")
        return 130
    except Exception as error:
        trace = Path("mmsrarec-error.log").resolve()
        trace.write_text(traceback.format_exc())
        _say(f"unexpected error: {type(error).__name__}: {str(error)[:500]}\nthe full trace is in {trace}")
        return 1
    return 0


def _exit(status: int) -> None:
    sys.exit(status)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
