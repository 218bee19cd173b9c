"""People and items to look at: their stories and pictures, as many as the configuration or the command asks for."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from mmsrarec.config import Config
from mmsrarec.reports import story
from mmsrarec.reports.cards import ItemCard, cards
from mmsrarec.reports.page import words
from mmsrarec.reports.page.figures import Figures
from mmsrarec.reports.page.thumbnails import Thumbnails
from mmsrarec.reports.story import UserStory
from mmsrarec.storage import tables

HISTORY, SIMILAR = 8, 6  # latest items of a history, and similar users, that are shown


@dataclass(frozen=True)
class ItemLook:
    """An item with its words by where they come from, and how many lists it is on, tonight and the night before (None:
    there was none); `reasons` are the keywords of `because` on these lists, by how often they are."""

    card: ItemCard
    text: str
    image_keywords: list[str]
    text_keywords: list[str]
    lists: int
    lists_before: int | None
    mean_rank: float
    reasons: dict[str, int]


@dataclass(frozen=True)
class Looks:
    """`pictures` are data: addresses by item_id, `left_out` counts those not there by reason; `named` are users whom
    the command named, so not drawn."""

    users: list[UserStory]
    items: list[ItemLook]
    pictures: dict[str, str]
    left_out: dict[str, int]
    named: bool


def look(config: Config, figures: Figures, user_ids: list[str]) -> Looks:
    """At these users, or at some drawn by run.seed; raises InputError for one that is not there."""
    night = figures.tonight.night
    run_date = night.run_date if night else None
    chosen = user_ids or story.sample_users(config, config.report.users, run_date)[::-1]
    users = story.of_users(config, list(dict.fromkeys(chosen)), run_date) if chosen else []
    items = _items(config, figures)
    thumbnails = Thumbnails(config)
    thumbnails.add(item.card for item in items)
    thumbnails.add(item for user in users for item in shown(user))
    return Looks(users, items, thumbnails.addresses, dict(thumbnails.left_out.most_common()), bool(user_ids))


def shown(user: UserStory) -> Iterator[ItemCard]:
    """The items of a story whose pictures are on the page."""
    yield from (listed.item for listed in user.listed)
    yield from user.history[-HISTORY:]
    yield from (similar.next_item for similar in user.similar[:SIMILAR])


def _items(config: Config, figures: Figures) -> list[ItemLook]:
    """Each table is read once for all of them."""
    now, before, night = figures.lists, figures.lists_before, figures.tonight.night
    chosen, root = words.sample(config, now.items) if now else [], config.lake.root
    if not chosen or night is None:
        return []
    of_them = [("item_id", "in", chosen)]
    known = cards(config, chosen)
    text = _by_item(tables.read(root, "catalog", ["item_id", "text"], of_them).to_pylist())
    columns = ["item_id", "image_keywords", "text_keywords"]
    said = _by_item(tables.read(root, "item_keywords", columns, of_them).to_pylist())
    of_night = [("run_date", "=", night.run_date), *of_them]
    listed: dict[str, list[dict]] = {item_id: [] for item_id in chosen}
    for row in tables.read(root, night.table, ["item_id", "rank", "because"], of_night).to_pylist():
        listed[row["item_id"]].append(row)
    of_chosen = pc.is_in(before.items["value"], value_set=pa.array(chosen)) if before else None
    earlier = dict(words.shares(before.items.filter(of_chosen), len(chosen))) if before else {}
    return [
        ItemLook(
            known[item_id],
            text.get(item_id, {}).get("text") or "",
            said.get(item_id, {}).get("image_keywords") or [],
            said.get(item_id, {}).get("text_keywords") or [],
            len(rows),
            earlier.get(item_id, 0) if before else None,
            sum(row["rank"] for row in rows) / max(len(rows), 1),
            dict(Counter(word for row in rows for word in row["because"] or ()).most_common()),
        )
        for item_id, rows in listed.items()
    ]


def _by_item(rows: list[dict]) -> dict[str, dict]:
    return {row["item_id"]: row for row in rows}
