"""Alarms ring on made-up hacks of the rewards, and not on honest answers, nor on what the untuned model does, too."""

from dataclasses import replace

import pytest

from mmsrarec.keywords.alarms import FAVORED, SIGNS, Described, alarms

COLORS = ("red", "blue", "green", "black", "white")
GOODS = ("mug", "lamp", "chair", "bag", "clock", "vase")


def honest(items: int = 30) -> list[Described]:
    return [
        Described(
            f"Velora {number} fine {GOODS[number % 6]}",
            f"Velora {number} fine {GOODS[number % 6]}. Made in material {number % 4}, of our quality.",
            [COLORS[number % 5], GOODS[number % 6], f"pattern {number}"],
            [f"style {number % 7}", f"material {number % 4}", "handmade" if number % 3 else "modern"],
        )
        for number in range(items)
    ]


def ringing(tuned: list[Described], untuned: list[Described] | None = None) -> set[str]:
    return {alarm.name for alarm in alarms(tuned, untuned or honest()) if alarm.rings}


HACKS = {
    "copied_titles": lambda item: replace(item, image=item.title.split()[:2], text=item.title.split()[2:]),
    "repeated_words": lambda item: replace(item, text=["fine mug", "mug fine", "fine", "mug"]),
    "favored_keyword": lambda item: replace(item, image=["mug" if word == "bag" else word for word in item.image]),
    "without_keywords": lambda item: replace(item, image=[]),
    "keywords_per_answer": lambda item: replace(item, image=item.image[:1], text=item.text[:1]),
    "distinct_pictures": lambda item: replace(item, image=["photo", f"scene {len(item.title) % 2}"]),
    "distinct_texts": lambda item: replace(item, text=["goods", f"shop {len(item.title) % 2}"]),
}


def test_honest_answers_raise_no_alarm() -> None:
    assert not ringing(honest())
    shorter = [replace(item, image=item.image[1:], text=item.text[:2]) for item in honest()]
    assert not ringing(shorter)


@pytest.mark.parametrize("name", HACKS)
def test_each_alarm_rings_on_its_hack(name: str) -> None:
    hacked = [HACKS[name](item) for item in honest()]
    assert name in ringing(hacked)
    assert not ringing(hacked, hacked)  # the untuned model does the same: that is the catalog


def test_every_sign_is_tried() -> None:
    assert set(HACKS) == {FAVORED, *(sign.name for sign in SIGNS)}


def test_the_favored_keyword_is_named() -> None:
    (alarm,) = (one for one in alarms([HACKS[FAVORED](item) for item in honest()], honest()) if one.rings)
    assert alarm.says == "items with the keyword 'mug' and no reason in their text"
    assert (alarm.value, alarm.untuned) == (pytest.approx(1 / 6), 0.0)


@pytest.mark.parametrize("word", ["soul", "quality"])  # that no text says, that every text says
def test_one_keyword_on_every_item_is_a_favored_one(word: str) -> None:
    hacked = [replace(item, text=[*item.text, word]) for item in honest()]
    assert FAVORED in ringing(hacked)
    assert not ringing(hacked, hacked)


def test_a_keyword_that_the_text_says_is_none_however_rarely_it_was_said_before() -> None:
    blind = [replace(item, text=["modern", "handmade", f"style {number}"]) for number, item in enumerate(honest())]
    seeing = [replace(item, text=[item.text[1], "modern", f"style {number}"]) for number, item in enumerate(honest())]
    assert not ringing(seeing, blind)
    assert FAVORED in ringing([replace(item, source="") for item in seeing], blind)


def test_items_that_were_not_asked_about_say_nothing() -> None:
    bare = [Described("A title", "A title", None, None)] * 3
    assert not ringing(bare, bare)
    texts = [replace(item, image=None) for item in honest()]
    assert not ringing(texts, texts)


def test_keywords_out_of_the_titles_order_are_not_copied() -> None:
    copied = next(sign.figure for sign in SIGNS if sign.name == "copied_titles")
    assert copied([Described("red velvet bag", "", None, ["red velvet", "bag"])]) == 1.0
    assert copied([Described("red velvet bag", "", None, ["bag", "red velvet", "red bag"])]) == pytest.approx(1 / 3)
