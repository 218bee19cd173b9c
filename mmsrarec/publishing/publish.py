"""Stage publish: the staged night passes its gates and becomes visible by one commit; rollback takes nights back.

Readers follow one rule: the latest run_date of `recommendations` is the current night. So publishing and rolling back
are each one commit to one table, and a reader in the middle keeps the version that it has opened. What rollback takes
away stays in `staged_recommendations`, from where it can be published again.
"""

from mmsrarec import log
from mmsrarec.config import Config
from mmsrarec.errors import GateError, InputError
from mmsrarec.publishing.figures import STAGED, VISIBLE, Figures, measure
from mmsrarec.publishing.gates import Gate, judge
from mmsrarec.storage import runs, tables
from mmsrarec.storage.spool import Spool


def publish(config: Config, run_id: str) -> None:
    """Let readers see the staged lists of run.date, unless a gate fails (GateError) or this run has done so before."""
    root, run_date = config.lake.root, config.run.run_date
    with runs.stage(config, "publish", run_id) as stage, Spool(VISIBLE) as spool:
        stage.notes["run_date"] = run_date
        _prune(config)
        commit = tables.Commit(run_id, f"publish/{run_date}", tables.version(root, STAGED) or 0)
        if tables.committed(root, VISIBLE, commit):
            stage.notes |= {"skipped": "this run has published it", "published": f"the lists of {run_date}"}
            return
        figures = measure(config, spool)
        verdict = judge(figures, config.publish)
        stage.rows_in = figures.rows
        stage.notes["night_before"] = figures.night_before
        stage.notes["gates"] = {gate.setting or gate.name: gate.figure for gate in verdict}
        if failed := [gate for gate in verdict if not gate.passed]:
            stage.notes["failed"] = [gate.setting or gate.name for gate in failed]
            raise GateError(_refusal(config, figures, failed))
        if figures.unchanged:
            stage.notes["skipped"] = "readers see it already"
        else:
            tables.replace(root, VISIBLE, spool.batches(VISIBLE), f"run_date = '{run_date}'", commit)
        stage.rows_out = figures.rows
        stage.notes["published"] = f"{figures.lists:,} lists of {run_date}"
        log.say(f"publish: {figures.lists:,} lists of {run_date} are what readers see", "published")


def rollback(config: Config, run_id: str, to: str) -> None:
    """Make the night `to` the latest one that readers see. Raises InputError where it was not published."""
    root = config.lake.root
    nights = tables.partitions(root, VISIBLE)
    if to not in nights:
        shown = ", ".join(nights[-10:]) or "none"
        raise InputError(f"{config.table(VISIBLE)}: no lists of {to} to go back to; published are {shown}")
    with runs.stage(config, "rollback", run_id) as stage:
        gone = [night for night in nights if night > to]
        stage.notes |= {"to": to, "taken_back": gone}
        if gone:
            commit = tables.Commit(run_id, f"rollback/{to}", tables.version(root, VISIBLE) or 0)
            tables.delete(root, VISIBLE, f"run_date > '{to}'", commit)
    kept = f"; taken back, and kept in {config.table(STAGED)}: {', '.join(gone)}" if gone else ", as before"
    log.say(f"rollback: readers see the lists of {to}{kept}", "rolled_back")


def _refusal(config: Config, figures: Figures, failed: list[Gate]) -> str:
    before = figures.night_before
    lines = "\n".join(f"  {gate}" for gate in failed)
    return (
        f"publish: the lists of {figures.run_date} fail {len(failed)} gate(s):\n{lines}\n"
        f"Readers see what they saw before{f' (night before: {before})' if before else ''}. The refused lists are in "
        f"{config.table(STAGED)} under run_date = '{figures.run_date}'. Mend the cause and run again, or, if they are "
        f"right, publish with another limit: mmsrarec publish CONFIG --set run.date={figures.run_date} --set publish.…"
    )


def _prune(config: Config) -> None:
    """Keep the latest publish.keep_staged nights of the staged lists."""
    nights = tables.partitions(config.lake.root, STAGED)
    if len(nights) > config.publish.keep_staged:
        tables.delete(config.lake.root, STAGED, f"run_date < '{nights[-config.publish.keep_staged]}'")
