"""A lake with a small drawn shop: its catalog and histories as build_cf writes them, without Spark."""

from pathlib import Path

import pyarrow.parquet as pq

from mmsrarec.config import Config
from mmsrarec.demo.shop import write_shop
from mmsrarec.storage import tables

QUICK = {"steps": 2, "prompts": 2, "generations": 2, "save_every": 1, "held_out": 6, "check_users": 6}


def write(folder: Path, items: int = 24, users: int = 30, **settings: object) -> Config:
    """The configuration asks for tuned keywords; `settings` are those of tune_summarizer."""
    write_shop(folder / "shop", seed=7, items=items, users=users, groups=2)
    config = settled(folder, **settings)
    rows = pq.read_table(folder / "shop" / "items.parquet").to_pylist()
    catalog = [
        {
            "item_id": row["item_id"],
            "title": row["title"],
            "text": " ".join(filter(None, (row["title"], row["description"]))),
            "image": row["image"],
            "available": True,
            "interactions": 1,
        }
        for row in rows
    ]
    tables.append(config.lake.root, "catalog", tables.from_rows("catalog", catalog))
    taken: dict[str, list[str]] = {}
    for row in pq.read_table(folder / "shop" / "interactions.parquet").to_pylist():
        taken.setdefault(row["user_id"], []).append(row["item_id"])
    histories = [
        {"user_id": user_id, "item_ids": item_ids, "timestamps": list(range(len(item_ids))), "held_out": 1}
        | {"split": "validation" if number % 2 else "train"}
        for number, (user_id, item_ids) in enumerate(sorted(taken.items()))
    ]
    tables.append(config.lake.root, "histories", tables.from_rows("histories", histories))
    return config


def settled(folder: Path, **settings: object) -> Config:
    shop = folder / "shop"
    return Config(
        inputs={"items": "-", "interactions": "-", "images": str(shop / "pictures")},
        lake={"root": str(folder / "lake")},
        engine={"enforce_eager": True, "kv_cache_gb": 0.25},
        summarize_items={"summarizer": "grpo", "max_tokens": 16},
        tune_summarizer={**QUICK, **settings},
    )
