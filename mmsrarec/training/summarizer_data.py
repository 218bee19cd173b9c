"""The items that the summarizer's tuning is about: those it learns from, those held out, and those that check users
took. Reads tables and opens pictures; asks no model.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from mmsrarec.collaborative import embed
from mmsrarec.config import Config
from mmsrarec.engines.template import Template
from mmsrarec.keywords import prompt
from mmsrarec.keywords.summarize import text_asked
from mmsrarec.storage import tables
from mmsrarec.storage.objects import Pictures
from mmsrarec.training import validation

MOST_HELD_OUT = 1 / 3  # of the items drawn, where the catalog is small
COLUMNS = ["item_id", "title", "text", "image"]


@dataclass(frozen=True)
class Item:
    """`text` is the item's own, `asked` the same as the model is shown it: rewards compare with that. Empty: none.
    `image_hash` is None where there is no picture to show."""

    item_id: str
    title: str
    text: str
    asked: str
    image: str | None
    image_hash: str | None


@dataclass(frozen=True)
class Taken:
    """What a validation user took, the last item apart; and items that the user never took."""

    user_id: str
    history: list[str]
    target: str
    negatives: list[str]


def drawn(config: Config, template: Template) -> tuple[list[Item], list[Item]]:
    """Items with a text, which rewards need, to learn from and held out, drawn by the seed."""
    settings = config.tune_summarizer
    ids = tables.read(config.lake.root, "catalog", ["item_id"])["item_id"].combine_chunks().sort()
    order = np.random.default_rng(config.run.seed).permutation(len(ids))[: settings.items + settings.held_out]
    found = [item for item in items(config, template, ids.take(pa.array(order)).to_pylist()) if item.asked]
    held_out = min(settings.held_out, int(len(found) * MOST_HELD_OUT))
    return found[held_out:], found[:held_out]


def items(config: Config, template: Template, item_ids: Sequence[str]) -> list[Item]:
    """These items of the catalog, in this order; one that it does not have is left out."""
    rows = tables.read(config.lake.root, "catalog", COLUMNS, [("item_id", "in", list(item_ids))]).to_pylist()
    hashes = _hashes(config, [row["image"] for row in rows])
    found = {row["item_id"]: _item(config, template, row, seen) for row, seen in zip(rows, hashes, strict=True)}
    return [found[item_id] for item_id in item_ids if item_id in found]


def questions(config: Config, learned: Sequence[Item]) -> list[dict]:
    """Rows of summarizer_grpo.QUESTIONS: one about an item's picture and one about its text, as it has them."""
    options = config.summarize_items
    rows = []
    for item in learned:
        about = {"item_id": item.item_id, "text": item.asked}
        rows += [{**about, "image": item.image}] if item.image_hash else []
        rows += [{**about, "image": None}] if options.use_text else []
    return rows


def taken(config: Config, pool: Sequence[str]) -> list[Taken]:
    """tune_summarizer.check_users validation users, drawn by the seed, with as many latest items as recommend shows;
    their negatives are those of the pool that they never took."""
    seed = config.run.seed
    users, targets = validation.questions(embed.read_histories(config), config.tune_summarizer.check_users, seed)
    found = []
    for row, target in zip(users.to_pylist(), targets.to_pylist(), strict=True):
        had = {*row["item_ids"], target}
        negatives = [item_id for item_id in pool if item_id not in had]
        if negatives:
            found.append(Taken(row["user_id"], row["item_ids"][-config.recommend.history :], target, negatives))
    return found


def _hashes(config: Config, images: Sequence[str | None]) -> Iterator[str | None]:
    if not config.summarize_items.use_images:
        return iter([None] * len(images))
    return (image_hash for image_hash, _ in Pictures(config).hashes(images))


def _item(config: Config, template: Template, row: dict, image_hash: str | None) -> Item:
    asked, _ = text_asked(config, template, row["text"])
    most = config.summarize_items.max_text_chars
    asked = asked or prompt.clean_text(row["text"], template.special_tokens, most)  # use_text may be off
    return Item(row["item_id"], row["title"] or "", row["text"] or "", asked, row["image"], image_hash)
