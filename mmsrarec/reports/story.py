"""The story of users: what they took, who is like them, what they were given and why. Reads tables only, each once.

of_users(config, ["7", "8"])          of the night that readers see
sample_users(config, 6)               some to look at, from short to long histories

Lists are those of the night that is asked for; histories, similar users, candidates and evidence are the latest ones.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmsrarec.config import Config
from mmsrarec.errors import InputError
from mmsrarec.reports.cards import ItemCard, cards, unknown
from mmsrarec.storage import tables

VISIBLE, STAGED = "recommendations", "staged_recommendations"
SIMILAR = 10  # similar users told of, nearest first
BESIDE = ("user_id", "item_id", "levels")  # columns of `evidence` that are no piece of it


@dataclass(frozen=True)
class Night:
    """A date with lists, and the table that has them; `before` is the published night before it, None on the first."""

    run_date: str
    table: str
    before: str | None

    @property
    def published(self) -> bool:
        return self.table == VISIBLE


@dataclass(frozen=True)
class Listed:
    """An item on a list. `evidence` has the pieces by name, empty where the pair is no candidate any more; `levels` are
    the same as the model read them; `because` are the keywords that are the reason."""

    item: ItemCard
    rank: int
    score: float
    p_yes: float | None
    cf_score: float | None
    source: str
    because: list[str]
    evidence: dict[str, float | int | None]
    levels: str


@dataclass(frozen=True)
class Candidate:
    """An item that was scored for the user and is not on the list; rank is its place among the candidates."""

    item: ItemCard
    rank: int
    cf_score: float | None
    source: str
    levels: str


@dataclass(frozen=True)
class Similar:
    """A similar user (user_id is theirs) and what it took next; similarity is the cosine."""

    user_id: str
    rank: int
    similarity: float
    next_item: ItemCard


@dataclass(frozen=True)
class UserStory:
    """`history` is oldest first; `previous` are the item ids of the published list of the night before; run_date,
    run_id and marks are None where the user has no list; `not_listed` are the other candidates, best place first."""

    user_id: str
    split: str
    run_date: str | None
    run_id: str | None
    history: list[ItemCard]
    similar: list[Similar]
    listed: list[Listed]
    not_listed: list[Candidate]
    previous: list[str]
    marks: str | None


def night(config: Config, run_date: str | None = None) -> Night | None:
    """The published night, by default the one that readers see; a date may also be one that is only staged. None where
    there is none yet; InputError where that date has no lists."""
    found = {table: tables.partitions(config.lake.root, table) for table in (STAGED, VISIBLE)}
    chosen = run_date or max(found[VISIBLE], default=None)
    if chosen is None:
        return None
    before = max((date for date in found[VISIBLE] if date < chosen), default=None)
    for table in (VISIBLE, STAGED):
        if chosen in found[table]:
            return Night(chosen, table, before)
    dates = ", ".join(sorted({*found[VISIBLE], *found[STAGED]})[-10:]) or "none yet"
    raise InputError(f"{config.table(VISIBLE)}: no lists of {chosen}; there are {dates}")


def of_users(config: Config, user_ids: Sequence[str], run_date: str | None = None) -> list[UserStory]:
    """One story per id, in their order. Raises InputError, with the nearest ids, for one that `histories` lacks."""
    chosen = night(config, run_date)
    of_them = [("user_id", "in", sorted(set(user_ids)))]
    histories = _by_user(config, "histories", of_them, "user_id", ["user_id", "item_ids", "split"])
    for user_id in user_ids:
        if user_id not in histories:
            raise unknown(config, "histories", "user_id", user_id)
    of_night = [*of_them, ("run_date", "=", chosen.run_date)] if chosen else []
    of_before = [*of_them, ("run_date", "=", chosen.before)] if chosen and chosen.before else []
    rows = _Rows(
        histories,
        _by_user(config, "similar_users", [*of_them, ("rank", "<=", SIMILAR)]),
        _by_user(config, "candidates", of_them),
        _by_user(config, "evidence", of_them, "item_id"),
        _by_user(config, chosen.table, of_night) if chosen else {},
        _by_user(config, VISIBLE, of_before) if of_before else {},
    )
    known = cards(config, rows.items())
    return [rows.story(user_id, known) for user_id in user_ids]


@dataclass(frozen=True)
class _Rows:
    """Rows of the tables by user_id, in the order in which they are told."""

    histories: dict[str, list[dict]]
    similar: dict[str, list[dict]]
    candidates: dict[str, list[dict]]
    evidence: dict[str, list[dict]]
    lists: dict[str, list[dict]]
    previous: dict[str, list[dict]]

    def items(self) -> Iterator[str]:
        """The item_id of every item that is told of."""
        for by_user, column in ((self.lists, "item_id"), (self.candidates, "item_id"), (self.similar, "next_item_id")):
            yield from (row[column] for rows in by_user.values() for row in rows)
        yield from (item_id for (row,) in self.histories.values() for item_id in row["item_ids"])

    def story(self, user_id: str, known: dict[str, ItemCard]) -> UserStory:
        (history,), listed = self.histories[user_id], self.lists.get(user_id, [])
        about = {row["item_id"]: row for row in self.evidence.get(user_id, [])}
        others = {row["item_id"]: row for row in self.candidates.get(user_id, [])}
        for row in listed:
            others.pop(row["item_id"], None)
        first = listed[0] if listed else {}
        return UserStory(
            user_id,
            history["split"],
            first.get("run_date"),
            first.get("run_id"),
            [known[item_id] for item_id in history["item_ids"]],
            [_similar(row, known) for row in self.similar.get(user_id, [])],
            [_listed(row, about.get(row["item_id"], {}), known) for row in listed],
            [_candidate(row, about.get(row["item_id"], {}), known) for row in others.values()],
            [row["item_id"] for row in self.previous.get(user_id, [])],
            first.get("marks"),
        )


def sample_users(config: Config, count: int, run_date: str | None = None) -> list[str]:
    """`count` users who have a list (fewer where fewer have), from the shortest history to the longest: one drawn by
    run.seed from each of `count` equal parts of them."""
    chosen = night(config, run_date)
    if chosen is None:
        return []
    first = [("run_date", "=", chosen.run_date), ("rank", "=", 1)]
    listed = tables.read(config.lake.root, chosen.table, ["user_id"], first)["user_id"].combine_chunks()
    parts = [_lengths(rows, listed) for rows in tables.stream(config.lake.root, "histories", ["user_id", "item_ids"])]
    users = pa.concat_tables(parts).sort_by([("length", "ascending"), ("user_id", "ascending")])["user_id"]
    random = np.random.default_rng(config.run.seed)
    parts = np.array_split(np.arange(len(users)), max(1, min(count, len(users))))
    return users.take(pa.array([int(random.choice(part)) for part in parts if len(part)][:count])).to_pylist()


def _lengths(histories: pa.RecordBatch, listed: pa.Array) -> pa.Table:
    rows = histories.filter(pc.is_in(histories["user_id"], value_set=listed))
    return pa.table({"user_id": rows["user_id"], "length": pc.list_value_length(rows["item_ids"])})


def _by_user(
    config: Config, name: str, filters: list, order: str = "rank", columns: list[str] | None = None
) -> dict[str, list[dict]]:
    found: dict[str, list[dict]] = {}
    rows = tables.read(config.lake.root, name, columns, filters)
    for row in rows.sort_by(order).to_pylist():
        found.setdefault(row["user_id"], []).append(row)
    return found


def _similar(row: dict, known: dict[str, ItemCard]) -> Similar:
    return Similar(row["neighbor_user_id"], row["rank"], row["similarity"], known[row["next_item_id"]])


def _listed(row: dict, about: dict, known: dict[str, ItemCard]) -> Listed:
    return Listed(
        known[row["item_id"]],
        row["rank"],
        row["score"],
        row["p_yes"],
        row["cf_score"],
        row["source"],
        row["because"] or [],
        {name: value for name, value in about.items() if name not in BESIDE},
        about.get("levels") or "",
    )


def _candidate(row: dict, about: dict, known: dict[str, ItemCard]) -> Candidate:
    return Candidate(known[row["item_id"]], row["rank"], row["cf_score"], row["source"], about.get("levels") or "")
