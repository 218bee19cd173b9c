"""Which run the page is about: per stage the row of the ledger that made what the page shows, and the one before."""

from dataclasses import dataclass

from mmsrarec.config import Config
from mmsrarec.errors import InputError
from mmsrarec.reports import story
from mmsrarec.storage import runs, tables

BESIDE = ("report", "rollback", "forget")  # rows of the ledger that make nothing the page shows


@dataclass(frozen=True)
class Tonight:
    """`stages` has the run's own rows, and, for stages that were no part of it, the last rows before; `before` has per
    stage the row of the run before that. `history` are all rows up to this run, oldest first. `replaced_by` is a later
    run that has published other lists of the same date."""

    run_id: str
    stages: dict[str, dict]
    before: dict[str, dict]
    history: list[dict]
    night: story.Night | None
    replaced_by: str | None

    @property
    def failed(self) -> list[dict]:
        return [row for row in self.stages.values() if row["status"] not in ("completed", "running")]

    @property
    def versions(self) -> dict[tuple[str, str], list[str]]:
        """The stages that had a version, by its name and value."""
        found: dict[tuple[str, str], list[str]] = {}
        for stage, row in self.stages.items():
            for name, value in row["versions"].items():
                if name != "tables" and value:
                    found.setdefault((name, str(value)), []).append(stage)
        return found

    def note(self, stage: str, name: str, otherwise: object = None) -> object:
        return self.stages.get(stage, {}).get("notes", {}).get(name, otherwise)

    def count(self, stage: str, column: str) -> tuple[int | None, int | None]:
        """A column of the stage's row, the run before and now; None where there is no such row."""
        before, now = (rows[stage][column] if stage in rows else None for rows in (self.before, self.stages))
        return before, now


def tonight(config: Config, run_id: str | None = None) -> Tonight:
    """Of the run, by default of the latest one. Raises InputError where the ledger has no such run."""
    rows = [row for row in runs.ledger(config) if row["stage"] not in BESIDE]
    own = [row for row in rows if run_id in (None, row["run_id"])]
    if not own:
        wanted = f"no run {run_id} in the ledger; `mmsrarec runs` shows them" if run_id else "no run yet"
        raise InputError(f"{config.table('runs')}: {wanted}")
    history = [row for row in rows if row["started_at"] <= own[-1]["started_at"]]
    stages = {row["stage"]: row for row in history}
    before = {row["stage"]: row for row in history if row["run_id"] != stages[row["stage"]]["run_id"]}
    ordered = dict(sorted(stages.items(), key=lambda entry: entry[1]["started_at"]))
    night = _night(config, ordered)
    later = [row for row in rows[len(history) :] if night and _published(row) == night.run_date]
    return Tonight(own[-1]["run_id"], ordered, before, history, night, later[-1]["run_id"] if later else None)


def seconds(row: dict | None) -> float:
    """0 for a row that has not ended."""
    if not row or not row["finished_at"]:
        return 0.0
    return (row["finished_at"] - row["started_at"]).total_seconds()


def _night(config: Config, stages: dict[str, dict]) -> story.Night | None:
    """The date that publish names where it came after recommend, else the latest one that is staged."""
    staged = tables.partitions(config.lake.root, story.STAGED)
    dates = {*staged, *tables.partitions(config.lake.root, story.VISIBLE)}
    publish, recommend = stages.get("publish"), stages.get("recommend")
    named = publish["notes"].get("run_date") if publish else None
    if publish and recommend and recommend["started_at"] > publish["started_at"]:
        named = max(staged, default=None)
    return story.night(config, named if named in dates else None)


def _published(row: dict) -> str | None:
    """The date of which this row of the ledger made readers see other lists."""
    changed = row["stage"] == "publish" and row["status"] == "completed" and "skipped" not in row["notes"]
    return row["notes"].get("run_date") if changed else None
