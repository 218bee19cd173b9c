"""A lake of real tables with networks that know nothing: for the tests of the pre-ranker and of its evaluation."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from evidence_data import sequences

from mmsrarec.collaborative import checkpoint
from mmsrarec.collaborative.pieces import counting
from mmsrarec.config import Config
from mmsrarec.storage import tables

ITEMS, USERS = 40, 300
NAMES = [f"i{number:02}" for number in range(ITEMS)]
SPLITS = ("validation", "test", "train")


def shop_histories() -> list[dict]:
    """Users walk up the items by small steps; the last two items are new."""
    rng, rows = np.random.default_rng(9), []
    for user in range(USERS):
        length = int(rng.integers(3, 7))
        steps = np.concatenate([[rng.integers(0, ITEMS - 2)], rng.choice([1, 1, 2], size=length - 1)])
        items = [NAMES[place] for place in np.cumsum(steps) % (ITEMS - 2)]
        times = (1_700_000_000 + 86_400 * (user + np.arange(length))) * 1_000_000
        rows.append(
            {"user_id": f"u{user:03}", "item_ids": items, "timestamps": times.tolist(), "split": SPLITS[user % 3]}
        )
    return rows


def write_lake(config: Config, rows: list[dict], counted: list[list[str]] | None = None) -> None:
    """Tables as build_cf and summarize_items write them, counted over the training part unless told otherwise."""
    root = config.lake.root
    training = counted or [row["item_ids"][: None if row["split"] == "train" else -1] for row in rows]
    codes = sequences([[NAMES.index(item) for item in items] for items in training])
    follows = counting.transitions(codes, ITEMS, 5, 0.8).tocoo()
    together = counting.cosine(counting.gram(codes, ITEMS)).tocoo()
    counts = np.bincount(codes.codes, minlength=ITEMS)
    contents = {
        "histories": rows,
        "catalog": [
            {"item_id": item, "text": f"word {number % 7}", "available": True, "interactions": int(counts[number])}
            for number, item in enumerate(NAMES)
        ],
        "item_transitions": [
            {"item_id": NAMES[a], "next_item_id": NAMES[b], "count": 1, "score": float(score), "rank": 1}
            for a, b, score in zip(*follows.coords, follows.data, strict=True)
        ],
        "item_cooccurrence": [
            {"item_id": NAMES[a], "neighbor_id": NAMES[b], "count": 1, "score": float(score), "rank": 1}
            for a, b, score in zip(*together.coords, together.data, strict=True)
        ],
        "item_keywords": [{"item_id": item, "keywords": [f"group {number % 6}"]} for number, item in enumerate(NAMES)],
    }
    for name, table in contents.items():
        tables.replace(root, name, tables.from_rows(name, table))
    for number, each in enumerate(config.networks):
        write_network(each, number)


def write_network(config: Config, seed: int) -> None:
    """The checkpoint of `sasrec`, untrained; it does not know the last two items."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = checkpoint.build(ITEMS - 2, config.sasrec)
        checkpoint.save(checkpoint.folder(config), model, pa.array(NAMES[:-2]), config.sasrec, {})


def settings(folder: Path, **of_fusion: object) -> Config:
    sizes = {name: 6 for name in ("from_sasrec", "from_linear", "from_follows", "from_text", "from_keywords")}
    options = {"enabled": True, "min_users": 20, "ease_penalty": 5.0, **sizes, "from_new": 2, **of_fusion}
    return Config(
        inputs={"items": "", "interactions": ""},
        lake={"root": str(folder / "lake")},
        sasrec={"dim": 8, "layers": 1, "max_length": 10, "device": "cpu"},
        retrieve={"similar_users": 0, "candidates": 12, "fusion": options},
        run={"date": "2026-03-01"},
    )
