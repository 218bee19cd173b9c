"""The index of training users on real Milvus Lite: exactness, alias swap, strange ids, who is in it, who holds it."""

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
import torch

from mmsrarec.collaborative import embed, index, sasrec
from mmsrarec.collaborative.exact import DEPTH, SAMPLE, Exact
from mmsrarec.collaborative.index import UserIndex
from mmsrarec.collaborative.sasrec import SasRec
from mmsrarec.config import Config, Sasrec
from mmsrarec.errors import InputError, UserError
from mmsrarec.storage import tables

SETTINGS = Sasrec(dim=32, max_length=8, device="cpu")
LONG = ["\U0001f600" * 1000, "x" * 1000]
STRANGE = ["\"quoted\" 'id'", "a/b\\c", "line\nbreak\ttab", "id == 1 or id > 0", "漢字", *LONG]


def config(folder: object) -> Config:
    return Config(inputs={"items": "", "interactions": ""}, lake={"root": str(folder)})


def unit_vectors(count: int, dim: int = 16, seed: int = 0) -> np.ndarray:
    return embed.unit(np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32))


def batches(vectors: np.ndarray, names: list[str] | None = None, size: int = 64) -> list[tuple]:
    names = names or [f"u{row:05}" for row in range(len(vectors))]
    items = [f"next of {name}" for name in names]
    return [(names[a : a + size], items[a : a + size], vectors[a : a + size]) for a in range(0, len(vectors), size)]


def histories() -> list[dict]:
    rows = [("t1", ["a", "b", "c"], "train"), ("t2", ["b", "c"], "train"), ("t3", ["a"], "train")]
    rows += [("v", ["a", "b", "d"], "validation"), ("e", ["c", "a"], "test")]
    return [{"user_id": user, "item_ids": items, "split": split} for user, items, split in rows]


def save_model(folder: object, seed: int = 0) -> str:
    torch.manual_seed(seed)
    place = sasrec.folder(config(folder))
    return sasrec.save(place, SasRec(3, SETTINGS), pa.array(["a", "b", "c"]), SETTINGS, {"made_from": "test"})


def contents(opened: UserIndex) -> set[tuple[str, str]]:
    near = opened.search(unit_vectors(1, SETTINGS.dim), 100)[0]
    return {(neighbor.user_id, neighbor.next_item_id) for neighbor in near}


@pytest.mark.parametrize("approximate", [False, True])
def test_search_against_exact_cosine(tmp_path: object, monkeypatch: pytest.MonkeyPatch, approximate: bool) -> None:
    if approximate:
        monkeypatch.setattr(index, "EXACT_UP_TO", 100)
    vectors, queries = unit_vectors(900), unit_vectors(40, seed=1)
    settings = Config(inputs={"items": "", "interactions": ""}, lake={"root": str(tmp_path)}, index={"min_recall": 0.5})
    with UserIndex(settings) as opened:
        opened.build("training_users_test", 16, iter(batches(vectors)))
        found = opened.search(queries, 10)
    cosine = queries @ vectors.T
    exact = [[f"u{row:05}" for row in np.argsort(-line, kind="stable")[:10]] for line in cosine]
    hits = [len({near.user_id for near in row} & set(best)) for row, best in zip(found, exact, strict=True)]
    recall = np.mean(hits) / 10
    assert recall > 0.6 if approximate else recall == 1
    for query, row in enumerate(found):
        similarities = [near.similarity for near in row]
        assert similarities == sorted(similarities, reverse=True)
        for near in row:
            assert near.similarity == pytest.approx(cosine[query, int(near.user_id[1:])], abs=1e-5)
            assert near.next_item_id == f"next of {near.user_id}"


def test_equal_vectors_come_in_the_order_of_their_ids(tmp_path: object) -> None:
    vectors = np.repeat(unit_vectors(1), 5, axis=0)
    with UserIndex(config(tmp_path)) as opened:
        opened.build("training_users_test", 16, iter(batches(vectors, ["d", "b", "e", "a", "c"])))
        assert [near.user_id for near in opened.search(vectors[:1], 5)[0]] == ["a", "b", "c", "d", "e"]


def test_strange_ids_survive(tmp_path: object) -> None:
    vectors = unit_vectors(len(STRANGE))
    with UserIndex(config(tmp_path)) as opened:
        opened.build("training_users_test", 16, iter(batches(vectors, STRANGE)))
        found = opened.search(vectors, 1)
    assert [row[0].user_id for row in found] == STRANGE
    assert [row[0].next_item_id for row in found] == [f"next of {name}" for name in STRANGE]


