"""Stage clean: away with what nobody needs any more.

Leftovers of runs that died (what an engine had answered them is kept), answers that no run has asked for lately, and
files that no table has needed for lake.keep_days; and log files as old as that.
"""

from mmsrarec import log, noise
from mmsrarec.config import Config
from mmsrarec.engines import delivery
from mmsrarec.schemas import TABLES
from mmsrarec.storage import runs, scratch, upkeep


def clean(config: Config, run_id: str) -> None:
    """Changes no row but those of `answers`, and the number of files of every table."""
    with runs.stage(config, "clean", run_id) as stage:
        leftovers(config)
        delivery.prune(config)
        names = [name for name in TABLES if name != "locks"]  # whose holder exchanges it meanwhile
        deleted = sum(upkeep.tidy(config.lake.root, name, config.lake.keep_days) for name in names)
        deleted += noise.delete_old(config, upkeep.HOURS * config.lake.keep_days)
        stage.notes["files_deleted"] = deleted
    log.say(f"clean: {deleted:,} files deleted that no table needs any more", "cleaned")


def leftovers(config: Config) -> None:
    """Keep what engines have answered to runs that died, and delete all else that these have left."""
    delivery.recover(config)
    scratch.sweep(scratch.common())
