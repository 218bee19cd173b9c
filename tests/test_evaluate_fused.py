"""The fusion and gradient boosting as methods of the evaluation: their ranks are the pre-ranker's, and they find
nothing that only held-out items tell."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import command
from fused_lake import settings, shop_histories, write_lake

from mmsrarec.collaborative import fusion, questions
from mmsrarec.collaborative.pieces import table
from mmsrarec.collaborative.retrieve import Retriever
from mmsrarec.config import Config
from mmsrarec.evaluation import fused, protocol
from mmsrarec.evaluation.evaluate import _Methods, evaluate
from mmsrarec.evaluation.metrics import MISS
from mmsrarec.storage import runs, tables
from mmsrarec.training.fusion_stage import train_fusion

PIECES = list(table.pieces())
METHODS = ["popularity", "sasrec", "gru4rec", "fusion", "boosting"]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Config:
    config = settings(tmp_path_factory.mktemp("evaluated"))
    evaluation = config.evaluation.model_copy(update={"methods": METHODS, "bootstrap": 50})
    config = config.model_copy(update={"evaluation": evaluation})
    write_lake(config, shop_histories())
    train_fusion(config, "run")
    return config


def test_the_ranks_are_those_of_the_candidates(lake: Config) -> None:
    test = protocol.load(lake)
    validation = protocol.load(lake, "validation")
    models, facts = fused.learned(PIECES, *fused.lessons(Retriever(lake), validation), lake.run.seed, 20)
    assert facts["learned"] and facts["in_pool"] <= facts["asked"] == len(validation.users)
    retriever = Retriever(lake)
    known = fused.evidence(retriever, test)
    assert set(models) == {"fusion", "boosting"}
    outcome = fused.outcome("fusion", retriever.preranker.fusion, known, test, 5)
    named = retriever.candidates(test.users, retriever.similar_users(test.users))
    ranked: dict[str, list[str]] = {}
    for row in named.to_pylist():
        if row["source"] != "popular":
            ranked.setdefault(row["user_id"], []).append(row["item_id"])
    for row, user in enumerate(test.users["user_id"].to_pylist()):
        target, first = test.items[test.targets[row]], ranked[user]
        place = first.index(target) if target in first else None
        above = outcome.full.above[row]
        assert above == place if place is not None else above >= len(first), user
        listed = [test.items[column] for column in outcome.lists[row] if column >= 0]
        assert set(listed) <= set(first[:6]) and len(listed) == min(5, len(first))
    inside = outcome.full.above < MISS
    assert 0.5 < inside.mean() <= 1
    assert np.isfinite(outcome.target).all() and outcome.negatives.shape == test.negatives.shape


def test_a_users_questions_are_asked_in_turn() -> None:
    users = pa.table({"user_id": ["b", "a", "b", "c", "b", "a"]})
    assert [turn.tolist() for turn in questions.turns(users)] == [[0, 1, 3], [2, 5], [4]]


def test_they_have_rows_and_what_is_not_there_is_left_out_with_a_reason(lake: Config) -> None:
    evaluate(lake, "rows")
    found = tables.read(lake.lake.root, "evaluation").to_pylist()
    ndcg = {
        row["method"]: row["value"]
        for row in found
        if (row["metric"], row["k"], row["protocol"]) == ("ndcg", 10, "user-split/full")
    }
    assert set(ndcg) == {"popularity", "sasrec", "fusion", "boosting"}
    assert min(ndcg["fusion"], ndcg["boosting"]) > 1.5 * ndcg["popularity"]
    (row,) = runs.ledger(lake, "rows")
    assert "no checkpoint" in row["notes"]["methods_left_out"]["gru4rec"]
    assert row["notes"]["fusion"]["learned"]


def test_beside_the_cascade_the_fusion_is_the_one_that_serves(lake: Config) -> None:
    def row(config: Config) -> tuple[str, dict]:
        stage = SimpleNamespace(notes={})
        return _Methods(config, stage, protocol.load(config))._fused["fusion"].hash, stage.notes["fusion"]

    serving = fusion.load(fusion.place(lake), PIECES)
    other = replace(serving, weights=tuple(2 * weight for weight in serving.weights), facts={"learned": "otherwise"})
    fusion.save(fusion.place(lake), other)
    asked = lake.evaluation.model_copy(update={"methods": ["fusion", "mmsrarec"]})
    beside = row(lake.model_copy(update={"evaluation": asked})), row(lake)
    fusion.save(fusion.place(lake), serving)
    assert beside[0][0] == other.hash != beside[1][0] and beside[0][1]["learned"] == "otherwise"
    assert beside[1][1]["learned"] is True


def test_too_few_validation_users_leave_the_trees_out(lake: Config) -> None:
    lessons = fused.lessons(Retriever(lake), protocol.load(lake, "validation"))
    models, facts = fused.learned(PIECES, *lessons, 17, 10_000)
    assert set(models) == {"fusion"} and not facts["learned"]


PAIRS, USERS, FRONT = 30, 400, 40


def write_tails(folder: Path) -> None:
    """Every user takes the first of a pair, walks along a ring of items, and takes the other of the pair last."""
    rng, rows = np.random.default_rng(5), []
    for user in range(USERS):
        start = rng.integers(FRONT)
        ring = [f"front {(start + step) % FRONT}" for step in range(4)]
        taken = [f"first {user % PAIRS}", *ring, f"other {user % PAIRS}"]
        rows += [(f"u{user}", item, 1_700_000_000 + user * 1000 + place) for place, item in enumerate(taken)]
    users, items, times = zip(*rows, strict=True)
    pq.write_table(pa.table({"user_id": users, "item_id": items, "timestamp": times}), folder / "interactions.parquet")
    names = sorted(set(items))
    pq.write_table(pa.table({"item_id": names, "title": ["thing"] * len(names)}), folder / "items.parquet")


def test_no_method_finds_what_only_the_held_out_tails_tell(tmp_path: Path) -> None:
    """From raw files on: a count, a network, an index or a piece of evidence that had seen one held-out item more would
    name each target first: what comes last follows from what came first, but no training part has seen it."""
    write_tails(tmp_path)
    given = [
        f"inputs.items={tmp_path / 'items.parquet'}",
        f"inputs.interactions={tmp_path / 'interactions.parquet'}",
        f"lake.root={tmp_path / 'lake'}",
        "evaluation.bootstrap=50",
        "evaluation.slices=false",
        "sasrec.dim=16",
        "sasrec.epochs=4",
        "retrieve.fusion.min_users=50",
        "spark.shuffle_partitions=2",
    ]
    done = command("evaluate", "conf/evaluate.yaml", *(part for setting in given for part in ("--set", setting)))
    assert done.returncode == 0, done.stderr
    found = [
        row
        for row in tables.read(str(tmp_path / "lake"), "evaluation").to_pylist()
        if (row["metric"], row["k"], row["protocol"]) == ("hr", 10, "leave-one-out/full")
    ]
    assert {"sasrec", "gru4rec", "ease", "item_knn", "fusion", "boosting"} <= {row["method"] for row in found}
    # The targets are the others of the pairs, which nobody's training part has: chance among the items not seen.
    chance = 10 / (FRONT + 2 * PAIRS - 5)
    for row in found:
        assert row["value"] < chance + 0.15, row["method"]
