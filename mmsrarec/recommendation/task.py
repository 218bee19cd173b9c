"""What is known of a user and of its candidates: tables joined to one `Task` per user. Pure; asks no engine.

The history is cut to the latest recommend.history items and the similar users to the first retrieve.similar_users, the
settings n and k of the method. An item without keywords keeps its place in the history as an empty list. What the
prompt says of an item (recommend.prompt) is told beside its keywords, which are what reasons are made of.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa

from mmsrarec.config import Config
from mmsrarec.engines.untrusted import delimited


@dataclass(frozen=True)
class Candidate:
    """An item to judge; `levels` are the evidence about it as short words, None where none is shown. `said` is what
    the prompt says of it, where that is not its keywords."""

    item_id: str
    keywords: list[str]
    levels: str | None
    said: list[str] | None = None

    @property
    def shown(self) -> list[str]:
        """What the prompt says of it, in parts."""
        return self.keywords if self.said is None else self.said


@dataclass(frozen=True)
class Task:
    """Keywords per item of the history, oldest first, and per item that similar users took next, nearest first; `said`
    is what the prompt says of both, where that is not their keywords but, `with_texts`, their texts, or less."""

    user_id: str
    history: list[list[str]]
    similar: list[list[str]]
    candidates: list[Candidate]
    said: tuple[list[list[str]], list[list[str]]] | None = None
    with_texts: bool = False

    @property
    def shown(self) -> tuple[list[list[str]], list[list[str]]]:
        """What the prompt says of history and similar users' items, in parts."""
        return (self.history, self.similar) if self.said is None else self.said


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


Say = Callable[[str], list[str]]  # what a prompt says of an item by its item_id


def tasks(config: Config, known: Known, texts: Mapping[str, str] | None = None) -> Iterator[Task]:
    """One task per user of `users` that has pairs, in that order; candidates in the order of `pairs`. `texts` by
    item_id (texts.py) are needed where prompts show them."""
    similar = _next_items(known.similar, config.retrieve.similar_users)
    levels = _levels(known.evidence) if config.recommend.evidence else {}
    candidates = _by_user(known.pairs)
    line, whole = _sayings(config, known.keywords, texts)
    with_texts = config.recommend.prompt == "description"
    for user_id, item_ids in _rows(known.users, "user_id", "item_ids"):
        if user_id not in candidates:
            continue
        latest, others = item_ids[-config.recommend.history :], list(similar.get(user_id, ()))
        yield Task(
            user_id,
            [known.keywords.get(item_id, []) for item_id in latest],
            [known.keywords.get(item_id, []) for item_id in others],
            [
                Candidate(
                    item_id,
                    known.keywords.get(item_id, []),
                    levels.get((user_id, item_id)),
                    whole and whole(item_id),
                )
                for item_id in candidates[user_id]
            ],
            line and ([line(item_id) for item_id in latest], [line(item_id) for item_id in others]),
            with_texts,
        )


def _sayings(
    config: Config, keywords: Mapping[str, list[str]], texts: Mapping[str, str] | None
) -> tuple[Say | None, Say | None]:
    """What prompts say of an item of a history, and of a candidate; None: its keywords."""
    settings = config.recommend
    if settings.prompt == "keywords":
        return None, None
    if settings.prompt == "compressed":
        return (lambda item_id: keywords.get(item_id, [])[: settings.line_words]), None
    if texts is None:
        raise ValueError("recommend.prompt=description needs the texts of the items")
    known = texts

    def text(item_id: str) -> list[str]:
        return [delimited(known[item_id])] if item_id in known else []

    return text, text


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
