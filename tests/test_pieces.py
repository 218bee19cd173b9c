"""Every piece of evidence against a slow readable reference, and the pools they are about."""

import weakref
from itertools import combinations

import numpy as np
import pytest
from evidence_data import SIZES, asked, batch, context, sequences
from scipy import sparse

from mmsrarec.collaborative import ease
from mmsrarec.collaborative.matrices import AGE_DECAY, LATEST_ITEMS
from mmsrarec.collaborative.pieces import counting, related, table
from mmsrarec.collaborative.pieces.asked import NOBODY, Asked, ranks
from mmsrarec.collaborative.pieces.context import Context
from mmsrarec.collaborative.pieces.pool import ask

ITEMS, USERS = 30, 40
PIECES = list(table.pieces(["gru4rec"]))


@pytest.fixture(scope="module")
def histories() -> list[list[int]]:
    rng = np.random.default_rng(1)
    lists = [rng.choice(ITEMS - 2, size=rng.integers(2, 9), replace=False).tolist() for _ in range(USERS)]
    return [*lists, [4], []]  # two items that nobody has taken; a user with one item, and one with none


@pytest.fixture(scope="module")
def made(histories: list[list[int]]) -> Context:
    return context(sequences(histories), ITEMS)


@pytest.fixture(scope="module")
def question(made: Context, histories: list[list[int]]) -> Asked:
    votes = np.random.default_rng(2).random((len(histories), ITEMS)).round(2)
    votes[votes < 0.7] = 0
    return asked(made, sequences(histories), votes)


def test_a_pool_is_unseen_distinct_and_packed(made: Context, question: Asked, histories: list[list[int]]) -> None:
    assert question.pool.shape[0] == len(histories)
    for row, seen in zip(question.pool, histories, strict=True):
        named = row[row != NOBODY].tolist()
        assert len(named) == len(set(named)) and not set(named) & set(seen)
        assert (row[len(named) :] == NOBODY).all()
    free = np.ones(ITEMS, bool)
    free[[3, 7]] = False
    pool, source = ask(made, batch(made, sequences(histories)), free, SIZES)
    assert not np.isin(pool.pool, [3, 7]).any() and source.shape == pool.pool.shape


def test_a_source_names_its_best_in_order(made: Context, histories: list[list[int]]) -> None:
    only = {name: 0 for name in SIZES} | {"follows": 4}
    found, source = ask(made, batch(made, sequences(histories)), np.ones(ITEMS, bool), only)
    assert (source[found.valid] == list(SIZES).index("follows")).all()
    dense = made.follows.toarray()
    for row, seen in zip(found.pool, histories, strict=True):
        sums = sum(
            (AGE_DECAY**age * dense[item] for age, item in enumerate(seen[::-1][:LATEST_ITEMS])), np.zeros(ITEMS)
        )
        sums[seen] = 0
        best = np.sort(sums[sums > 0])[::-1][:4]
        np.testing.assert_allclose(sums[row[row != NOBODY]], best, atol=1e-6)


def test_ranks_share_ties_and_put_the_unknown_last() -> None:
    found = ranks(np.array([[1.0, 3.0, np.nan, 3.0, 0.0]]))
    assert found.tolist() == [[3, 1, 5, 1, 4]]


