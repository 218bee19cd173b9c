"""No held-out item in anything that was learned, counted, indexed or shown. Real Spark, SASRec and Milvus Lite.

Every user's last item is a canary that nobody else takes. A held-out canary (of a validation or test user) must have
left no trace at all; a train user's canary must have left one everywhere, or the test would be looking the wrong way.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from mmsrarec.collaborative.index import index_cf, indexed_rows
from mmsrarec.collaborative.retrieve import Retriever
from mmsrarec.config import Config
from mmsrarec.evaluation import cascade, protocol
from mmsrarec.preparation.build_cf import build_cf
from mmsrarec.recommendation.prompt import user_text
from mmsrarec.recommendation.task import Known, tasks
from mmsrarec.storage import tables
from mmsrarec.training import sasrec_trainer

USERS = [f"user{number:03d}" for number in range(90)]
ITEMS = [f"item{number:02d}" for number in range(25)]


def canary(user: str) -> str:
    return f"canary-{user}"


EVERYTHING = [*ITEMS, *map(canary, USERS)]


@dataclass(frozen=True)
class Lake:
    config: Config
    histories: pa.Table
    held_out: set[str]  # canaries of validation and test users
    trained: set[str]  # canaries of train users


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory, spark: object) -> Lake:
    folder = tmp_path_factory.mktemp("leakage")
    write_inputs(folder)
    config = Config(
        inputs={"items": str(folder / "items.csv"), "interactions": str(folder / "interactions.csv")},
        lake={"root": str(folder / "lake")},
        spark={"shuffle_partitions": 2},
        build_cf={"test_fraction": 0.3, "validation_fraction": 0.2},
        sasrec={"dim": 16, "layers": 1, "epochs": 2, "device": "cpu"},
        retrieve={"neighbors": 20, "similar_users": 5},
        recommend={"history": 50},
        evaluation={"negatives": 10},
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a network this small only waits for a second thread
    for stage in (build_cf, sasrec_trainer.train_sasrec, index_cf):
        stage(config, "leakage")
    torch.set_num_threads(threads)
    keywords = [{"item_id": item, "keywords": [item, "same for all"]} for item in EVERYTHING]
    tables.replace(config.lake.root, "item_keywords", tables.from_rows("item_keywords", keywords))
    histories = tables.read(config.lake.root, "histories")
    split = dict(zip(histories["user_id"].to_pylist(), histories["split"].to_pylist(), strict=True))
    held_out = {canary(user) for user in USERS if split[user] != "train"}
    return Lake(config, histories, held_out, {canary(user) for user in USERS} - held_out)


def write_inputs(folder: Path) -> None:
    generator = np.random.default_rng(8)
    with open(folder / "items.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["item_id", "title"])
        writer.writerows([item, f"title of {item}"] for item in EVERYTHING)
    with open(folder / "interactions.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["user_id", "item_id", "timestamp"])
        for user in USERS:
            taken = generator.choice(ITEMS, size=generator.integers(3, 9), replace=False).tolist()
            writer.writerows([user, item, 1_700_000_000 + at] for at, item in enumerate([*taken, canary(user)]))


def test_the_split_has_both_kinds(lake: Lake) -> None:
    assert len(lake.held_out) > 20
    assert len(lake.trained) > 20


@pytest.mark.parametrize("table, columns", [
    ("item_cooccurrence", ("item_id", "neighbor_id")),
    ("item_transitions", ("item_id", "next_item_id")),
])  # fmt: skip
def test_counts_never_saw_a_held_out_item(lake: Lake, table: str, columns: tuple) -> None:
    rows = tables.read(lake.config.lake.root, table)
    counted = {item for column in columns for item in rows[column].to_pylist()}
    assert not counted & lake.held_out
    assert lake.trained <= counted


def test_interactions_count_training_only(lake: Lake) -> None:
    catalog = tables.read(lake.config.lake.root, "catalog", ["item_id", "interactions"]).to_pylist()
    counts = {row["item_id"]: row["interactions"] for row in catalog}
    assert {counts[item] for item in lake.held_out} == {0}
    assert {counts[item] for item in lake.trained} == {1}


def test_sasrec_trains_on_no_held_out_item(lake: Lake) -> None:
    data = sasrec_trainer.training_data(lake.histories)
    vocabulary = data.vocabulary.to_pylist()
    assert not set(vocabulary) & lake.held_out
    used = {vocabulary[code] for row in range(len(data.training)) for code in data.training[row]}
    assert lake.trained <= used


def test_test_items_decide_nothing_in_training(lake: Lake) -> None:
    """Neither early stopping nor the weights: with other test items the fingerprint of the training stays the same."""
    before = sasrec_trainer.fingerprint(sasrec_trainer.training_data(lake.histories), lake.config)
    for split, same in (("test", True), ("train", False), ("validation", False)):
        rows = [
            row | {"item_ids": [*row["item_ids"][:-1], "item00"]} if row["split"] == split else row
            for row in lake.histories.to_pylist()
        ]
        data = sasrec_trainer.training_data(tables.from_rows("histories", rows))
        assert (sasrec_trainer.fingerprint(data, lake.config) == before) is same, split


def test_the_index_holds_training_users_only(lake: Lake) -> None:
    rows = indexed_rows(lake.histories, lake.config.index.positions)
    nexts = set(rows["next_item_id"].to_pylist())
    assert lake.trained <= nexts and not nexts & lake.held_out
    assert {canary(user) for user in rows["user_id"].to_pylist()} == lake.trained


@pytest.fixture(scope="module")
def known(lake: Lake) -> tuple[protocol.TestSet, Known]:
    """What the evaluation knows when it writes its prompts; every item's keyword is its id."""
    test = protocol.load(lake.config)
    keywords = {item: [item] for item in EVERYTHING}
    with Retriever(lake.config) as retriever:
        similar = retriever.similar_users(test.users)
        candidates = cascade.by_user(retriever.candidates(test.users, similar))
        pairs = cascade.pairs_of(test, candidates)
        evidence = retriever.evidence(test.users, pairs, similar)
    return test, Known(test.users, similar, pairs, evidence, keywords)


