"""Figures of the keywords: the vocabulary, items that have none, pictures that could not be read, samples of items."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmsrarec.config import Config
from mmsrarec.reports.page.tally import BATCH_ROWS, Tally
from mmsrarec.storage import tables

COLUMNS = ["image_keywords", "text_keywords", "keywords", "image_note"]


@dataclass(frozen=True)
class Words:
    """`vocabulary` is a tally over items of `keywords`, `image` and `text` of those of one modality. `without` counts
    items whose keywords are none; `pictures`, per reason, those whose picture was not read; `catalog` all items there
    are, `available` those that the shop has."""

    items: int
    catalog: int
    available: int
    without: int
    vocabulary: pa.Table
    image: pa.Table
    text: pa.Table
    pictures: dict[str, int]

    @property
    def uses(self) -> int:
        return pc.sum(self.vocabulary["count"]).as_py() or 0

    @property
    def once(self) -> int:
        """Keywords that one item has and no other."""
        return pc.sum(pc.equal(self.vocabulary["count"], 1)).as_py() or 0

    @property
    def per_item(self) -> float:
        return self.uses / max(self.items, 1)


def measure(config: Config) -> Words:
    """One pass over item_keywords, and one column of the catalog."""
    tallies = {name: Tally() for name in COLUMNS}
    items = without = 0
    for batch in tables.stream(config.lake.root, "item_keywords", COLUMNS, BATCH_ROWS):
        items += batch.num_rows
        without += batch.num_rows - (pc.sum(pc.greater(pc.list_value_length(batch["keywords"]), 0)).as_py() or 0)
        for name, tally in tallies.items():
            column = batch[name]
            tally.add(column.drop_null() if name == "image_note" else pc.list_flatten(column))
    available = tables.read(config.lake.root, "catalog", ["available"])["available"]
    there = len(available) - (pc.sum(pc.equal(available, False)).as_py() or 0)
    found = {name: tally.table() for name, tally in tallies.items() if name != "image_note"}
    return Words(
        items,
        len(available),
        there,
        without,
        found["keywords"],
        found["image_keywords"],
        found["text_keywords"],
        tallies["image_note"].counts(),
    )


def sample(config: Config, listed: pa.Table) -> list[str]:
    """report.items ids to look at: the most recommended one, then from each of as many equal parts of a tally of the
    listed items one drawn by run.seed, so the often and the hardly recommended are both there."""
    wanted = min(config.report.items, listed.num_rows)
    if not wanted:
        return []
    random = np.random.default_rng(config.run.seed)
    parts = np.array_split(np.arange(1, listed.num_rows), wanted - 1) if wanted > 1 else []
    places = [0, *(int(random.choice(part)) for part in parts)]
    return listed["value"].take(pa.array(places)).to_pylist()


def shares(found: pa.Table, count: int) -> list[tuple[str, int]]:
    """The first values of a tally."""
    top = found.slice(0, count)
    return list(zip(top["value"].to_pylist(), top["count"].to_pylist(), strict=True))
