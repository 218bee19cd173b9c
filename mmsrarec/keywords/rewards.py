"""The three rewards of an answer about an item (method, stage 1, equations 1 to 4). Pure: encoder and language model
have spoken before; training/judge.py asks them.

`relative` brings the three to one scale, on which 1 or, for length, 0 can hardly be reached:

    information     the cosine of equation 1 less what it is with other items' texts on average: a word that is near to
                    every text earns nothing, above all not in an answer about a picture that the text says nothing of
    reconstruction  1 - log perplexity given the keywords / log perplexity given none: the share of the surprise at the
                    text that the keywords take away, less the share that they take away at another item's text: a word
                    that helps to write every text earns nothing; from -1, where equation 2 has no lower bound
    length          -(keywords / max_keywords), where equation 3 has the number

`paper` has the equations as they are published. `group` has them, too: the trainer standardizes each reward among the
answers to one question. An answer without a keyword gets the worst.
"""

import math
from dataclasses import dataclass
from typing import Literal

from mmsrarec.config import TuneSummarizer

Scaling = Literal["relative", "paper"]
MOST_SURPRISE = 60.0  # per token; keeps exp() of it within float32


@dataclass(frozen=True)
class Measures:
    """What was found out about an answer: cosine of the vectors of keywords and text, and on average with the texts of
    all items, surprise (-1/N of the summed log-probabilities of the text's N tokens) at the text given the keywords and
    given none, the same at another item's text, number of keywords."""

    cosine: float
    usual: float
    surprise: float
    surprise_alone: float
    other: float
    other_alone: float
    keywords: int

    @property
    def perplexity(self) -> float:
        return math.exp(min(self.surprise, MOST_SURPRISE))


@dataclass(frozen=True)
class Rewards:
    """Equations 1, 2 and 3, scaled, and 4: their weighted sum."""

    information: float
    reconstruction: float
    length: float
    total: float


def scaling(settings: TuneSummarizer) -> Scaling:
    """In which single answers are rewarded; `group` says how the trainer sums equations 1 to 3 as they are."""
    return "relative" if settings.scaling == "relative" else "paper"


def comparable(settings: TuneSummarizer) -> Scaling:
    """In which answers of different models are compared, where no group is there to standardize by."""
    return "paper" if settings.scaling == "paper" else "relative"


def rewards(found: Measures, settings: TuneSummarizer, most: int, scale: Scaling) -> Rewards:
    """The breakdown for an answer that may hold `most` keywords."""
    if not found.keywords:
        return _summed(-1.0, *_worst(found, most, scale), settings)
    if scale == "paper":
        return _summed(found.cosine, -found.perplexity, -float(found.keywords), settings)
    return _summed(found.cosine - found.usual, told(found), -found.keywords / most, settings)


def told(found: Measures) -> float:
    """Share of the surprise at the text that the keywords take away, less that at another text; at least -1."""
    own, other = _share(found.surprise, found.surprise_alone), _share(found.other, found.other_alone)
    return max(-1.0, own - other)


def _share(surprise: float, alone: float) -> float:
    return max(-1.0, 1 - surprise / alone) if alone > 0 else 0.0


def _worst(found: Measures, most: int, scale: Scaling) -> tuple[float, float]:
    """Of reconstruction and length. Equation 2 has no worst: twice the perplexity of a text that nothing tells of."""
    if scale == "relative":
        return -1.0, -1.0
    return -2 * math.exp(min(found.surprise_alone, MOST_SURPRISE)), -float(most)


def _summed(information: float, reconstruction: float, length: float, settings: TuneSummarizer) -> Rewards:
    total = (
        settings.information * information + settings.reconstruction * reconstruction + settings.length * length
    )  # equation 4
    return Rewards(information, reconstruction, length, total)
