"""Signs that a tuned model pleases its rewards and not its readers. Pure.

Each sign is a figure over many items. It rings where the figure is past its limit and clearly worse than that of the
untuned backbone: a catalog whose titles are good keywords, or whose pictures look alike, raises no alarm by itself.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Described:
    """An item and what was answered about it; None where picture or text was not asked about. `source` is its text, the
    title with it."""

    title: str
    source: str
    image: list[str] | None
    text: list[str] | None

    @property
    def answers(self) -> list[list[str]]:
        return [answer for answer in (self.image, self.text) if answer is not None]

    @property
    def keywords(self) -> list[str]:
        return [keyword for answer in self.answers for keyword in answer]

    @cached_property
    def source_words(self) -> set[str]:
        return set(_words(self.source))


@dataclass(frozen=True)
class Sign:
    """A way to please the rewards. `rising`: more of the figure is worse. It rings at `limit` or beyond, if it is worse
    than the untuned backbone's by more than `margin` (rising), or at most `margin` times as large (falling)."""

    name: str
    says: str
    figure: Callable[[Sequence[Described]], float]
    limit: float
    margin: float
    rising: bool = True


@dataclass(frozen=True)
class Alarm:
    """A sign with its figures."""

    name: str
    says: str
    value: float
    untuned: float
    rings: bool


def copied(items: Sequence[Described]) -> float:
    """Share of the keywords that stand in their item's title word by word, in the title's order."""
    runs = [run for item in items for run in _copied(item)]
    return sum(runs) / len(runs) if runs else 0.0


def repeated(items: Sequence[Described]) -> float:
    """Share of an answer's words that it has said already."""
    words = [_words(" ".join(answer)) for item in items for answer in item.answers]
    count = sum(map(len, words))
    return 1 - sum(len(set(said)) for said in words) / count if count else 0.0


def unfounded(keyword: str, items: Sequence[Described]) -> float:
    """Share of the items that have this keyword, and no text of their own that says it and tells them from others: a
    word that stands in half of the texts founds nothing."""
    words = set(_words(keyword))
    founded = [words <= item.source_words for item in items]
    telling = sum(founded) <= COMMON * len(items)
    claims = [keyword in item.keywords and not (telling and own) for item, own in zip(items, founded, strict=True)]
    return sum(claims) / len(items) if items else 0.0


def silent(items: Sequence[Described]) -> float:
    """Share of the answers that hold no keyword."""
    answers = [answer for item in items for answer in item.answers]
    return sum(not answer for answer in answers) / len(answers) if answers else 0.0


def many(items: Sequence[Described]) -> float:
    """Mean number of keywords of an answer."""
    answers = [answer for item in items for answer in item.answers]
    return sum(map(len, answers)) / len(answers) if answers else 0.0


def distinct_images(items: Sequence[Described]) -> float:
    """Different answers about pictures, over pictures."""
    return _distinct([item.image for item in items if item.image is not None])


def distinct_texts(items: Sequence[Described]) -> float:
    """Different answers about texts, over texts."""
    return _distinct([item.text for item in items if item.text is not None])


SIGNS = (
    Sign("copied_titles", "keywords copied from the title", copied, 0.5, 0.2),
    Sign("repeated_words", "words said again in the same answer", repeated, 0.25, 0.1),
    Sign("without_keywords", "answers without a keyword", silent, 0.1, 0.05),
    Sign("keywords_per_answer", "keywords per answer", many, 1.5, 0.5, rising=False),
    Sign("distinct_pictures", "different answers per picture", distinct_images, 0.4, 0.5, rising=False),
    Sign("distinct_texts", "different answers per text", distinct_texts, 0.4, 0.5, rising=False),
)


FAVORED = "favored_keyword"
COMMON = 0.5  # share of the texts from which on a word says nothing of an item


def alarms(tuned: Sequence[Described], untuned: Sequence[Described]) -> list[Alarm]:
    """Every sign, of the same items described by both."""
    found = []
    for sign in (*SIGNS, favored(tuned, untuned)):
        value, before = sign.figure(tuned), sign.figure(untuned)
        past = value >= sign.limit if sign.rising else value <= sign.limit
        worse = value > before + sign.margin if sign.rising else value < before * sign.margin
        found.append(Alarm(sign.name, sign.says, value, before, past and worse))
    return found


def favored(tuned: Sequence[Described], untuned: Sequence[Described]) -> Sign:
    """The keyword that most more items have without a reason: a word that pleases the rewards wherever it stands, such
    as the name of a thing that is called so in many texts, said of pictures that show another."""
    known = sorted({keyword for item in tuned for keyword in item.keywords})
    keyword = max(known, key=lambda each: unfounded(each, tuned) - unfounded(each, untuned), default="")
    says = f"items with the keyword {keyword!r} and no reason in their text"
    return Sign(FAVORED, says, partial(unfounded, keyword), 0.0, 0.1)


def _copied(item: Described) -> list[bool]:
    title, place, found = _words(item.title), 0, []
    for keyword in item.keywords:
        said = _words(keyword)
        starts = (start for start in range(place, len(title)) if said and title[start : start + len(said)] == said)
        start = next(starts, None)
        found.append(start is not None)
        place = start + len(said) if start is not None else place
    return found


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _distinct(answers: list[list[str]]) -> float:
    return len({frozenset(answer) for answer in answers}) / len(answers) if answers else 1.0
