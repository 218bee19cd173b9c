"""The three rewards of the keywords against numbers worked out by hand, and what must hold whatever the numbers."""

import math

import pytest

from mmsrarec.config import TuneSummarizer
from mmsrarec.keywords.rewards import Measures, comparable, rewards, scaling, told

MOST = 8
SETTINGS = TuneSummarizer(information=1.0, reconstruction=0.5, length=0.2)


def measures(
    cosine: float = 0.6, surprise: float = 3.0, alone: float = 4.0, keywords: int = 4, other: float = 5.0
) -> Measures:
    """The other text surprises by 5 without keywords, and unless said otherwise with them."""
    return Measures(cosine, 0.25, surprise, alone, other, 5.0, keywords)


def test_relative_rewards() -> None:
    found = rewards(measures(), SETTINGS, MOST, "relative")
    assert (found.information, found.reconstruction, found.length) == (pytest.approx(0.35), 0.25, -0.5)
    assert found.total == pytest.approx(0.35 + 0.5 * 0.25 - 0.2 * 0.5)


def test_the_rewards_as_published() -> None:
    found = rewards(measures(), SETTINGS, MOST, "paper")
    assert (found.information, found.length) == (0.6, -4.0)
    assert found.reconstruction == pytest.approx(-20.0855369)  # -exp(3)
    assert found.total == pytest.approx(0.6 - 0.5 * 20.0855369 - 0.2 * 4)


@pytest.mark.parametrize("scale", ["relative", "paper"])
def test_more_of_the_text_told_is_worth_more(scale) -> None:
    known = [rewards(measures(surprise=surprise), SETTINGS, MOST, scale) for surprise in (0.5, 2.0, 3.9, 4.5)]
    assert sorted((one.reconstruction for one in known), reverse=True) == [one.reconstruction for one in known]
    near = [rewards(measures(cosine=cosine), SETTINGS, MOST, scale).total for cosine in (-0.2, 0.1, 0.9)]
    assert near == sorted(near) and len(set(near)) == 3


@pytest.mark.parametrize("scale", ["relative", "paper"])
def test_fewer_keywords_are_worth_more_but_none_is_the_worst(scale) -> None:
    counted = [rewards(measures(keywords=count), SETTINGS, MOST, scale) for count in (1, 2, MOST)]
    assert [one.length for one in counted] == sorted((one.length for one in counted), reverse=True)
    empty = rewards(Measures(0.9, 0.25, 4.0, 4.0, 5.0, 5.0, 0), SETTINGS, MOST, scale)
    for one in counted:
        assert empty.total < one.total and empty.information <= one.information and empty.length <= one.length
        assert empty.reconstruction < one.reconstruction


def test_relative_rewards_stay_on_one_scale_where_perplexity_does_not() -> None:
    assert told(measures(surprise=500.0)) == -1.0
    assert told(measures(surprise=0.0)) == 1.0
    assert told(measures(alone=0.0)) == 0.0
    assert told(measures(surprise=500.0, other=1.0)) == -1.0
    huge = rewards(measures(surprise=5000.0), SETTINGS, MOST, "paper").reconstruction
    assert math.isfinite(huge) and huge < -1e20


def test_keywords_that_help_to_write_every_text_earn_nothing_by_it() -> None:
    assert told(measures(surprise=3.0, other=3.75)) == pytest.approx(0)  # a quarter less of both
    assert told(measures(surprise=3.0, other=5.5)) == pytest.approx(0.35)  # they mislead about the other
    assert rewards(measures(other=1.0), SETTINGS, MOST, "paper") == rewards(measures(), SETTINGS, MOST, "paper")


def test_a_group_is_told_apart_by_the_published_rewards_and_models_by_the_relative_ones() -> None:
    for name, single, models in (
        ("relative", "relative", "relative"),
        ("paper", "paper", "paper"),
        ("group", "paper", "relative"),
    ):
        settings = TuneSummarizer(scaling=name)
        assert (scaling(settings), comparable(settings)) == (single, models)
