"""The story of an item: its keywords and where they come from, who gets it, what it is taken with. Reads tables only.

of_item(config, "590")    lists of the night that readers see
"""

from collections import Counter
from dataclasses import dataclass
from datetime import UTC

import pyarrow.compute as pc

from mmsrarec.config import Config
from mmsrarec.errors import InputError
from mmsrarec.reports.cards import ItemCard, cards, unknown
from mmsrarec.reports.story import Night, night
from mmsrarec.storage import rules, runs, tables

NEIGHBORS = 10  # items it is taken with, and taken before
USERS = 10  # users named that get it
SUMMARIZE = "summarize_items"
TOGETHER = {"item_cooccurrence": "neighbor_id", "item_transitions": "next_item_id"}


@dataclass(frozen=True)
class Keywords:
    """What the model said about the picture and about the text, in the run that last changed it.

    `changed` is that run's night (the date of its lists, else that on which it started), None where the ledger does not
    know the run; `before` are the keywords until then, None where there were none or their version is gone.
    """

    image: list[str]
    text: list[str]
    image_note: str | None
    model: str
    prompt_version: str
    run_id: str
    changed: str | None
    before: list[str] | None


@dataclass(frozen=True)
class Lists:
    """The lists of a night that the item is on: `count` of `of`, best ranks first in `users`; sources and reasons (the
    keywords of because) are counted over them. `before` is `count` of the night before, None where there is none."""

    run_date: str
    count: int
    of: int
    before: int | None
    mean_rank: float | None
    users: list[str]
    sources: dict[str, int]
    reasons: dict[str, int]


@dataclass(frozen=True)
class Together:
    """Another item of the same histories: count of the pairs, and the table's score."""

    item: ItemCard
    count: int
    score: float


@dataclass(frozen=True)
class Reject:
    """Why a stage left out the item, or another row of the same id."""

    stage: str
    error: str
    message: str
    run_id: str


@dataclass(frozen=True)
class ItemStory:
    """`barred_by` is the setting of rules: by which it may not be listed; keywords and lists are None where there are
    none yet; candidate_of counts users; together and next are the nearest first."""

    card: ItemCard
    text: str | None
    interactions: int
    barred_by: str | None
    keywords: Keywords | None
    candidate_of: int
    lists: Lists | None
    together: list[Together]
    next: list[Together]
    rejected: list[Reject]


def of_item(config: Config, item_id: str, run_date: str | None = None) -> ItemStory:
    """Raises InputError for an item that the catalog does not have: why it was left out, or the nearest ids."""
    root, of_it = config.lake.root, [("item_id", "=", item_id)]
    rows = tables.read(root, "catalog", filters=of_it).to_pylist()
    if not rows:
        raise not_there(config, item_id)
    near = {
        name: tables.read(root, name, filters=[*of_it, ("rank", "<=", NEIGHBORS)]).sort_by("rank").to_pylist()
        for name in TOGETHER
    }
    known = cards(config, [item_id, *(row[TOGETHER[name]] for name, found in near.items() for row in found)])
    together, follows = (
        [Together(known[row[TOGETHER[name]]], row["count"], row["score"]) for row in found]
        for name, found in near.items()
    )
    chosen = night(config, run_date)
    return ItemStory(
        known[item_id],
        rows[0]["text"],
        rows[0]["interactions"] or 0,
        rules.load(config).bars(item_id, rows[0]["category"]),
        _keywords(config, of_it),
        tables.count(root, "candidates", of_it),
        _lists(config, chosen, of_it) if chosen else None,
        together,
        follows,
        rejected(config, item_id),
    )


def not_there(config: Config, item_id: str) -> InputError:
    """Why the catalog does not have it, as far as that is known."""
    why = [f"{entry.error}: {entry.message}" for entry in rejected(config, item_id) if entry.stage == "build_cf"]
    if not why:
        return unknown(config, "catalog", "item_id", item_id)
    return InputError(f"{config.inputs.items}: item {item_id!r} was rejected by build_cf ({'; '.join(why)})")


def rejected(config: Config, item_id: str) -> list[Reject]:
    """What the latest run of each stage that reads items said about it."""
    rows = tables.read(config.lake.root, "rejects", filters=[("key", "=", item_id)]).to_pylist()
    latest = {row["stage"]: row["run_id"] for row in runs.ledger(config)} if rows else {}
    return [
        Reject(row["stage"], row["error"], row["message"], row["run_id"])
        for row in rows
        if row["stage"] in ("build_cf", SUMMARIZE) and row["run_id"] == latest.get(row["stage"], row["run_id"])
    ]


def _keywords(config: Config, of_it: list) -> Keywords | None:
    rows = tables.read(config.lake.root, "item_keywords", filters=of_it).to_pylist()
    if not rows:
        return None
    row = rows[0]
    stages = {entry["stage"]: entry for entry in runs.ledger(config, row["run_id"])}
    made = stages.get(SUMMARIZE)
    earlier = None
    if made:
        columns = ["item_id", "keywords"]
        earlier = tables.read_before(config.lake.root, "item_keywords", made["started_at"], columns, of_it)
    return Keywords(
        row["image_keywords"] or [],
        row["text_keywords"] or [],
        row["image_note"],
        row["model"],
        row["prompt_version"],
        row["run_id"],
        _night_of(stages) if made else None,
        earlier["keywords"][0].as_py() if earlier else None,
    )


def _night_of(stages: dict[str, dict]) -> str:
    """The date of a run's lists, else that on which it made the keywords."""
    published = stages.get("publish", {}).get("notes", {}).get("run_date")
    return published or stages[SUMMARIZE]["started_at"].astimezone(UTC).date().isoformat()


def _lists(config: Config, chosen: Night, of_it: list) -> Lists:
    root, of_night = config.lake.root, [("run_date", "=", chosen.run_date)]
    columns = ["user_id", "rank", "source", "because"]
    rows = tables.read(root, chosen.table, columns, [*of_night, *of_it])
    rows = rows.sort_by([("rank", "ascending"), ("user_id", "ascending")])
    before = [("run_date", "=", chosen.before), *of_it]
    return Lists(
        chosen.run_date,
        rows.num_rows,
        tables.read(root, chosen.table, ["user_id"], [*of_night, ("rank", "=", 1)]).num_rows,
        tables.read(root, "recommendations", ["user_id"], before).num_rows if chosen.before else None,
        pc.mean(rows["rank"]).as_py(),
        rows["user_id"][:USERS].to_pylist(),
        dict(Counter(rows["source"].to_pylist()).most_common()),
        dict(Counter(word for words in rows["because"].to_pylist() for word in words or ()).most_common()),
    )