def test_readers_see_the_old_collection_until_the_new_one_is_full(tmp_path: object) -> None:
    def then_fail() -> object:
        yield batches(unit_vectors(30, seed=2))[0]
        raise RuntimeError("killed half-way")

    with UserIndex(config(tmp_path)) as opened:
        opened.build("training_users_old", 16, iter(batches(unit_vectors(50))))
        with pytest.raises(RuntimeError):
            opened.build("training_users_new", 16, then_fail())
    with UserIndex(config(tmp_path)) as opened:
        assert opened.version == "training_users_old"
        assert len(opened.search(unit_vectors(1), 100)[0]) == 50
        opened.build("training_users_new", 16, iter(batches(unit_vectors(40))))
        assert opened.version == "training_users_new"
        assert len(opened.search(unit_vectors(1), 100)[0]) == 40
        assert opened._client.list_collections() == ["training_users_new"]


def test_an_index_that_misses_too_much_is_not_swapped_in(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    with UserIndex(config(tmp_path)) as opened:
        opened.build("training_users_old", 16, iter(batches(unit_vectors(50))))
        monkeypatch.setattr(index, "EXACT_UP_TO", 100)  # from here on the approximate index, on vectors without order
        with pytest.raises(UserError, match=r"searches find 0\.\d+ .* index.min_recall=0.9 .* index.probe"):
            opened.build("training_users_new", 16, iter(batches(unit_vectors(4000, seed=2))))
        assert opened._client.list_collections() == ["training_users_old"]
        assert len(opened.search(unit_vectors(1), 100)[0]) == 50
    thorough = Config(inputs={"items": "", "interactions": ""}, lake={"root": str(tmp_path)}, index={"probe": 1.0})
    with UserIndex(thorough) as opened:
        assert opened.version == "training_users_old"
        opened.build("training_users_new", 16, iter(batches(unit_vectors(4000, seed=2))))
        assert opened.version == "training_users_new"


def test_the_sample_is_compared_with_all_vectors() -> None:
    exact, vectors = Exact(), unit_vectors(1000)
    for start in range(0, 1000, 300):
        exact.add(vectors[start : start + 300])
    cosine = -np.sort(-(exact.queries @ vectors.T), axis=1)
    assert len(exact.queries) == SAMPLE
    assert exact.recall(cosine[:, :DEPTH].tolist()) == 1
    assert exact.recall(cosine[:, 5 : 5 + DEPTH].tolist()) == pytest.approx(0.5, abs=0.02)


def test_an_empty_index_answers(tmp_path: object) -> None:
    with UserIndex(config(tmp_path)) as opened:
        opened.build("training_users_empty", 16, iter([]))
        assert opened.search(unit_vectors(2), 3) == [[], []]


def test_stage_indexes_training_users_at_their_latest_positions(
    tmp_path: object, capsys: pytest.CaptureFixture
) -> None:
    settings = config(tmp_path)
    model_hash = save_model(tmp_path)
    tables.replace(settings.lake.root, "histories", tables.from_rows("histories", histories()))
    index.index_cf(settings, "one")
    model = sasrec.load(sasrec.folder(settings)).model
    before = embed.encode(pa.array([["a", "b"]]), pa.array(["a", "b", "c"]))
    with UserIndex(settings) as opened:
        opened.require(model_hash)
        version = opened.version
        assert contents(opened) == {("t1", "c"), ("t1", "b"), ("t2", "c")}
        nearest = opened.search(embed.unit(embed.states(model, before)), 1)[0][0]
    assert (nearest.user_id, nearest.similarity) == ("t1", pytest.approx(1, abs=1e-5))
    index.index_cf(settings, "two")
    assert "nothing has changed" in capsys.readouterr().err
    save_model(tmp_path, seed=1)
    index.index_cf(settings, "three")
    with UserIndex(settings) as opened:
        assert opened.version != version
        with pytest.raises(InputError, match="run index_cf"):
            opened.require(model_hash)


def test_held_out_items_and_users_change_nothing(tmp_path: object) -> None:
    rows = histories()
    changed = [row | {"item_ids": [*row["item_ids"][:-1], "c"]} if row["split"] != "train" else row for row in rows]
    versions = [
        index.version_of("users", "model", index.indexed_rows(tables.from_rows("histories", table), 5))
        for table in (rows, changed, rows[1:])
    ]
    assert versions[0] == versions[1] != versions[2]


def test_another_process_holds_the_folder(tmp_path: object) -> None:
    place = tmp_path / "index" / "milvus.db"
    place.parent.mkdir()
    hold = f"import milvus_lite; held = milvus_lite.MilvusLite({str(place)!r}); print('held', flush=True); input()"
    process = subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="another process holds"):
            UserIndex(config(tmp_path))
    finally:
        process.communicate("\n")
    with UserIndex(config(tmp_path)) as opened:
        with pytest.raises(InputError, match="run index_cf first"):
            opened.require("any")


def test_an_unreachable_server_is_named(tmp_path: object) -> None:
    settings = config(tmp_path).model_copy(update={"index": config(tmp_path).index.model_copy(
        update={"uri": "http://127.0.0.1:9"})})  # fmt: skip
    with pytest.raises(UserError, match="http://127.0.0.1:9: cannot open the index"):
        UserIndex(settings)