def test_similar_users_are_training_users(lake: Lake, known: tuple) -> None:
    similar = known[1].similar
    assert {canary(user) for user in similar["neighbor_user_id"].to_pylist()} <= lake.trained
    nexts = set(similar["next_item_id"].to_pylist())
    assert nexts & lake.trained and not nexts & lake.held_out


def test_prompts_show_no_held_out_item_of_anybody_before_the_candidate(lake: Lake, known: tuple) -> None:
    test, facts = known
    whole = dict(zip(lake.histories["user_id"].to_pylist(), lake.histories["item_ids"].to_pylist(), strict=True))
    count = 0
    for task in tasks(lake.config, facts):
        shown = user_text(task.history, task.similar)
        assert all(item in shown for item in whole[task.user_id][:-1])
        assert not [item for item in lake.held_out if item in shown]
        assert canary(task.user_id) in {candidate.item_id for candidate in task.candidates}
        count += 1
    assert count == len(test.users) > 10


def test_a_held_out_item_becomes_a_candidate_by_its_content_only(lake: Lake, known: tuple) -> None:
    test = known[0]
    with Retriever(lake.config) as retriever:
        rows = retriever.candidates(test.users, known[1].similar).to_pylist()
    sources = {held_out: {row["source"] for row in rows if (row["item_id"] in lake.held_out) is held_out}
               for held_out in (True, False)}  # fmt: skip
    assert sources[True] <= {"content", "new", "popular"}
    assert sources[False] >= {"sasrec", "similar_users", "cooccurrence"}


def test_there_is_no_evidence_about_a_target_nobody_else_took(known: tuple) -> None:
    test, facts = known
    targets = set(zip(test.users["user_id"].to_pylist(), (test.items[c] for c in test.targets), strict=True))
    found = [row for row in facts.evidence.to_pylist() if (row["user_id"], row["item_id"]) in targets]
    assert len(found) == len(targets)
    for row in found:
        assert (row["cooccurrence"], row["transition"], row["similar_users"], row["popularity"]) == (0, 0, 0, 0)
        assert row["sasrec_rank"] is None
    assert any(row["cooccurrence"] > 0 for row in facts.evidence.to_pylist())
