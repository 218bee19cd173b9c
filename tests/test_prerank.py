"""The stage train_fusion and what retrieve makes of it, on a lake of real tables with networks that know nothing."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import write_deltalake
from fused_lake import ITEMS, NAMES, USERS, settings, shop_histories, write_lake, write_network

from mmsrarec.collaborative import checkpoint, embed, fusion, fusion_learning
from mmsrarec.collaborative.pieces import table
from mmsrarec.collaborative.questions import pools
from mmsrarec.collaborative.retrieve import Retriever, retrieve
from mmsrarec.config import Config
from mmsrarec.engines import adapters
from mmsrarec.errors import InputError
from mmsrarec.evaluation import baselines
from mmsrarec.storage import files, tables
from mmsrarec.training.fusion_stage import fingerprints, train_fusion
from mmsrarec.training.validation import checking, questions

PIECES = tuple(table.pieces(["gru4rec", "text_sasrec"]))


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Config:
    config = settings(tmp_path_factory.mktemp("fused"), networks=["gru4rec", "text_sasrec"])
    write_lake(config, shop_histories())
    train_fusion(config, "run")
    retrieve(config, "run")
    return config


def notes(config: Config, run_id: str) -> dict:
    (row,) = [
        row
        for row in tables.read(config.lake.root, "runs").to_pylist()
        if row["run_id"] == run_id and row["stage"] == "train_fusion"
    ]
    return json.loads(row["notes"])


def test_it_learns_from_validation_users_alone(lake: Config) -> None:
    asked, targets = questions(embed.read_histories(lake), 1000, 17)
    histories = {row["user_id"]: row for row in shop_histories()}
    for user, item in zip(asked.to_pylist(), targets.to_pylist(), strict=True):
        row = histories[user["user_id"]]
        assert row["split"] == "validation" and [*user["item_ids"], item] == row["item_ids"]
        assert item not in user["item_ids"]
    learned = fusion.load(fusion.place(lake), PIECES)
    assert learned.facts["learned"] and 20 <= learned.facts["questions"] <= len(asked)
    assert learned.facts["loss"] < 0.8 * learned.facts["even"]
    more = pa.Table.from_pylist([row | {"held_out": 3} for row in shop_histories()])
    asked, targets = questions(more, 1000, 17)
    for user, item in zip(asked.to_pylist(), targets.to_pylist(), strict=True):
        items, had = histories[user["user_id"]]["item_ids"], user["item_ids"]
        assert items[: len(had) + 1] == [*had, item] and len(items) - len(had) <= 3 and item not in had
    counts = asked["user_id"].value_counts().field("counts").to_pylist()
    assert max(counts) == 3 and len(questions(more, 7, 17)[0]["user_id"].unique()) == 7
    few, _ = questions(embed.read_histories(lake), 7, 17)
    assert few.num_rows == 7 and few.equals(questions(embed.read_histories(lake), 7, 17)[0])


def test_candidates_are_the_best_by_the_fusion(lake: Config) -> None:
    found = tables.read(lake.lake.root, "candidates").sort_by([("user_id", "ascending"), ("rank", "ascending")])
    histories = {row["user_id"]: row["item_ids"] for row in shop_histories()}
    assert set(found["source"].to_pylist()) > {"sasrec", "linear"}
    by_user: dict[str, list[dict]] = {}
    for row in found.to_pylist():
        by_user.setdefault(row["user_id"], []).append(row)
    assert set(by_user) == set(histories)
    for user, rows in by_user.items():
        assert [row["rank"] for row in rows] == list(range(1, 13))
        assert not {row["item_id"] for row in rows} & set(histories[user])
        priors = [row["prior"] for row in rows if row["source"] != "popular"]
        assert priors == sorted(priors, reverse=True) and len(priors) >= 10


def test_it_beats_each_source_by_its_share(lake: Config) -> None:
    """On the held-out items of the test users, whom nothing has learned from."""
    testing = [
        row for row in shop_histories() if row["split"] == "test" and row["item_ids"][-1] not in row["item_ids"][:-1]
    ]
    users = pa.table(
        {"user_id": [row["user_id"] for row in testing], "item_ids": [row["item_ids"][:-1] for row in testing]}
    )
    targets = {row["user_id"]: row["item_ids"][-1] for row in testing}
    off = Config(**(lake.model_dump() | {"retrieve": lake.retrieve.model_dump() | {"fusion": {}}}))

    def recall(config: Config) -> float:
        retriever = Retriever(config)
        found = retriever.candidates(users, retriever.similar_users(users))
        named = found.filter(pc.less_equal(found["rank"], 3)).to_pylist()
        return float(np.mean([targets[row["user_id"]] == row["item_id"] for row in named])) * 3

    assert recall(lake) > 1.5 * recall(off)


def test_without_change_nothing_is_learned_or_retrieved_anew(lake: Config) -> None:
    before = files.read(fusion.place(lake)), tables.version(lake.lake.root, "candidates")
    train_fusion(lake, "again")
    retrieve(lake, "again")
    assert (files.read(fusion.place(lake)), tables.version(lake.lake.root, "candidates")) == before
    assert "same" in notes(lake, "again")["skipped"]


def test_keywords_of_another_adapter_teach_a_new_one(tmp_path: Path) -> None:
    config = settings(tmp_path)
    grpo = config.summarize_items.model_copy(update={"summarizer": "grpo"})
    config = config.model_copy(update={"summarize_items": grpo})
    found = []
    for name in ("summarizer-1/a", "summarizer-1/b", None, None):
        adapters.card(config, "summarizer", name, "for a test", {})
        found.append(fingerprints(config, "networks")[fusion.SERVING])
    assert len(set(found)) == 3 and found[2] == found[3]


def test_another_fusion_is_another_identity(lake: Config) -> None:
    with Retriever(lake) as retriever:
        assert retriever.identity != retriever.model_hash
        assert retriever.identity.endswith(fusion.load(fusion.place(lake), PIECES).hash)


def test_a_network_beside_the_main_one_says_its_own_scores(lake: Config) -> None:
    retriever = Retriever(lake)
    users = pa.table({name: [row[name] for row in shop_histories()[:40]] for name in ("user_id", "item_ids")})
    similar = retriever.similar_users(users)
    ((asked, _),) = [retriever.preranker.pools(batch) for batch in retriever.batches(users, similar)]
    values = retriever.preranker.values(asked)
    assert retriever.preranker.pieces == PIECES and values.shape[2] == len(PIECES)
    for name, each in zip(("sasrec", "gru4rec", "text_sasrec"), lake.networks, strict=True):
        own = baselines.network(checkpoint.load(checkpoint.folder(each)), NAMES)(users)
        for row, seen in enumerate(users["item_ids"].to_pylist()):
            own[row, [NAMES.index(item) for item in seen]] = -np.inf
        total = np.log(np.exp(own).sum(axis=1, keepdims=True))
        expected = np.take_along_axis(own - total, np.maximum(asked.pool, 0), axis=1)
        found = values[..., PIECES.index(name)]
        unknown = ~asked.valid | ~np.isfinite(expected)
        assert unknown.any() and np.isnan(found[unknown]).all()
        np.testing.assert_allclose(found[~unknown], expected[~unknown], atol=1e-4)


def test_another_network_beside_the_main_one_is_another_identity_and_teaches_anew(tmp_path: Path) -> None:
    config = settings(tmp_path, networks=["gru4rec"])
    write_lake(config, shop_histories())
    train_fusion(config, "first")
    before = Retriever(config)
    identity = before.identity
    write_network(config.networks[1], seed=7)
    after = Retriever(config)
    assert after.model_hash == before.model_hash and after.identity != identity
    train_fusion(config, "second")
    assert notes(config, "second")["learned"] and "skipped" not in notes(config, "second")
    for networks in (["gru4rec", "text_sasrec"], []):
        other = settings(tmp_path, networks=networks)
        with pytest.raises(InputError, match="run train_sasrec first" if networks else "run train_fusion again"):
            assert Retriever(other).identity


def test_counts_that_have_seen_what_is_held_out_are_refused(tmp_path: Path) -> None:
    config, rows = settings(tmp_path), shop_histories()
    write_lake(config, rows, counted=[row["item_ids"] for row in rows])
    with pytest.raises(InputError, match="held out"):
        train_fusion(config, "leaking")


def test_too_few_users_and_fixed_weights(tmp_path: Path) -> None:
    config = settings(tmp_path, min_users=5000)
    write_lake(config, shop_histories())
    train_fusion(config, "few")
    pieces = list(table.pieces())
    assert fusion.load(fusion.place(config), pieces).hash == fusion.fixed(pieces).hash
    retrieve(config, "few")
    assert tables.count(config.lake.root, "candidates") == 12 * USERS


def test_the_fusion_apart_learns_from_nobody_who_checks(tmp_path: Path) -> None:
    config = settings(tmp_path)
    write_lake(config, shop_histories())
    train_fusion(config, "without")
    assert files.find(fusion.place(config, fusion.APART)) is None
    values = config.model_dump(mode="json") | {"recommend": {"blend": True}, "tune_recommender": {"held_out": 0.5}}
    config = Config.model_validate(values)
    train_fusion(config, "blended")
    pieces = list(table.pieces())
    serving, apart = (fusion.load(fusion.place(config, name), pieces) for name in (fusion.SERVING, fusion.APART))
    asked, targets = questions(embed.read_histories(config), 1000, 17)
    retriever = Retriever(config)
    values, answered = pools(retriever, asked, targets)
    teaching = np.where(checking(config, asked), -1, answered)
    assert 20 <= apart.facts["questions"] == (teaching >= 0).sum() < serving.facts["questions"]
    alone = fusion_learning.weighted(serving, values[teaching >= 0], teaching[teaching >= 0])
    assert apart.hash == alone.hash != serving.hash and (apart.edges, apart.means) == (serving.edges, serving.means)
    train_fusion(config, "again")
    assert "same" in notes(config, "again")["skipped"]


def test_off_it_is_skipped(tmp_path: Path) -> None:
    config = settings(tmp_path, enabled=False)
    train_fusion(config, "off")
    assert "enabled" in notes(config, "off")["skipped"] and files.find(fusion.place(config)) is None


def test_above_its_limit_cooccurrence_stands_in_for_ease(tmp_path: Path) -> None:
    config = settings(tmp_path, ease_items=ITEMS - 1)
    write_lake(config, shop_histories())
    with Retriever(config) as retriever:
        assert retriever.preranker.context.linear is None
    train_fusion(config, "large")
    assert fusion.load(fusion.place(config), list(table.pieces())).facts["learned"]


def test_a_table_from_before_a_column_came_is_read_and_replaced(tmp_path: Path) -> None:
    rows = tables.from_rows("candidates", [{"user_id": "u", "item_id": "i", "source": "new", "rank": 1}])
    write_deltalake(str(tmp_path / "candidates"), rows.drop_columns(["prior"]))
    assert tables.read(str(tmp_path), "candidates").equals(rows)
    tables.replace(str(tmp_path), "candidates", rows)
    assert tables.read(str(tmp_path), "candidates").equals(rows)


def test_words_of_the_levels_follow_those_of_before(lake: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    fused = {"fusion": lake.retrieve.fusion.model_dump() | {"words": True}}
    config = Config(**(lake.model_dump() | {"retrieve": lake.retrieve.model_dump() | fused}))
    users = pa.table({name: [row[name] for row in shop_histories()[:30]] for name in ("user_id", "item_ids")})
    rng = np.random.default_rng(0)
    names, items = rng.permutation([(user, item) for user in users["user_id"].to_pylist() for item in NAMES])[:200].T
    pairs = pa.table({"user_id": names, "item_id": items})
    plain, retriever = Retriever(lake), Retriever(config)
    similar = retriever.similar_users(users)
    before = plain.evidence(users, pairs, similar)["levels"].to_pylist()
    monkeypatch.setattr(retriever, "batch_users", 7)
    after = retriever.evidence(users, pairs, similar)["levels"].to_pylist()
    learned = fusion.load(fusion.place(lake), PIECES)
    edges = learned.edges[learned.pieces.index("popularity")]
    popularity = retriever.preranker.context.popularity
    for old, new, item in zip(before, after, items, strict=True):
        assert new.startswith(f"{old}, sasrec ")
        level = sum(edge <= float(np.float32(np.log1p(popularity[NAMES.index(item)]))) for edge in edges)
        assert new.endswith(f"popularity {level}")
    assert any("sasrec unknown" in words for words in after)


def test_the_table_of_the_evidence_has_what_the_fusion_hears(lake: Config) -> None:
    fused = {"fusion": lake.retrieve.fusion.model_dump() | {"keep_pieces": True}}
    config = Config(**(lake.model_dump() | {"retrieve": lake.retrieve.model_dump() | fused}))
    users = pa.table({name: [row[name] for row in shop_histories()[:30]] for name in ("user_id", "item_ids")})
    plain, retriever = Retriever(lake), Retriever(config)
    similar = retriever.similar_users(users)
    candidates = retriever.candidates(users, similar)
    kept = retriever.evidence(users, candidates, similar)
    assert plain.evidence(users, candidates, similar).drop_columns("pieces").equals(kept.drop_columns("pieces"))
    assert kept["pieces"].combine_chunks().flatten().null_count > 0
    asked, _ = retriever.preranker.pools(next(retriever.batches(users, similar)))
    values, names = retriever.preranker.values(asked), users["user_id"].to_pylist()
    for row in kept.to_pylist():
        user = names.index(row["user_id"])
        place = np.flatnonzero(asked.pool[user] == NAMES.index(row["item_id"]))
        if len(place):  # the others fill up short pools, from the popular items
            found = np.array(row["pieces"], np.float32)
            np.testing.assert_allclose(found, values[user, place[0]], rtol=1e-4, atol=1e-5)
