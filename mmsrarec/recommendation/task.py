"""What is known of a user and of its candidates: tables joined to one `Task` per user. Pure; asks no engine.

The history is cut to the latest recommend.history items and the similar users to the first retrieve.similar_users, the
settings n and k of the method. An item without keywords keeps its place in the history as an empty list.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa

from mmsrarec.config import Config


@dataclass(frozen=True)
class Candidate:
    """An item to judge; `levels` are the evidence about it as short words, None where none is shown."""

    item_id: str
    keywords: list[str]
    levels: str | None


@dataclass(frozen=True)
class Task:
    """Keywords per item of the history, oldest first, and per item that similar users took next, nearest first."""

    user_id: str
    history: list[list[str]]
    similar: list[list[str]]
    candidates: list[Candidate]


@dataclass(frozen=True)
class Known:
    """The tables behind some users' tasks.

    users (user_id, item_ids in time order), similar (as `similar_users`), pairs (user_id, item_id) to judge, evidence
    (as `evidence`; a pair may be missing), keywords per item_id.
    """

    users: pa.Table
    similar: pa.Table
    pairs: pa.Table
    evidence: pa.Table
    keywords: Mapping[str, list[str]]


def keywords_by_item(item_keywords: pa.Table) -> dict[str, list[str]]:
    return dict(zip(*(item_keywords.column(name).to_pylist() for name in ("item_id", "keywords")), strict=True))


def tasks(config: Config, known: Known) -> Iterator[Task]:
    """One task per user of `users` that has pairs, in that order; candidates in the order of `pairs`."""
    similar = _next_items(known.similar, config.retrieve.similar_users)
    levels = _levels(known.evidence) if config.recommend.evidence else {}
    candidates = _by_user(known.pairs)
    for user_id, item_ids in _rows(known.users, "user_id", "item_ids"):
        if user_id not in candidates:
            continue
        yield Task(
            user_id,
            [known.keywords.get(item_id, []) for item_id in item_ids[-config.recommend.history :]],
            [known.keywords.get(item_id, []) for item_id in similar.get(user_id, ())],
            [
                Candidate(item_id, known.keywords.get(item_id, []), levels.get((user_id, item_id)))
                for item_id in candidates[user_id]
            ],
        )


def _rows(table: pa.Table, *columns: str) -> Iterator[tuple]:
    return zip(*(table.column(column).to_pylist() for column in columns), strict=True)


def _by_user(pairs: pa.Table) -> dict[str, dict[str, None]]:
    """Distinct items per user, in their order."""
    items: dict[str, dict[str, None]] = {}
    for user_id, item_id in _rows(pairs, "user_id", "item_id"):
        items.setdefault(user_id, {})[item_id] = None
    return items


def _next_items(similar: pa.Table, limit: int) -> dict[str, dict[str, None]]:
    """Distinct items that the first `limit` similar users took next, nearest user first."""
    items: dict[str, dict[str, None]] = {}
    for user_id, rank, item_id in sorted(_rows(similar, "user_id", "rank", "next_item_id")):
        if rank <= limit:
            items.setdefault(user_id, {})[item_id] = None
    return items


def _levels(evidence: pa.Table) -> dict[tuple[str, str], str]:
    return {(user, item): words for user, item, words in _rows(evidence, "user_id", "item_id", "levels")}
