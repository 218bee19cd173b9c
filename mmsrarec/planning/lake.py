"""Tonight's inputs without touching the lake: build_cf into a temporary one that sees all else of the real one."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmsrarec.config import Config
from mmsrarec.errors import InputError
from mmsrarec.preparation.build_cf import build_cf
from mmsrarec.storage import files, runs, tables
from mmsrarec.storage.scratch import Scratch

MADE = ("histories", "catalog", "item_cooccurrence", "item_transitions")  # by build_cf, anew
ADDED_TO = ("runs", "rejects")  # by build_cf, so they are copied


@contextmanager
def tonight(config: Config, fresh: bool) -> Iterator[Config]:
    """The configuration with a lake that has histories and catalog: the real one, unless they are missing or `fresh`
    asks for those of the inputs as they are now."""
    root = config.lake.root
    if not fresh and tables.exists(root, "catalog") and tables.exists(root, "histories"):
        yield config
        return
    if not files.is_local(root):
        raise InputError(
            f"{root}: to plan with inputs that no night has read yet, the lake must be on a disk; run build_cf first, "
            "then plan without --fresh"
        )
    with Scratch("plan") as scratch:
        _mirror(Path(root).resolve(), scratch.path)
        copy = config.model_copy(update={"lake": config.lake.model_copy(update={"root": str(scratch.path)})})
        build_cf(copy, runs.new_run_id())
        yield copy


def _mirror(lake: Path, folder: Path) -> None:
    """What build_cf only reads, or not even that, is a link."""
    for place in lake.iterdir() if lake.is_dir() else ():
        if place.name == "locks":
            continue  # the copy has a holder of its own
        if place.name in ADDED_TO:
            shutil.copytree(place, folder / place.name)
        elif place.name not in MADE:
            (folder / place.name).symlink_to(place)
