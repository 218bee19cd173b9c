"""Retrieval against slow readable references, on a small shop with real SASRec and Milvus Lite."""

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scipy.sparse import csr_array

from mmsrarec.collaborative import candidates as merging
from mmsrarec.collaborative import embed, index, retrieve
from mmsrarec.collaborative.content import Content
from mmsrarec.collaborative.evidence import Pieces, levels
from mmsrarec.collaborative.matrices import AGE_DECAY, LATEST_ITEMS
from mmsrarec.collaborative.retrieve import Retriever
from mmsrarec.config import Config
from mmsrarec.errors import InputError
from mmsrarec.storage import tables
from mmsrarec.training.sasrec_trainer import train_sasrec

ITEMS = [f"i{number:02}" for number in range(40)]  # i36 to i39 are new, i05 and i38 are not available
UNAVAILABLE = ("i05", "i38")
LONELY, STRANGER = "lonely", "stranger"  # one interaction; nothing that SASRec knows


def shop_histories() -> list[dict]:
    rng = np.random.default_rng(11)
    rows = []
    for user in range(80):
        start, length = rng.integers(36), rng.integers(3, 9)
        items = list(
            dict.fromkeys(ITEMS[(start + step * int(rng.choice([1, 1, 1, 5]))) % 36] for step in range(length))
        )
        split = "test" if user % 8 == 1 else "validation" if user % 8 == 2 else "train"
        rows.append({"user_id": f"u{user:02}", "item_ids": items, "split": split if len(items) > 1 else "train"})
    rows.append({"user_id": LONELY, "item_ids": ["i03"], "split": "train"})
    rows.append({"user_id": STRANGER, "item_ids": ["i36"], "split": "test"})
    return rows


def write_shop(config: Config, rows: list[dict]) -> None:
    """histories, catalog, naive co-occurrence and transitions (next to each other), keywords."""
    root = config.lake.root
    training = [row["item_ids"] if row["split"] == "train" else row["item_ids"][:-1] for row in rows]
    training = [[item for item in items if item < "i36"] for items in training]
    count = {item: sum(items.count(item) for items in training) for item in ITEMS}
    follows: dict[tuple, int] = {}
    for items in training:
        for pair in zip(items, items[1:], strict=False):
            follows[pair] = follows.get(pair, 0) + 1
    together = {
        pair: follows.get(pair, 0) + follows.get(pair[::-1], 0) for pair in {*follows, *(p[::-1] for p in follows)}
    }
    contents = {
        "histories": rows,
        "catalog": [
            {"item_id": item, "available": item not in UNAVAILABLE, "interactions": count[item]} for item in ITEMS
        ],
        "item_transitions": [
            {"item_id": a, "next_item_id": b, "count": n, "score": n / count[a], "rank": 1}
            for (a, b), n in sorted(follows.items())
        ],
        "item_cooccurrence": [
            {"item_id": a, "neighbor_id": b, "count": n, "score": n / (count[a] * count[b]) ** 0.5, "rank": 1}
            for (a, b), n in sorted(together.items())
        ],
        "item_keywords": [
            {"item_id": item, "keywords": [f"group {number % 6}", "red" if number % 2 else "blue"]}
            for number, item in enumerate(ITEMS)
        ],
    }
    for name, table in contents.items():
        tables.replace(root, name, tables.from_rows(name, table))


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return Config(
        inputs={"items": "", "interactions": ""},
        lake={"root": str(tmp_path_factory.mktemp("retrieve") / "lake")},
        sasrec={"dim": 16, "layers": 1, "epochs": 5, "max_length": 10, "device": "cpu"},
        retrieve={"neighbors": 15, "candidates": 12},
    )


@pytest.fixture(scope="module")
def lake(config: Config) -> Config:
    write_shop(config, shop_histories())
    for stage in (train_sasrec, index.index_cf, retrieve.retrieve):
        stage(config, "run")
    return config


@pytest.fixture
def retriever(lake: Config) -> Iterator[Retriever]:
    with Retriever(lake) as opened:
        yield opened


def all_users() -> pa.Table:
    rows = shop_histories()
    return pa.table({"user_id": [row["user_id"] for row in rows], "item_ids": [row["item_ids"] for row in rows]})


def by_user(table: pa.Table) -> dict[str, list[dict]]:
    found: dict[str, list[dict]] = {}
    for row in table.to_pylist():
        found.setdefault(row["user_id"], []).append(row)
    return found


def same_but_for_rounding(written: pa.Table, said: pa.Table) -> None:
    """The same rows, whatever the order of the users; the last digit of a product depends on the machine and on who
    else is in the batch."""
    floats = {field.name for field in written.schema if pa.types.is_floating(field.type)}
    rows, others = (sorted(table.to_pylist(), key=lambda row: row["user_id"]) for table in (written, said))
    exact = [[{name: row[name] for name in row.keys() - floats} for row in each] for each in (rows, others)]
    assert exact[0] == exact[1]
    for name in floats:
        values = [np.array([row[name] for row in each], float) for each in (rows, others)]
        np.testing.assert_allclose(*values, rtol=1e-5, atol=2e-6)


