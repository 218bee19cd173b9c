"""A pilot: the engine is asked about a few items before the plan, because only it can tell how long its answers are.

It works in a lake of its own, which is deleted with its answers; the real one is only read.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from mmsrarec.config import Config
from mmsrarec.config.nights import Budget
from mmsrarec.keywords.summarize import summarize_items
from mmsrarec.schemas import TABLES
from mmsrarec.storage import runs, tables
from mmsrarec.storage.scratch import Scratch


@dataclass(frozen=True)
class Pilot:
    """Its rows of the ledger, and item_id and keywords of the items asked about."""

    ledger: list[dict]
    keywords: pa.Table


NONE = Pilot([], TABLES["item_keywords"].empty_table().select(["item_id", "keywords"]))


def ask(config: Config) -> Pilot:
    """Have plan.sample items of the lake's catalog summarized, or all where there are no more."""
    catalog = tables.read(config.lake.root, "catalog").sort_by("item_id")
    size = min(catalog.num_rows, config.plan.sample)
    chosen = np.random.default_rng(config.run.seed).choice(catalog.num_rows, size, replace=False)
    with Scratch("pilot") as scratch:
        root = str(scratch.path)
        changes = {"lake": config.lake.model_copy(update={"root": root}), "budget": Budget()}
        tables.replace(root, "catalog", catalog.take(pa.array(np.sort(chosen))))
        summarize_items(config.model_copy(update=changes), runs.new_run_id())
        keywords = tables.read(root, "item_keywords", ["item_id", "keywords"]).sort_by("item_id")
        return Pilot(tables.read(root, "runs").to_pylist(), keywords)