def reference(made: Context, histories: list[list[int]], question: Asked, user: int, item: int) -> dict[str, float]:
    """The slow way, one pair at a time."""
    seen = histories[user]
    latest = {code: AGE_DECAY**age for age, code in enumerate(seen[::-1][:LATEST_ITEMS])}
    text, keywords = made.text.toarray(), made.keywords.toarray()

    def mean(rows: np.ndarray) -> float:
        profile = sum((weight * rows[code] for code, weight in latest.items()), np.zeros(rows.shape[1]))
        return float(rows[item] @ profile / max(np.linalg.norm(profile), 1e-12))

    votes = question.votes.toarray()[user]
    profile = votes @ keywords
    directions = made.networks["sasrec"] / np.maximum(np.linalg.norm(made.networks["sasrec"], axis=1), 1e-9)[:, None]
    best = {
        name: max([0.0, *(float(rows[item] @ rows[code]) for code in latest)])
        for name, rows in (("text", text), ("meaning", made.meaning), ("vector", directions))
    }
    return {
        **of_network("sasrec", question.logits["sasrec"][user], item),
        **of_network("gru4rec", question.logits["gru4rec"][user], item),
        **{
            f"{name}_latest": sum(weight * matrix[code, item] for code, weight in latest.items())
            for name, matrix in made.related.items()
        },
        **{f"{name}_taken": sum(matrix[code, item] for code in seen) for name, matrix in made.related.items()},
        "vector_last": float(directions[item] @ directions[seen[-1]]) if seen else 0,
        "vector_best": best["vector"],
        "follows": sum(weight * made.follows[code, item] for code, weight in latest.items()),
        "together": np.mean([made.together[code, item] for code in seen]) if seen else 0,
        "linear": sum(made.linear[code, item] for code in seen),
        "similar_users": votes[item],
        "recency": made.clock[item] - made.clock[seen[-1]] if seen else np.nan,
        "popularity": np.log1p(made.popularity[item]),
        "recent": np.log1p(made.recent[item]),
        "text_mean": mean(text),
        "text_last": float(text[item] @ text[seen[-1]]) if seen else 0,
        "text_best": best["text"],
        "meaning_mean": mean(made.meaning),
        "meaning_last": float(made.meaning[item] @ made.meaning[seen[-1]]) if seen else 0,
        "meaning_best": best["meaning"],
        "keywords": mean(keywords),
        "similar_keywords": float(keywords[item] @ profile / max(np.linalg.norm(profile), 1e-12)),
    }


def of_network(name: str, logits: np.ndarray, item: int) -> dict[str, float]:
    known, line = np.isfinite(logits[item]), np.sort(logits)[::-1]
    return {
        name: logits[item] - np.log(np.exp(logits).sum()) if known else np.nan,
        f"{name}_gap": logits[item] - (line[9] if np.isfinite(line[9]) else 0) if known else np.nan,
    }


def test_pieces_against_a_slow_reference(made: Context, question: Asked, histories: list[list[int]]) -> None:
    values = table.values(made, question)
    assert values.shape == (*question.pool.shape, len(PIECES))
    for user, place in np.argwhere(question.valid):
        expected = reference(made, histories, question, user, question.pool[user, place])
        found = dict(zip(PIECES, values[user, place].tolist(), strict=True))
        assert found == pytest.approx(expected, abs=2e-5, nan_ok=True), (user, place)
    assert np.isnan(values[~question.valid]).all()


def test_a_batch_of_some_gives_what_a_batch_of_all_gives(made: Context, question: Asked) -> None:
    rows = slice(5, 9)
    logits = {name: found[rows] for name, found in question.logits.items()}
    some = Asked(counting.part(question.histories, 5, 9), logits, question.votes[rows], question.pool[rows])
    np.testing.assert_allclose(table.values(made, some), table.values(made, question)[rows], atol=1e-6)


def test_counts_against_pairs_counted_one_by_one(histories: list[list[int]]) -> None:
    both = counting.gram(sequences(histories), ITEMS).toarray()
    expected = np.zeros((ITEMS, ITEMS))
    for seen in histories:
        for item in seen:
            expected[item, item] += 1
        for one, other in combinations(seen, 2):
            expected[one, other] += 1
            expected[other, one] += 1
    np.testing.assert_array_equal(both, expected)
    follows = counting.transitions(sequences(histories), ITEMS, 2, 0.5).toarray()
    steps = np.zeros((ITEMS, ITEMS))
    for seen in histories:
        for distance in (1, 2):
            for one, other in zip(seen, seen[distance:], strict=False):
                steps[one, other] += 0.5 ** (distance - 1)
    np.testing.assert_allclose(follows, steps / np.maximum(steps.sum(1, keepdims=True), 1e-12), atol=1e-9)