def naive_unseen_logits(retriever: Retriever, users: pa.Table) -> dict[str, dict[str, float]]:
    scores, found = retriever._logits(users)[0], {}
    for row, (user, items) in enumerate(zip(users["user_id"].to_pylist(), users["item_ids"].to_pylist(), strict=True)):
        known = dict(zip(retriever.vocabulary, scores[row].tolist(), strict=True))
        found[user] = {item: score for item, score in known.items() if item not in items}
    return found


def test_top_takes_the_best_and_breaks_ties_by_code() -> None:
    codes, scores = np.array([7, 3, 9, 1, 5]), np.array([1.0, 2.0, 2.0, 0.5, 2.0])
    assert merging.top(codes, scores, 2).tolist() == [3, 5]
    assert merging.top(codes, scores, 9).tolist() == [3, 5, 9, 7, 1]
    assert merging.top(codes, scores, 0).tolist() == []


def test_interleave_gives_every_source_its_share() -> None:
    lists = {"sasrec": np.arange(20), "cooccurrence": np.arange(100, 110), "new": np.array([3, 200])}
    chosen = merging.interleave(lists, iter([0, 7, 300]), 15)
    assert len({code for code, _ in chosen}) == 15
    assert chosen[0] == (0, "sasrec")
    assert [code for code, source in chosen if source == "sasrec"] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert [code for code, source in chosen if source == "cooccurrence"] == [100, 101, 102, 103, 104]
    filled = merging.interleave({"sasrec": np.array([5, 7])}, iter([0, 7, 300, 301]), 4)
    assert filled == [(5, "sasrec"), (7, "sasrec"), (0, "popular"), (300, "popular")]
    assert merging.interleave({}, iter([]), 3) == []


def test_content_against_a_naive_cosine() -> None:
    keywords = {"a": ["red hat", "wool"], "b": ["red shoe"], "c": ["wool"], "d": []}
    table = pa.table({"item_id": list(keywords), "keywords": pa.array(list(keywords.values()), pa.list_(pa.string()))})
    documents = {item: {*words, *" ".join(words).split()} for item, words in keywords.items()}
    terms = sorted(set().union(*documents.values()))
    frequency = {term: sum(term in words for words in documents.values()) for term in terms}
    rows = np.array([[(np.log(5 / (1 + frequency[t])) + 1) * (t in documents[item]) for t in terms] for item in "abcd"])
    rows[:3] /= np.linalg.norm(rows[:3], axis=1, keepdims=True)
    profile = 0.8 * rows[0] + rows[1]
    expected = rows @ (profile / np.linalg.norm(profile))
    found = Content(pa.array("abcd"), table).similarities(csr_array(np.array([[0.8, 1, 0, 0]])))
    np.testing.assert_allclose(found.toarray()[0], expected, atol=1e-6)


def test_similar_users_against_exact_cosine(lake: Config, retriever: Retriever) -> None:
    histories = embed.read_histories(lake)
    rows = index.indexed_rows(histories, lake.index.positions)
    vocabulary = pa.array(retriever.vocabulary)
    indexed = embed.unit(embed.states(retriever._model, embed.encode(rows["item_ids"], vocabulary)))
    queries = embed.unit(embed.states(retriever._model, embed.encode(histories["item_ids"], vocabulary)))
    names, nexts = rows["user_id"].to_pylist(), rows["next_item_id"].to_pylist()
    found = by_user(tables.read(lake.lake.root, "similar_users"))
    assert STRANGER not in found
    for user, query in zip(histories["user_id"].to_pylist(), queries, strict=True):
        if user == STRANGER:
            continue
        near = [(-round(float(indexed[row] @ query), 4), names[row], nexts[row]) for row in range(len(names))]
        best = sorted(one for one in near if one[1] != user)[:15]
        assert [row["rank"] for row in found[user]] == list(range(1, 16))
        np.testing.assert_allclose([-one[0] for one in best], [row["similarity"] for row in found[user]], atol=2e-4)
        known = set(zip(names, nexts, strict=True))
        assert all((row["neighbor_user_id"], row["next_item_id"]) in known for row in found[user])
        assert user not in {row["neighbor_user_id"] for row in found[user]}


