"""What keeps Delta tables small, and makes them forget: old versions with their logs, and small files, go."""

from typing import Any

from deltalake import DeltaTable

from mmsrarec.storage import delta, guard, tables

LOG_RETENTION = "delta.logRetentionDuration"
HOURS = 24


def tidy(root: str, name: str, days: int) -> int:
    """Join small files into large ones, and delete those that the table has not needed for `days`, and what killed
    writers have left; how many files."""
    if not tables.exists(root, name):
        return 0
    guard.check(root)
    table = delta.open_table(tables.address(root, name))
    table.optimize.compact()
    old = _delete_old(table, HOURS * days)
    table.cleanup_metadata()
    return old


def purge(root: str, name: str, retention_hours: int) -> None:
    """Delete the files and the log entries, which hold the least and the greatest id of a file, of versions that are
    older than so many hours, and files that no version knows. Nobody may be writing to the table."""
    guard.check(root)
    table = delta.open_table(tables.address(root, name))
    _delete_old(table, retention_hours)
    kept = table.metadata().configuration.get(LOG_RETENTION, "interval 30 days")  # Delta's own default
    table.alter.set_table_properties({LOG_RETENTION: f"interval {retention_hours} hours"})
    table.create_checkpoint()
    table.cleanup_metadata()
    table.alter.set_table_properties({LOG_RETENTION: kept})


def delete_old(root: str, name: str) -> None:
    """Delete the files that the table has not used for as long as its properties say, forgotten ones too."""
    _delete_old(delta.open_table(tables.address(root, name)))


def _delete_old(table: DeltaTable, hours: int | None = None) -> int:
    """Also files that no version knows. A vacuum of nothing would be a commit, too."""
    options: dict[str, Any] = {"retention_hours": hours, "enforce_retention_duration": hours is None, "full": True}
    old = table.vacuum(**options)
    if old:
        table.vacuum(**options, dry_run=False)
    return len(old)
