"""An item as people see it, and the ids nearest to one that is not there. Reads `catalog` and `item_keywords` only."""

import difflib
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from mmsrarec.config import Config
from mmsrarec.errors import InputError
from mmsrarec.schemas import MADE_BY
from mmsrarec.storage import tables

NEAR = 500  # ids on either side of an unknown one among which a similar one is looked for


@dataclass(frozen=True)
class ItemCard:
    """`image` is the address as in the catalog. An item that left the shop has an id and nothing else."""

    item_id: str
    title: str | None = None
    category: str | None = None
    image: str | None = None
    keywords: tuple[str, ...] = ()
    available: bool = False


def cards(config: Config, item_ids: Iterable[str]) -> dict[str, ItemCard]:
    """One per different id, known or not; reads each table once."""
    wanted = sorted(set(item_ids))
    of_items = [("item_id", "in", wanted)]
    columns = ["item_id", "title", "category", "image", "available"]
    catalog = tables.read(config.lake.root, "catalog", columns, of_items).to_pylist() if wanted else []
    words = tables.read(config.lake.root, "item_keywords", ["item_id", "keywords"], of_items).to_pylist()
    keywords = {row["item_id"]: tuple(row["keywords"] or ()) for row in words}
    known = {
        row["item_id"]: ItemCard(
            row["item_id"],
            row["title"],
            row["category"],
            row["image"],
            keywords.get(row["item_id"], ()),
            row["available"] is not False,
        )
        for row in catalog
    }
    return {item_id: known.get(item_id) or ItemCard(item_id) for item_id in wanted}


def unknown(config: Config, table: str, column: str, wanted: str) -> InputError:
    """That `table` has no such id in `column`, and which ones are near it."""
    kind, place = column.removesuffix("_id"), config.table(table)
    ids = tables.read(config.lake.root, table, [column])[column].drop_null().combine_chunks()
    if len(ids) == 0:
        return InputError(f"{place}: no {kind}s yet; run {MADE_BY[table]} first")
    return InputError(
        f"{place}: no {kind} {wanted!r} among {len(ids):,} {kind}s; "
        f"did you mean {' or '.join(map(repr, nearest(ids, wanted)))}?"
    )


def nearest(ids: pa.Array, wanted: str, count: int = 3) -> list[str]:
    """The most similar of the ids that stand near `wanted` in their order."""
    ordered = ids.take(pc.array_sort_indices(ids))
    place = bisect_left(range(len(ordered)), wanted, key=lambda row: ordered[row].as_py())
    around = ordered[max(place - NEAR, 0) : place + NEAR].to_pylist()
    return difflib.get_close_matches(wanted, around, n=count, cutoff=0.0)
