"""mmsrarec from Python: what `mmsrarec` offers under its own name, for a notebook or a scheduler's task.

Nothing here ends the process, nor keeps its signals: what was read is returned, and what went wrong is raised. One run
at a time holds a lake, whoever starts it: a second one, in this process or elsewhere, gets LockError.
"""

import difflib
import json
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from mmsrarec import log, signals
from mmsrarec.config import Config, load
from mmsrarec.errors import DONE, UNEXPECTED, ConfigError, InputError, explained
from mmsrarec.pipeline import STAGES, conclude, run_stages
from mmsrarec.schemas import KEYS, TABLES
from mmsrarec.storage import tables
from mmsrarec.storage.resume import Run

if TYPE_CHECKING:
    from mmsrarec.engines.price import Planned

PUBLISHED = "recommendations"


def load_config(path: str | Path, overrides: Mapping[str, object] | Sequence[str] = ()) -> Config:
    """The configuration of a YAML file, changed by {"lake.root": "lake"} or ["lake.root=lake"]; frozen.

    Raises ConfigError with every problem found.
    """
    if isinstance(overrides, Mapping):
        overrides = [f"{key}={json.dumps(value, default=str, ensure_ascii=False)}" for key, value in overrides.items()]
    return load(path, list(overrides))


def run(config: Config, *stages: str) -> str:
    """Run all stages, or those named, in their order; the run_id, under which `runs` says what each did.

    A run that was stopped is gone on with, under its own run_id, by the same call. Raises UserError, whose subclasses
    tell the cause (mmsrarec.errors); its `retry` says whether the same call may well succeed later.
    """
    started, status = time.monotonic(), UNEXPECTED
    work = Run(config, _ordered(stages))
    # Ray takes SIGTERM and does not give it back.
    with signals.given_back(signal.SIGTERM), log.context(run_id=work.run_id):
        try:
            run_stages(work)
            status = DONE
        except Exception as error:
            known = explained(error)
            if known is None or known is error:
                raise
            raise known from error
        finally:
            conclude(work, status, time.monotonic() - started)
    return work.run_id


def plan(config: Config, fresh: bool = False) -> "list[Planned]":
    """What a run would ask its engines, per stage that asks one: work, seconds and money; starts none.

    `fresh` reads the inputs anew in the place of the lake's catalog and histories.
    """
    from mmsrarec.planning.lake import tonight
    from mmsrarec.planning.plan import plan as planned

    with tonight(config, fresh) as lake:
        return planned(lake)


def read_recommendations(config: Config, date: str | None = None, users: str | Iterable[str] | None = None) -> pa.Table:
    """The lists of a night, YYYY-MM-DD, by default the published one, of all users or of some; by user_id and rank.

    Raises InputError where no lists of that night are published. A user without a list has no rows.
    """
    nights = tables.partitions(config.lake.root, PUBLISHED)
    night = date or max(nights, default="")
    if night not in nights:
        wanted = f"no lists of {date}; published are {', '.join(nights[-10:])}" if nights else "no lists yet"
        raise InputError(f"{config.table(PUBLISHED)}: {wanted}")
    chosen: list[tuple] = [("run_date", "=", night)]
    if users is not None:
        chosen.append(("user_id", "in", [users] if isinstance(users, str) else list(users)))
    found = tables.read(config.lake.root, PUBLISHED, filters=chosen)
    return found.sort_by([(column, "ascending") for column in KEYS[PUBLISHED]])


def read_table(
    config: Config, name: str, columns: list[str] | None = None, filters: list[tuple] | None = None
) -> pa.Table:
    """A table of the lake (docs/tables.md), in no particular order; empty where no run has written it yet.

    `filters` are as in pyarrow, and all hold: [("status", "=", "failed")]. Raises InputError for an unknown name.
    """
    _known(name, TABLES, "table")
    for column in [*(columns or []), *(entry[0] for entry in filters or [])]:
        _known(column, TABLES[name].names, f"{name}: column")
    return tables.read(config.lake.root, name, columns, filters)


def _ordered(stages: Iterable[str]) -> list[str]:
    wanted = set(stages) or set(STAGES)
    for name in sorted(wanted):
        if name not in STAGES:
            raise ConfigError(f"no stage {name!r}; the stages are {', '.join(STAGES)}")
    return [name for name in STAGES if name in wanted]


def _known(name: str, names: Iterable[str], kind: str) -> None:
    if name not in (known := list(names)):
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
        raise InputError(f"{kind} {name!r} is unknown; did you mean {near[0]}? (there are {', '.join(known)})")
