"""Baselines against naive references, on tables made by hand."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from mmsrarec.collaborative import checkpoint
from mmsrarec.collaborative.matrices import AGE_DECAY, LATEST_ITEMS
from mmsrarec.config import Config
from mmsrarec.evaluation import baselines
from mmsrarec.storage import tables
from mmsrarec.training.sasrec_trainer import train_sasrec

ITEMS = [f"i{number}" for number in range(12)]  # i12 is co-taken too, but no longer available
USERS = pa.table(
    {
        "user_id": ["a", "b", "c", "nobody's items"],
        "item_ids": [["i0", "i1", "i12"], [f"i{n}" for n in range(9)], ["i3"], ["unheard of"]],
    }
)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    root = str(tmp_path_factory.mktemp("baselines"))
    config = Config(inputs={"items": "-", "interactions": "-"}, lake={"root": root})
    everything = [*ITEMS, "i12"]
    catalog = [
        {"item_id": item, "available": item != "i12", "interactions": (7 * number) % 5}
        for number, item in enumerate(everything)
    ]
    tables.replace(root, "catalog", tables.from_rows("catalog", catalog[::-1]))
    generator = np.random.default_rng(3)
    rows = [
        {"item_id": a, "neighbor_id": b, "count": 1, "score": float(generator.random()), "rank": 1}
        for a in everything
        for b in everything
        if a != b and generator.random() < 0.4
    ]
    tables.replace(root, "item_cooccurrence", tables.from_rows("item_cooccurrence", rows))
    return config


def test_cooccurrence_sums_the_latest_items_neighbors(config: Config) -> None:
    rows = tables.read(config.lake.root, "item_cooccurrence").to_pylist()
    table = {(row["item_id"], row["neighbor_id"]): row["score"] for row in rows}
    scores = baselines.cooccurrence(config, ITEMS)(USERS)
    for user, history in enumerate(USERS["item_ids"].to_pylist()):
        for column, item in enumerate(ITEMS):
            latest = list(reversed(history))[:LATEST_ITEMS]
            expected = sum(AGE_DECAY**age * table.get((taken, item), 0.0) for age, taken in enumerate(latest))
            assert scores[user, column] == pytest.approx(expected, abs=2e-9)


def test_cooccurrence_falls_back_to_popularity(config: Config) -> None:
    known, unknown = baselines.cooccurrence(config, ITEMS)(USERS)[[2, 3]]
    popular = baselines.interactions(config, ITEMS)
    assert (np.argsort(unknown, kind="stable") == np.argsort(popular, kind="stable")).all()
    silent = known < 1e-8
    assert 1 < silent.sum() < 12
    assert known[silent].max() < known[~silent].min()
    assert (np.argsort(known[silent], kind="stable") == np.argsort(popular[silent], kind="stable")).all()


def test_an_empty_lake_gives_scores_all_the_same(tmp_path: Path) -> None:
    config = Config(inputs={"items": "-", "interactions": "-"}, lake={"root": str(tmp_path)})
    tables.replace(str(tmp_path), "catalog", tables.from_rows("catalog", [{"item_id": item} for item in ITEMS]))
    assert (baselines.cooccurrence(config, ITEMS)(USERS) == 0).all()


def test_sasrec_names_the_next_item_and_nothing_outside_its_vocabulary(tmp_path: Path) -> None:
    """Trained on users who walk around a ring of items, it must put the next one first, in the catalog's columns."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a network this small only waits for a second thread
    ring = [f"r{number:02d}" for number in range(12)]
    config = Config(
        inputs={"items": "-", "interactions": "-"},
        lake={"root": str(tmp_path)},
        sasrec={"dim": 16, "layers": 1, "heads": 1, "epochs": 12, "learning_rate": 0.01, "dropout": 0, "device": "cpu"},
    )
    walks = [[ring[(start + step) % 12] for step in range(6)] for start in range(12)]
    histories = [
        {"user_id": f"{copy}-{walk[0]}", "item_ids": walk, "split": "validation" if copy == 0 else "train"}
        for copy in range(8)
        for walk in walks
    ]
    tables.replace(str(tmp_path), "histories", tables.from_rows("histories", histories))
    items = ["never taken", *ring[::-1], "neither"]
    catalog = [{"item_id": item, "interactions": 1} for item in items]
    tables.replace(str(tmp_path), "catalog", tables.from_rows("catalog", catalog))
    train_sasrec(config, "ring")
    torch.set_num_threads(threads)
    users = pa.table({"user_id": ring, "item_ids": [walk[:-1] for walk in walks]})
    scores = baselines.network(checkpoint.load(checkpoint.folder(config)), items)(users)
    for row, walk in enumerate(walks):
        unseen = [column for column, item in enumerate(items) if item not in walk[:-1]]
        assert items[max(unseen, key=lambda column: scores[row, column])] == walk[-1]
        assert (scores[row, [0, 13]] == -np.inf).all()
        assert np.isfinite(scores[row, 1:13]).all()