@pytest.mark.parametrize("work", [related.WORK, 40])
def test_related_items_against_users_gone_through_one_by_one(
    histories: list[list[int]], work: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(related, "WORK", work)  # also with a few items at a time
    follows = counting.transitions(sequences(histories), ITEMS, 5, 0.8)
    found = related.related(sequences(histories), follows, 6, ITEMS)
    takers, walks, steps = np.zeros(ITEMS), np.zeros((ITEMS, ITEMS)), np.zeros((ITEMS, ITEMS))
    for seen in histories:
        for one, other in combinations(seen[-6:], 2):
            walks[[one, other], [other, one]] += 1 / len(seen[-6:])
        takers[seen[-6:]] += 1
        for one, other in zip(seen, seen[1:], strict=False):
            steps[one, other] += 1
    takers = np.maximum(takers, 1)
    expected = {
        "user_cf": walks / np.sqrt(np.outer(takers, takers)),
        "rp3beta": walks / np.outer(takers, takers**related.BETA),
        "before": follows.toarray().T,
        "step": steps / np.maximum(steps.sum(1, keepdims=True), 1),
    }
    assert list(found) == list(related.NAMES)
    for name, matrix in found.items():
        np.testing.assert_allclose(matrix.toarray(), expected[name], atol=1e-6, err_msg=name)


def test_the_strongest_of_a_row_stay_and_of_equal_ones_the_first() -> None:
    rows = np.array([[1, 3, 3, 0, 3], [0, 0, 2, 0, 0], [0] * 5, [5, 4, 3, 2, 1]], np.float32)
    found = related.strongest(sparse.csr_array(rows), 2)
    assert found.toarray().tolist() == [[0, 3, 3, 0, 0], [0, 0, 2, 0, 0], [0] * 5, [5, 4, 0, 0, 0]]
    assert found.nnz == 5


def test_ease_is_the_ridge_regression_without_the_item_itself() -> None:
    rng = np.random.default_rng(4)
    taken = (rng.random((200, 6)) < 0.4).astype(float)
    found = ease.weights(sparse.csr_array(taken.T @ taken), 5.0)
    for item in range(6):
        others = [other for other in range(6) if other != item]
        design = taken[:, others]
        ridge = np.linalg.solve(design.T @ design + 5 * np.eye(5), design.T @ taken[:, item])
        np.testing.assert_allclose(found[others, item], ridge, atol=1e-4)
        assert found[item, item] == 0


def test_ease_is_solved_once_while_it_is_in_use_or_kept() -> None:
    one, other = (sparse.csr_array(np.diag([2.0, 3.0, count]) + 1) for count in (1, 5))
    first = ease.weights(one, 5.0)
    assert ease.weights(one, 5.0) is first and not first.flags.writeable
    assert ease.weights(other, 5.0) is not first and ease.weights(one, 6.0) is not first
    before = weakref.ref(first)
    del first
    assert before() is None
    with ease.kept():
        kept = [weakref.ref(ease.weights(each, 5.0)) for each in (one, other, one)]
        assert kept[0]() is kept[2]() is not None and kept[1]() is not None
        ease.weights(one, 7.0)
        assert kept[0]() is None
    assert kept[1]() is None


def test_the_clock_follows_times_and_without_them_the_order() -> None:
    rng = np.random.default_rng(6)
    released = np.arange(50)
    lists = []
    for _ in range(400):
        start = rng.integers(0, 42)
        lists.append(np.sort(start + rng.choice(8, size=4, replace=False)).tolist())
    rows = sequences(lists)
    by_order = counting.clock(rows, None, 50)
    assert np.corrcoef(np.argsort(np.argsort(by_order)), released)[0, 1] > 0.95
    times = 1e6 * (1.6e9 + 86_400.0 * rows.codes)
    by_time = counting.clock(rows, times, 51)
    assert np.all(np.diff(by_time[:49]) > 0) and by_time[50] == 0.5
    places = np.concatenate([np.arange(len(row)) for row in lists]).astype(float)
    np.testing.assert_array_equal(counting.clock(rows, places, 50), by_order)


def test_an_item_taken_again_counts_once_and_leaves_the_history_as_it_is() -> None:
    rows = sequences([[2, 0, 2, 1], [1, 1]])
    before = rows.codes.copy(), rows.offsets.copy()
    both = counting.gram(rows, 4).toarray()
    assert both.diagonal().tolist() == [1, 2, 1, 0] and both[2, 1] == 1
    np.testing.assert_array_equal(rows.codes, before[0])
    np.testing.assert_array_equal(rows.offsets, before[1])
