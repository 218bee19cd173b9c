"""The fusion: it finds what speaks for an item, does not know what it must not know, and stays the same on disk."""

from pathlib import Path

import numpy as np
import pytest
from evidence_data import asked, context, sequences

from mmsrarec.collaborative import fusion
from mmsrarec.collaborative import fusion_learning as learning
from mmsrarec.collaborative.fusion import LEVELS
from mmsrarec.collaborative.pieces import table
from mmsrarec.collaborative.pieces.asked import NOBODY, Asked
from mmsrarec.errors import InputError
from mmsrarec.evaluation import boosting

PIECES = list(table.pieces(["gru4rec"]))
QUESTIONS, WIDTH = 600, 12


def made_up(seed: int, questions: int = QUESTIONS) -> tuple[np.ndarray, np.ndarray]:
    """Values by chance, and answers drawn by a conditional logit: twice `follows`, once a bend of `recency`, and the
    rank of `linear`; some places hold no item, some pieces are unknown."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(questions, WIDTH, len(PIECES))).astype(np.float32)
    follows, recency = values[..., PIECES.index("follows")], values[..., PIECES.index("recency")]
    places = WIDTH - np.argsort(np.argsort(values[..., PIECES.index("linear")], axis=1), axis=1)
    scores = 2 * follows + 1.5 * np.maximum(recency, 0.5) - np.log(places) + rng.gumbel(size=follows.shape)
    values[:, :, PIECES.index("sasrec")][rng.random((questions, WIDTH)) < 0.1] = np.nan
    scores[rng.random(questions) < 0.5, WIDTH - 2 :] = -np.inf
    values[~np.isfinite(scores)] = np.nan
    answered = scores.argmax(axis=1)
    answered[:20] = -1
    return values, answered


def hits(scores: np.ndarray, answered: np.ndarray) -> float:
    return float((scores.argmax(axis=1) == answered)[answered >= 0].mean())


@pytest.fixture(scope="module")
def learned() -> fusion.Fusion:
    return learning.fit(PIECES, *made_up(1), seed=17)


def test_it_learns_what_decided(learned: fusion.Fusion) -> None:
    values, answered = made_up(2)
    assert learned.facts["questions"] == QUESTIONS - 20
    assert learned.facts["loss"] < 0.75 * learned.facts["even"]
    assert hits(learned.score(values), answered) > 0.45 > 2 * hits(-values[..., PIECES.index("popularity")], answered)


def test_its_loss_is_that_of_whole_lists(learned: fusion.Fusion) -> None:
    values, answered = made_up(1)
    values, answered = values[answered >= 0], answered[answered >= 0]
    scores = learned.score(values).astype(np.float64)
    own = scores[np.arange(len(answered)), answered]
    assert np.mean(np.log(np.exp(scores).sum(axis=1)) - own) == pytest.approx(learned.facts["loss"], abs=1e-3)


def test_places_without_an_item_stand_last_and_change_nothing(learned: fusion.Fusion) -> None:
    values, _ = made_up(3)
    scores = learned.score(values)
    assert np.isneginf(scores[fusion.nobody(values)]).all() and np.isfinite(scores[~fusion.nobody(values)]).all()
    wider = np.concatenate([values, np.full((len(values), 5, len(PIECES)), np.nan, np.float32)], axis=1)
    np.testing.assert_allclose(learned.score(wider)[:, :WIDTH], scores, atol=1e-5)


def test_levels_split_a_balanced_sample_evenly(learned: fusion.Fusion) -> None:
    values, _ = made_up(1)
    levels = learned.levels(values)
    assert (levels[np.isnan(values)] == -1).all() and levels.max() == LEVELS - 1
    shares = np.bincount(levels[..., PIECES.index("popularity")][~fusion.nobody(values)], minlength=LEVELS)
    assert shares.min() > 0.6 * shares.sum() / LEVELS


def test_few_questions_are_not_left_to_the_draw() -> None:
    values, answered = made_up(6, questions=120)
    one, other = (learning.described(PIECES, values[answered >= 0], answered[answered >= 0], seed) for seed in (1, 2))
    differing = np.abs(np.subtract(one.means, other.means)) / one.scales
    assert differing.max() < 0.05  # 0.1 and more with ten places a question
    assert (one.levels(values) != other.levels(values)).mean() < 0.05


def test_saved_and_loaded_it_says_the_same(learned: fusion.Fusion, tmp_path: Path) -> None:
    values, _ = made_up(4)
    fusion.save(tmp_path / "models" / "fusion.json", learned)
    again = fusion.load(tmp_path / "models" / "fusion.json", PIECES)
    assert again == learned and again.hash == learned.hash
    np.testing.assert_array_equal(again.score(values), learned.score(values))
    assert learning.fit(PIECES, *made_up(1), seed=17).hash == learned.hash
    with pytest.raises(InputError, match="train_fusion"):
        fusion.load(tmp_path / "nothing.json", PIECES)
    with pytest.raises(InputError, match="other pieces"):
        fusion.load(tmp_path / "models" / "fusion.json", list(table.pieces()))


def test_fixed_weights_follow_the_ranks() -> None:
    values = np.zeros((1, 3, len(PIECES)), np.float32)
    values[0, :, PIECES.index("sasrec")] = [0.1, 0.9, 0.5]
    values[0, :, PIECES.index("follows")] = [0.5, 0.9, np.nan]
    weight = fusion.FIXED
    expected = [-weight["sasrec"] * np.log(3) - weight["follows"] * np.log(2), 0, -weight["sasrec"] * np.log(2)]
    expected[2] -= weight["follows"] * np.log(3)  # what is unknown stands last
    np.testing.assert_allclose(fusion.fixed(PIECES).score(values)[0], expected, atol=1e-5)


def test_boosting_orders_the_best_of_the_fusion_and_leaves_the_rest(
    learned: fusion.Fusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boosting, "DEPTH", 6)
    trees = boosting.fit(learned, *made_up(1), seed=17, rounds=40)
    values, answered = made_up(5)
    scores, prior = trees.score(values), learned.score(values)
    assert hits(scores, answered) > 0.35
    for ours, theirs in zip(scores, prior, strict=True):
        order = np.argsort(-ours, kind="stable")
        before = np.argsort(-theirs, kind="stable")
        assert set(order[:6]) == set(before[:6])
        assert order[6:].tolist() == before[6:].tolist()


# The leak: each user's last step is a pair of items that nobody else has in common, so a count that has seen the step
# points at it, and at it alone, without fail; whoever has not seen it cannot do better than chance.
LEAKING, CHOICES = 240, 12
COUNTED = ("follows", "together", "linear", "user_cf_latest", "rp3beta_taken", "step_latest", "step_taken")


def leaky_shop() -> tuple[list[list[int]], np.ndarray, np.ndarray, int]:
    """Histories without their last item, that last item, the pool, and the items. Every item of a pool has the same
    number of takers among the others, and comes at the same place of their histories."""
    rng = np.random.default_rng(8)
    own = np.arange(LEAKING)  # the item before the last, of nobody else
    shared = LEAKING + np.arange(CHOICES)
    target = rng.integers(0, CHOICES, LEAKING)
    histories = [[int(item)] for item in own]
    pool = np.broadcast_to(shared, (LEAKING, CHOICES)).copy()
    fillers = LEAKING + CHOICES
    others = [[fillers + number % 5, int(item)] for number in range(5) for item in shared]  # all items alike
    return [*histories, *others], target, pool, fillers + 5


def answered_share(counted: list[list[int]], seed: int = 0) -> tuple[float, dict[str, float]]:
    """Share of right first places, of a fusion learned on half of the users and of every piece, on the other half,
    where ties count by expectation."""
    histories, target, pool, items = leaky_shop()
    made = context(sequences(counted), items, texts=["all alike"] * items, vectors=counted_vectors(items))
    batch = sequences(histories[:LEAKING])
    question = asked(made, batch, seed=seed)
    values = table.values(made, Asked(batch, question.logits, question.votes, pool))
    half = LEAKING // 2
    learned = learning.fit(PIECES, values[:half], target[:half], seed=17)
    found = {name: first(values[half:, :, number], target[half:]) for number, name in enumerate(PIECES)}
    return first(learned.score(values[half:]), target[half:]), found


def counted_vectors(items: int) -> np.ndarray:
    """SASRec is not under test here: it says nothing."""
    return np.ones((items, 8), np.float32)


def first(scores: np.ndarray, target: np.ndarray) -> float:
    known = np.nan_to_num(scores, nan=-1e9).round(5)
    best = known == known.max(axis=1, keepdims=True)
    return float((best[np.arange(len(target)), target] / best.sum(axis=1)).mean())


def test_without_the_asked_interaction_everything_is_at_chance() -> None:
    histories, _, _, _ = leaky_shop()
    share, pieces = answered_share(histories)
    chance = 1 / CHOICES
    bound = chance + 4 * np.sqrt(chance * (1 - chance) / (LEAKING / 2))
    assert share < bound
    assert not {name: found for name, found in pieces.items() if found > bound}


def test_with_it_the_leak_would_be_perfect() -> None:
    """Otherwise the test above would show nothing."""
    histories, target, _, _ = leaky_shop()
    leaked = [[row[0], LEAKING + int(answer)] for row, answer in zip(histories, target, strict=False)]
    share, pieces = answered_share([*leaked, *histories[LEAKING:]])
    assert share > 0.95
    assert min(pieces[name] for name in COUNTED) > 0.95


def test_answers_are_places_in_the_pool() -> None:
    pool = np.array([[4, 2, NOBODY], [1, NOBODY, NOBODY], [3, 5, 6]])
    assert learning.answers(pool, np.array([2, 7, NOBODY])).tolist() == [1, -1, -1]
