"""`mmsrarec explain`: what the tables say about one user, from its history to its list. Asks no engine, writes nothing.

console.print(render(explain(config, "7")))
"""

import difflib
import sys
from bisect import bisect_left
from dataclasses import dataclass

import pyarrow.compute as pc
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from mmsrarec.config import Config
from mmsrarec.errors import InputError
from mmsrarec.storage import tables

TITLE_CHARS = 40
FILE_WIDTH = 200  # where the output is no terminal
SIMILAR = 10  # similar users shown
NEAR = 500  # ids on either side of an unknown one among which a similar one is looked for


@dataclass(frozen=True)
class Explanation:
    """Rows of the tables about one user, in their own order.

    `items` and `keywords` are the catalog's rows and the keywords of every item named anywhere; `run_date` is that of
    the list, None where there is no list yet.
    """

    user_id: str
    split: str
    history: list[str]
    similar: list[dict]
    candidates: list[dict]
    run_date: str | None
    recommendations: list[dict]
    items: dict[str, dict]
    keywords: dict[str, dict]


def explain(config: Config, user_id: str) -> None:
    """Print all that is known of the user; raises InputError as look_up does."""
    Console(width=None if sys.stdout.isatty() else FILE_WIDTH).print(render(look_up(config, user_id)))


def look_up(config: Config, user_id: str) -> Explanation:
    """Raises InputError for a user that `histories` does not know, with the nearest ids."""
    root, of_user = config.lake.root, [("user_id", "=", user_id)]
    users = tables.read(root, "histories", filters=of_user).to_pylist()
    if not users:
        raise InputError(_unknown(config, user_id))
    history = users[0]["item_ids"]
    similar = sorted(tables.read(root, "similar_users", filters=of_user).to_pylist(), key=lambda row: row["rank"])
    candidates = sorted(tables.read(root, "candidates", filters=of_user).to_pylist(), key=lambda row: row["rank"])
    evidence = {row["item_id"]: row for row in tables.read(root, "evidence", filters=of_user).to_pylist()}
    run_date, listed = _latest(config, tables.read(root, "recommendations", filters=of_user).to_pylist())
    named = {*history, *(row["next_item_id"] for row in similar), *(row["item_id"] for row in candidates + listed)}
    of_items = [("item_id", "in", sorted(named))]
    return Explanation(
        user_id,
        users[0]["split"],
        history,
        similar,
        [evidence.get(row["item_id"], {}) | row for row in candidates],
        run_date,
        listed,
        {row["item_id"]: row for row in tables.read(root, "catalog", filters=of_items).to_pylist()},
        {row["item_id"]: row for row in tables.read(root, "item_keywords", filters=of_items).to_pylist()},
    )


def render(explanation: Explanation) -> RenderableType:
    """Four tables for a terminal. Everything that came from the shop is shown as plain text, never as markup."""
    return Group(
        Text(f"User {_plain(explanation.user_id)} ({explanation.split} split)", style="bold"),
        _history(explanation),
        _similar(explanation),
        _candidates(explanation),
        _recommendations(explanation),
    )


def _unknown(config: Config, user_id: str) -> str:
    ids = pc.drop_null(tables.read(config.lake.root, "histories", ["user_id"])["user_id"].combine_chunks())
    if len(ids) == 0:
        return f"{config.table('histories')}: no users yet; run build_cf first"
    sorted_ids = ids.sort()
    place = bisect_left(range(len(sorted_ids)), user_id, key=lambda row: sorted_ids[row].as_py())
    around = sorted_ids[max(place - NEAR, 0) : place + NEAR].to_pylist()
    near = difflib.get_close_matches(user_id, around, n=3, cutoff=0.0)
    return (
        f"{config.table('histories')}: no user {user_id!r} among {len(ids):,} users; "
        f"did you mean {' or '.join(map(repr, near))}?"
    )


def _latest(config: Config, rows: list[dict]) -> tuple[str | None, list[dict]]:
    """The list of run.date where there is one, else the latest one."""
    dates = {row["run_date"] for row in rows}
    run_date = config.run.run_date if config.run.run_date in dates else max(dates, default=None)
    return run_date, sorted((row for row in rows if row["run_date"] == run_date), key=lambda row: row["rank"])


def _history(explanation: Explanation) -> Table:
    table = _table(f"History, {len(explanation.history)} items, oldest first", "#", "item", "title", "keywords")
    for position, item_id in enumerate(explanation.history, 1):
        _add(table, position, item_id, _title(explanation, item_id), _keywords(explanation, item_id))
    return table


def _similar(explanation: Explanation) -> Table:
    count = f"nearest {min(SIMILAR, len(explanation.similar))} of {len(explanation.similar)}"
    table = _table(f"Similar users ({count}) took next", "#", "user", "cosine", "item", "title", "keywords")
    for row in explanation.similar[:SIMILAR]:
        item_id = row["next_item_id"]
        shown = _title(explanation, item_id), _keywords(explanation, item_id)
        _add(table, row["rank"], row["neighbor_user_id"], _number(row["similarity"]), item_id, *shown)
    return table


def _candidates(explanation: Explanation) -> Table:
    columns = "#", "item", "title", "source", "cf_score", "evidence", "p_yes", "rank in list"
    table = _table(f"Candidates, {len(explanation.candidates)}", *columns)
    listed = {row["item_id"]: row for row in explanation.recommendations}
    for row in explanation.candidates:
        in_list = listed.get(row["item_id"], {})
        _add(
            table,
            row["rank"],
            row["item_id"],
            _title(explanation, row["item_id"]),
            row["source"],
            _number(row["cf_score"]),
            row.get("levels") or "",
            _number(in_list.get("p_yes")),
            in_list.get("rank", ""),
        )
    return table


def _recommendations(explanation: Explanation) -> Table:
    day = explanation.run_date or "none yet; run recommend"
    table = _table(f"Recommendations of {day}", "#", "item", "title", "p_yes", "source", "because", "keywords")
    for row in explanation.recommendations:
        item_id = row["item_id"]
        because = ", ".join(row["because"]) or "no shared keyword"
        shown = _number(row["p_yes"]), row["source"], because, _keywords(explanation, item_id)
        _add(table, row["rank"], item_id, _title(explanation, item_id), *shown)
    if any(row["marks"] for row in explanation.recommendations):
        table.caption = ", ".join(sorted({row["marks"] for row in explanation.recommendations}))
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=Text(title), title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _add(table: Table, *cells: object) -> None:
    table.add_row(*(Text(_plain(str(cell))) for cell in cells))


def _plain(text: str) -> str:
    """Without control characters, which a terminal would obey."""
    return "".join(c if c.isprintable() else " " for c in text)


def _title(explanation: Explanation, item_id: str) -> str:
    title = explanation.items.get(item_id, {}).get("title") or ""
    return title if len(title) <= TITLE_CHARS else f"{title[: TITLE_CHARS - 1]}…"


def _keywords(explanation: Explanation, item_id: str) -> str:
    return ", ".join(explanation.keywords.get(item_id, {}).get("keywords") or ())


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
