"""The blend of p_yes with the pre-ranker's score: it finds which opinion is worth what, and scores stay in (0, 1)."""

import numpy as np
import pytest

from mmsrarec.recommendation import blend
from mmsrarec.recommendation.blend import Blend, List, log_odds


def made(p_yes_tells: float, prior_tells: float, count: int = 300) -> list[List]:
    """Lists of ten whose target is chosen by the two opinions, as strongly as is said."""
    rng, lists = np.random.default_rng(3), []
    for _ in range(count):
        odds, priors = rng.normal(size=10), 5 * rng.normal(size=10)
        chance = np.exp(p_yes_tells * odds + prior_tells * priors)
        taken = int(rng.choice(10, p=chance / chance.sum()))
        lists.append(List(list(1 / (1 + np.exp(-odds))), list(priors), taken))
    return lists


@pytest.mark.parametrize(("p_yes", "prior"), [(1.5, 0.0), (0.0, 0.4), (1.0, 0.2)])
def test_each_opinion_gets_the_weight_that_it_is_worth(p_yes: float, prior: float) -> None:
    found = blend.learned(made(p_yes, prior))
    assert found.p_yes == pytest.approx(p_yes, abs=0.25) and found.prior == pytest.approx(prior, abs=0.06)


@pytest.mark.parametrize(("p_yes", "prior"), [(-0.5, 0.4), (1.0, -0.2)])
def test_an_opinion_that_misleads_counts_for_nothing_and_never_against_a_candidate(p_yes: float, prior: float) -> None:
    found = blend.learned(made(p_yes, prior))
    assert (found.p_yes == 0) == (p_yes < 0) and (found.prior == 0) == (prior < 0)
    assert found.p_yes + found.prior > 0.1


def test_the_blend_orders_better_than_either_opinion_where_both_tell() -> None:
    lists = made(1.5, 0.3)
    told = blend.figures(blend.learned(lists), lists)
    assert told["ndcg_blend"] > 1.05 * max(told["ndcg_p_yes"], told["ndcg_prior"])


def test_an_opinion_that_helps_only_where_nobody_looks_is_not_heard() -> None:
    """Two in three targets are second, and p_yes takes them further down; the others are far down, and it lifts
    them with all that is there, which makes what was taken likelier, but brings none into the first ten."""
    priors = [float(-rank) for rank in range(30)]
    second, far = [0.5] * 30, [0.3] * 10 + [0.7] * 20
    second[1] = 0.4
    lists = [List(second, priors, 1), List(second, priors, 1), List(far, priors, 28)] * 50
    both, heard = blend._fitted(lists, heard=True), blend.learned(lists)
    assert both.p_yes > 0 and heard.p_yes == 0 and heard.prior > 0
    assert blend.figures(both, lists)["ndcg_blend"] <= blend.figures(heard, lists)["ndcg_blend"]


def test_the_prior_orders_where_neither_opinion_tells_anything() -> None:
    lists = made(-1.0, -0.4)
    found = blend.learned(lists)
    assert found.p_yes == 0 and found.score(0.5, 2.0) > found.score(0.5, 1.0)


def test_a_score_is_a_share_and_rises_with_both_opinions() -> None:
    one = Blend(p_yes=1.0, prior=0.5, shift=0.2, floor=-3.0)
    scores = [one.score(p, prior) for p, prior in [(0.1, -1.0), (0.4, -1.0), (0.4, 2.0), (0.9, 2.0)]]
    assert scores == sorted(scores) and 0 < scores[0] < scores[-1] < 1
    assert one.score(0.4, None) == one.score(0.4, -3.0), "what has no prior has the floor"
    assert 0 <= one.score(0.0, -1e9) < one.score(1.0, 1e9) <= 1
    assert log_odds(0.0) == pytest.approx(-log_odds(1.0))


def test_the_middle_of_the_lists_scores_one_half() -> None:
    lists = made(1.0, 0.2)
    found = blend.learned(lists)
    scores = [found.score(p, prior) for one in lists for p, prior in zip(one.p_yes, one.priors, strict=True)]
    assert np.median(scores) == pytest.approx(0.5, abs=0.01)