def test_candidates_are_distinct_unseen_available_and_enough(lake: Config) -> None:
    found = by_user(tables.read(lake.lake.root, "candidates"))
    sources = set()
    for row in shop_histories():
        rows = found[row["user_id"]]
        items = [candidate["item_id"] for candidate in rows]
        assert [candidate["rank"] for candidate in rows] == list(range(1, 13))
        assert len(set(items)) == 12
        assert not set(items) & {*row["item_ids"], *UNAVAILABLE}
        sources |= {candidate["source"] for candidate in rows}
    assert sources >= {"sasrec", "similar_users", "cooccurrence", "content", "new"}
    assert {row["source"] for row in found[STRANGER]} <= {"content", "new", "popular"}
    assert all(row["cf_score"] is None for row in found[STRANGER])


def test_sasrec_candidates_and_their_scores(retriever: Retriever) -> None:
    users = all_users()
    logits = naive_unseen_logits(retriever, users)
    found = by_user(retriever.candidates(users, retriever.similar_users(users)))
    for user in users["user_id"].to_pylist():
        if user == STRANGER:
            continue
        best = sorted((-score, item) for item, score in logits[user].items() if item not in UNAVAILABLE)
        assert found[user][0]["item_id"] == best[0][1]
        for row in found[user]:
            known = logits[user].get(row["item_id"])
            assert row["cf_score"] == (None if known is None else pytest.approx(known, abs=1e-5))
            assert (row["source"] == "new") <= (row["item_id"] >= "i36")


def cosine_of_content(lake: Config):
    """(weights of items, item) to the cosine of their keywords."""
    content = Content(pa.array(ITEMS), tables.read(lake.lake.root, "item_keywords", ["item_id", "keywords"]))

    def cosine(weights: dict[str, float], item: str) -> float:
        row = [[weights.get(known, 0.0) for known in ITEMS]]
        return float(content.similarities(csr_array(np.array(row))).toarray()[0, ITEMS.index(item)])

    return cosine


def test_evidence_against_a_naive_reference(
    lake: Config, retriever: Retriever, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retriever, "batch_users", 7)
    users = all_users()
    similar = retriever.similar_users(users)
    shuffled = np.random.default_rng(0).permutation([(u, i) for u in users["user_id"].to_pylist() for i in ITEMS])[:600]
    pairs = pa.table({"user_id": shuffled[:, 0], "item_id": shuffled[:, 1]})
    together = {
        (r["item_id"], r["neighbor_id"]): r["score"]
        for r in tables.read(lake.lake.root, "item_cooccurrence").to_pylist()
    }
    follows = {
        (r["item_id"], r["next_item_id"]): r["score"]
        for r in tables.read(lake.lake.root, "item_transitions").to_pylist()
    }
    popularity = {r["item_id"]: r["interactions"] for r in tables.read(lake.lake.root, "catalog").to_pylist()}
    histories = dict(zip(users["user_id"].to_pylist(), users["item_ids"].to_pylist(), strict=True))
    logits, near = naive_unseen_logits(retriever, users), by_user(similar)
    everything = dict(zip(histories, retriever._logits(users)[0], strict=True))
    found = retriever.evidence(users, pairs, similar).to_pylist()
    assert [(row["user_id"], row["item_id"]) for row in found] == [tuple(pair) for pair in shuffled]
    cosine = cosine_of_content(lake)
    for row in found:
        user, item = row["user_id"], row["item_id"]
        latest = list(enumerate(reversed(histories[user][-LATEST_ITEMS:])))
        assert row["cooccurrence"] == pytest.approx(
            sum(AGE_DECAY**age * together.get((i, item), 0) for age, i in latest), abs=1e-6
        )
        assert row["transition"] == pytest.approx(
            sum(AGE_DECAY**age * follows.get((i, item), 0) for age, i in latest), abs=1e-6
        )
        assert row["similar_users"] == sum(n["next_item_id"] == item for n in near.get(user, []))
        rank = None
        if item in retriever.vocabulary and user != STRANGER:
            own = everything[user][retriever.vocabulary.index(item)]
            rank = 1 + sum(score > own for score in logits[user].values())
        assert row["sasrec_rank"] == rank
        assert row["popularity"] == popularity[item]
        less = sum(count < popularity[item] for count in popularity.values()) / len(ITEMS)
        nexts = [neighbor["next_item_id"] for neighbor in near.get(user, [])]
        cosines = row["content"], row["similar_content"]
        assert cosines[0] == pytest.approx(cosine({i: AGE_DECAY**age for age, i in latest}, item), abs=1e-5)
        assert cosines[1] == pytest.approx(cosine(Counter(nexts), item), abs=1e-5)
        votes = row["similar_users"]
        assert row["levels"] == levels(Pieces(row["cooccurrence"], row["transition"], votes, *cosines, rank, less))


