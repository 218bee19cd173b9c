"""`mmsrarec forget`: a user leaves every table, every old version of them, the index, and all later nights.

Rows are taken out by writing a table (or its nights) anew without them: a DELETE would leave its condition, and with it
the user_id, in the table's log. Which tables name users follows from schemas.py: every column whose name ends in
user_id, and the keys of `rejects`. First of all the hash of the user_id goes to `forgotten`, so a command that was
stopped can be given again, and a night in between does not bring the user back. What only counts users is made without
them when it is made next: co-occurrence the next night, SASRec's weights after sasrec.refresh_days at the latest. The
user's own input files are not ours to change.
"""

import hashlib
from collections.abc import Callable, Collection
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc

from mmsrarec import log, noise
from mmsrarec.collaborative import checkpoint
from mmsrarec.collaborative.index import index_cf
from mmsrarec.config import Config
from mmsrarec.engines import delivery
from mmsrarec.errors import ConfigError
from mmsrarec.publishing.clean import leftovers
from mmsrarec.schemas import PARTITIONS, TABLES
from mmsrarec.storage import files, rules, runs, tables, upkeep
from mmsrarec.storage.spool import Spool

MAX_ID_CHARS = 1024  # of an id in a key of `rejects`
ABOUT_ITEMS = ("build_cf", "summarize_items")  # stages that reject whole items: a key without a slash is an item_id
Naming = Callable[[pa.RecordBatch], pa.Array]  # which rows of a batch name one of the users?


def named(config: Config, users: list[str], users_file: str | None) -> list[str]:
    """The users of the command line and of the file. Raises ConfigError where there are none."""
    found = set(users) | (rules.read_ids(config, users_file, "user_id", "--users-file") if users_file else set())
    if not found - {""}:
        raise ConfigError("forget: no user; give --user ID or --users-file FILE")
    return sorted(found - {""})


def user_hash(user_id: str) -> str:
    """As build_cf computes it, too."""
    return hashlib.sha256(user_id.encode()).hexdigest()


def forget(config: Config, run_id: str, users: list[str], retention_hours: int = 0) -> None:
    """Remove `users`; no other command may be working on the lake. Versions younger than `retention_hours` keep their
    rows until the same command is given again after that time."""
    root = config.lake.root
    with runs.stage(config, "forget", run_id) as stage:
        stage.rows_in = len(users)
        stage.notes["new_users"] = _remember(root, run_id, users)
        naming = {name: found for name in TABLES if (found := _naming(name, users)) and tables.exists(root, name)}
        removed = {name: _remove(root, name, names_them) for name, names_them in naming.items()}
        stage.rows_out = sum(removed.values())
        stage.notes |= {"removed": removed, "retention_hours": retention_hours}
        leftovers(config)
        files.delete_folder(delivery.folder(config))  # prompts
        files.delete(config.page)  # it shows users; the next night writes another
        noise.delete_old(config, retention_hours)  # libraries may have printed anything
        for name in naming:
            upkeep.purge(root, name, retention_hours)
        checkpoint.drop_others(config)
        if checkpoint.describe(checkpoint.folder(config.similar_network)) and tables.count(root, "histories"):
            index_cf(config, run_id)  # a new collection without the users, if they were in it; the old one is dropped
    counts = ", ".join(f"{name} {rows:,}" for name, rows in removed.items() if rows) or "no table named them"
    log.say(f"forget: {len(users):,} user(s); rows removed: {counts}", "forgotten")


def _remember(root: str, run_id: str, users: list[str]) -> int:
    """Put the hashes into `forgotten` that are not there; how many those are."""
    known = set(tables.read(root, "forgotten", ["user_hash"])["user_hash"].to_pylist())
    now = datetime.now(UTC)
    rows = [
        {"user_hash": digest, "forgotten_at": now, "run_id": run_id}
        for digest in map(user_hash, users)
        if digest not in known
    ]
    tables.append(root, "forgotten", tables.from_rows("forgotten", rows))
    return len(rows)


def _naming(name: str, users: list[str]) -> Naming | None:
    """How rows of the table name the users; None where they cannot."""
    if name == "rejects":
        cut = {user[:MAX_ID_CHARS] for user in users}
        return lambda batch: pa.array(
            [_in_key(row["stage"], row["key"], cut) for row in batch.select(["stage", "key"]).to_pylist()], pa.bool_()
        )
    columns = [column for column in TABLES[name].names if column.endswith("user_id")]
    if not columns:
        return None
    ids = pa.array(users, pa.string())

    def names_them(batch: pa.RecordBatch) -> pa.Array:
        found = pc.is_in(batch[columns[0]], value_set=ids)
        for column in columns[1:]:
            found = pc.or_(found, pc.is_in(batch[column], value_set=ids))
        return found

    return names_them


def _in_key(stage: str, key: str, users: Collection[str]) -> bool:
    """A key of `rejects` is an item_id, a user_id, or user_id/item_id, and ids may have slashes of their own."""
    if stage == "summarize_items":
        return False
    starts = {key[:place] for place, sign in enumerate(key) if sign == "/"}
    return not starts.isdisjoint(users) or (key in users and stage not in ABOUT_ITEMS)


def _remove(root: str, name: str, names_them: Naming) -> int:
    """Write the table, or those of its nights that name the users, anew without them in one commit; rows removed."""
    partition, nights, removed = PARTITIONS.get(name), set(), 0
    for batch in tables.stream(root, name):
        found = batch.filter(names_them(batch))
        removed += found.num_rows
        if partition:
            nights |= set(found[partition[0]].to_pylist())
    if not removed:
        return 0
    filters = [(partition[0], "in", sorted(nights))] if partition else None
    predicate = f"{partition[0]} IN ({', '.join(repr(night) for night in sorted(nights))})" if partition else None
    with Spool(name) as spool:
        for batch in tables.stream(root, name, filters=filters):
            spool.write(name, pa.Table.from_batches([batch]).filter(pc.invert(names_them(batch))))
        tables.replace(root, name, spool.batches(name), predicate)
    return removed
