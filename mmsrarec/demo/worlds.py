"""What the small backbone's lessons are made of: items, shop texts, and texts of random English words."""

import random

import numpy as np
from wordfreq import top_n_list, word_frequency

from mmsrarec.demo.pictures import COLORS, OBJECTS, PATTERNS
from mmsrarec.demo.shop import MATERIALS, OCCASIONS, STYLES, Item, write_text

WORDS = [word for word in top_n_list("en", 20_000) if word.isalpha() and len(word) > 2]
FREQUENCIES = np.array([word_frequency(word, "en") for word in WORDS])
COMMON = set(WORDS[:150])
CONTENT = [word for word in WORDS[150:] if len(word) > 3]


def random_item(rng: random.Random) -> Item:
    values = (tuple(COLORS), PATTERNS, OBJECTS, STYLES, MATERIALS, OCCASIONS)
    return Item(*(rng.choice(choices) for choices in values))


def shop_text(item: Item, rng: random.Random) -> str:
    """An item's text as build_cf joins it: title and description."""
    return ". ".join(write_text(item, rng))


def free_text(rng: random.Random, np_rng: np.random.Generator) -> tuple[str, list[str]]:
    """A text of random English words and its keywords: the categories, then the rarest words of the description."""
    sample = np_rng.choice(len(WORDS), size=rng.randint(6, 28), p=FREQUENCIES / FREQUENCIES.sum())
    words = [WORDS[index] for index in sample]
    words[rng.randrange(len(words))] = rng.choice(CONTENT)
    words[rng.randrange(len(words))] = rng.choice(CONTENT)
    title = " ".join(word.capitalize() for word in rng.choices(CONTENT, k=rng.randint(1, 4)))
    categories = rng.sample(CONTENT, rng.randint(0, 3))
    separator = rng.choice(["|", ", ", " / "])
    category = separator.join(word.capitalize() for word in categories)
    rare = sorted(
        {word for word in words if word not in COMMON and len(word) > 3}, key=lambda w: word_frequency(w, "en")
    )
    kept = set(rare[:4])
    keywords = list(dict.fromkeys([*categories, *(word for word in words if word in kept)]))
    body = " ".join(words).capitalize() + "."
    return ". ".join(part for part in (title, body, category) if part), keywords[:6] or title.lower().split()[:3]