def test_the_tables_are_what_the_retriever_says_and_stay_so(lake: Config, retriever: Retriever) -> None:
    root, users = lake.lake.root, all_users()
    similar = retriever.similar_users(users)
    candidates = retriever.candidates(users, similar)
    said = (similar, candidates, retriever.evidence(users, candidates, similar))
    for name, table in zip(("similar_users", "candidates", "evidence"), said, strict=True):
        same_but_for_rounding(tables.read(root, name), table)
    retriever.__exit__()
    written = [by_user(tables.read(root, name)) for name in ("similar_users", "candidates", "evidence")]
    retrieve.retrieve(lake, "again")
    again = [by_user(tables.read(root, name)) for name in ("similar_users", "candidates", "evidence")]
    assert again == written


def test_similar_users_off(lake: Config) -> None:
    off = lake.model_copy(update={"retrieve": lake.retrieve.model_copy(update={"similar_users": 0})})
    users = all_users()
    with Retriever(off) as retriever:
        assert retriever.index_version is None
        similar = retriever.similar_users(users)
        candidates = retriever.candidates(users, similar)
        evidence = retriever.evidence(users, candidates, similar)
    assert similar.num_rows == 0
    assert "similar_users" not in candidates["source"].to_pylist()
    assert set(evidence["similar_users"].to_pylist()) == {0}
    assert candidates.num_rows == 12 * users.num_rows


def test_rules_hold_before_anything_is_scored(lake: Config, tmp_path: Path) -> None:
    for name in ("histories", "catalog", "item_cooccurrence", "item_transitions", "item_keywords"):
        shutil.copytree(lake.table(name), tmp_path / name)
    for name in ("models", "index"):
        shutil.copytree(f"{lake.lake.root}/{name}", tmp_path / name)
    root = str(tmp_path)
    catalog = tables.read(root, "catalog").to_pylist()
    rows = [row | {"category": "rare" if int(row["item_id"][1:]) % 5 == 0 else "plenty"} for row in catalog]
    tables.replace(
        root, "catalog", tables.from_rows("catalog", [row | {"category": None} for row in rows[:1]] + rows[1:])
    )
    rules = {
        "categories": ["plenty", "rare"],
        "exclude_items": ["i01"],
        "exclude_users": ["u00"],
        "quotas": {"plenty": 7},
    }
    options = {"lake": {"root": root}, "rules": rules, "recommend": {"top_k": 10}}
    retrieve.retrieve(Config(**(lake.model_dump() | options)), "run")
    found = by_user(tables.read(root, "candidates"))
    assert found.keys() == {row["user_id"] for row in shop_histories()} - {"u00"}
    assert (
        "u00" not in by_user(tables.read(root, "similar_users")).keys() | by_user(tables.read(root, "evidence")).keys()
    )
    for user, listed in found.items():
        items = {row["item_id"] for row in listed}
        assert not items & {"i00", "i01", *UNAVAILABLE}
        rare = sum(int(item[1:]) % 5 == 0 for item in items)
        seen = next(row["item_ids"] for row in shop_histories() if row["user_id"] == user)
        free = len({f"i{number:02}" for number in range(10, 40, 5)} - set(seen))
        assert rare >= min(3, free) and min(len(items) - rare, 7) + rare >= min(10, 7 + free)
    none = Config(**(lake.model_dump() | options | {"rules": {"categories": ["plonty"]}}))
    with pytest.raises(InputError, match="allowed by the settings in rules"):
        Retriever(none)


def test_without_keywords_and_with_a_small_catalog(lake: Config, tmp_path: object) -> None:
    """No content candidates; popular items fill up to recommend.top_k, and what is left is given where it is less."""
    small = lake.model_copy(update={"retrieve": lake.retrieve.model_copy(update={"candidates": 1, "from_sasrec": 2})})
    retriever = Retriever(small)
    retriever._content = None
    users = pa.table({"user_id": ["few", "all", "most"], "item_ids": [["i00"], ITEMS, ITEMS[:33]]})
    found = by_user(retriever.candidates(users, retriever.similar_users(users)))
    assert len(found["few"]) == lake.recommend.top_k
    assert not {row["source"] for row in found["few"]} & {"content", "new"}
    assert "all" not in found
    assert {row["item_id"] for row in found["most"]} == set(ITEMS[33:]) - set(UNAVAILABLE)


def test_no_users_and_no_pairs(retriever: Retriever) -> None:
    users = all_users().slice(0, 0)
    similar = retriever.similar_users(users)
    candidates = retriever.candidates(users, similar)
    assert (similar.num_rows, candidates.num_rows) == (0, 0)
    assert retriever.evidence(users, candidates, similar).num_rows == 0


def test_what_is_missing_is_said(lake: Config, tmp_path: object) -> None:
    empty = lake.model_copy(update={"lake": lake.lake.model_copy(update={"root": str(tmp_path)})})
    with pytest.raises(InputError, match="run build_cf first"):
        retrieve.retrieve(empty, "run")
    failed = tables.read(str(tmp_path), "runs").to_pylist()
    assert [(row["stage"], row["status"]) for row in failed] == [("retrieve", "failed")]
