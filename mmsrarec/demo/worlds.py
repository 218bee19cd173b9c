"""Lessons for the small backbone, from shops other than the sample and from random words.

Three kinds: keywords of a picture, keywords of a text, and yes/no about a user's candidates. The users of a lesson come
from shops with other seeds; in every second shop all attribute values are replaced by random words, so that the model
learns to compare keywords, not to know ten colors. What the pipeline takes from SASRec is imitated by a truncated
singular value decomposition of the shop's co-occurrence, made without the user's later items.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from scipy import sparse
from wordfreq import top_n_list, word_frequency

from mmsrarec.collaborative.content import Content
from mmsrarec.collaborative.evidence import Pieces, levels
from mmsrarec.collaborative.matrices import AGE_DECAY, LATEST_ITEMS
from mmsrarec.collaborative.retrieve import COUNTED_NEIGHBORS
from mmsrarec.demo import teacher
from mmsrarec.demo.pictures import COLORS, OBJECTS, PATTERNS
from mmsrarec.demo.shop import MATERIALS, OCCASIONS, STYLES, Item, Shop, make_shop, write_text
from mmsrarec.recommendation.prompt import candidate_text, user_text

WORDS = [word for word in top_n_list("en", 20_000) if word.isalpha() and len(word) > 2]
FREQUENCIES = np.array([word_frequency(word, "en") for word in WORDS])
COMMON = set(WORDS[:150])
CONTENT = [word for word in WORDS[150:] if len(word) > 3]
MIDDLE = 8.0  # pull at which a candidate fits with probability one half
SAMPLE_SEED_LIMIT = 100_000  # lesson shops have seeds from here up, the sample shop has one below


@dataclass(frozen=True)
class Judgement:
    """One user with candidates, as the pointwise prompt shows them. fits[i] in (0, 1) is how well candidate i suits the
    user's next step in truth, which only the maker of the shop knows; counts[i] are the teacher's features of it and
    shares[i] what the teacher knows of each of its keywords."""

    user: str
    candidates: list[str]
    keywords: list[list[str]]
    fits: list[float]
    counts: list[list[float]]
    shares: list[list[tuple[float, float]]]


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


def judgements(seed: int, rng: random.Random, per_shop: int, candidates: int = 8) -> Iterator[Judgement]:
    """`per_shop` users of the shop with this seed, each with one item that came next and others that did not."""
    shop = make_shop(
        SAMPLE_SEED_LIMIT + seed,
        items=rng.randint(120, 500),
        users=rng.randint(150, 700),
        groups=rng.randint(3, 10),
    )
    if rng.random() < 0.5:
        shop = _reworded(shop, rng)
    view = _Collaborative(shop)
    users = [u for u, journey in enumerate(shop.journeys) if len(journey) >= 2]
    for user in rng.sample(users, min(per_shop, len(users))):
        yield _judgement(shop, view, user, rng, candidates)


def _judgement(shop: Shop, view: "_Collaborative", user: int, rng: random.Random, candidates: int) -> Judgement:
    journey = shop.journeys[user]
    history, target = journey[:-1], journey[-1]
    images, texts = rng.random() > 0.08, rng.random() > 0.08
    drop = rng.random() < 0.05

    def keywords(item: int) -> list[str]:
        known = (shop.items[item].image_keywords if images else []) + (shop.items[item].text_keywords if texts else [])
        return [] if drop and rng.random() < 0.3 else known

    k, n = rng.choice([0, 1, 2, 3, 3, 3, 3, 3, 5]), rng.choice([3, 5, 5, 5, 5, 8])
    nearest = view.similar_next(user, history) if k else []
    shown = list(dict.fromkeys(nearest))[:k]
    seen = set(history)
    scores = view.scores(history)
    pool = [item for item in view.pool(scores, nearest) if item not in seen and item != target]
    others = [item for item in rng.sample(range(len(shop.items)), candidates) if item not in seen and item != target]
    hard = pool[: 3 * candidates]
    pull = shop.pull[user]
    best = [int(item) for item in np.argsort(-pull, kind="stable")[:12] if item not in seen and item != target]
    chosen = [*rng.sample(hard, min(len(hard), 3)), *rng.sample(best, min(len(best), 2)), *others]
    asked = [target, *list(dict.fromkeys(chosen))[: candidates - 1]]
    rng.shuffle(asked)
    with_levels = rng.random() > 0.12
    alike = view.content(images, texts, history, nearest)
    evidence = [view.levels(history, nearest, scores, item, alike) if with_levels else "" for item in asked]
    own, similar = [keywords(item) for item in history[-n:]], [keywords(item) for item in shown]
    candidate_keywords = [keywords(item) for item in asked]
    pairs = list(zip(candidate_keywords, evidence, strict=True))
    return Judgement(
        user_text(own, similar),
        [candidate_text(words, known) for words, known in pairs],
        candidate_keywords,
        [float(1 / (1 + np.exp(MIDDLE - pull[item]))) for item in asked],
        [teacher.counts(own, similar, words, known) for words, known in pairs],
        [[teacher.shares(own, similar, word) for word in words] for words in candidate_keywords],
    )


def _reworded(shop: Shop, rng: random.Random) -> Shop:
    """The same shop in other words: every attribute value becomes one random word."""
    fields = ("color", "pattern", "object", "style", "material", "occasion")
    values = sorted({getattr(item, field) for item in shop.items for field in fields})
    words = dict(zip(values, rng.sample(CONTENT[:4000], len(values)), strict=True))
    items = [Item(*(words[getattr(item, field)] for field in fields)) for item in shop.items]
    return Shop(items, shop.journeys, shop.pull)


class _Collaborative:
    """What co-occurrence, transitions, similar users and a sequential model would say in this shop.

    Counts are made of all users' items but the last, which is what the lessons ask about.
    """

    def __init__(self, shop: Shop, dim: int = 24):
        size, self.items, self._contents = len(shop.items), shop.items, {}
        self.journeys = [journey[:-1] for journey in shop.journeys]
        self.nexts = [journey[-1] for journey in shop.journeys]
        pairs, follows, self.counts = np.zeros((size, size)), np.zeros((size, size)), np.zeros(size)
        for journey in self.journeys:
            for place, item in enumerate(journey):
                self.counts[item] += 1
                for distance, later in enumerate(journey[place + 1 : place + 6]):
                    pairs[item, later] += 0.8**distance
                    pairs[later, item] += 0.8**distance
                    follows[item, later] += 0.8**distance
        root = np.sqrt(np.maximum(self.counts, 1))
        self.together = pairs / root[:, None] / root[None, :]
        self.follows = follows / np.maximum(follows.sum(1, keepdims=True), 1)
        left, values, _ = np.linalg.svd(self.together + np.diag(np.ones(size) * 0.5))
        self.vectors = left[:, :dim] * values[:dim]
        self.percentile = np.searchsorted(np.sort(self.counts), self.counts) / size
        self.states = np.stack([self._state(journey) for journey in self.journeys])

    def similar_next(self, user: int, history: list[int], k: int = 50) -> list[int]:
        """What the most similar other users took next, nearest first."""
        similarity = self.states @ self._state(history)
        similarity[user] = -np.inf
        nearest = np.argsort(-similarity, kind="stable")[:k]
        return [self.nexts[neighbor] for neighbor in nearest]

    def pool(self, scores: np.ndarray, nearest: list[int]) -> list[int]:
        """Candidates that look likely, best first."""
        votes = np.bincount(nearest, minlength=len(self.counts)) if nearest else 0
        return list(np.argsort(-(scores + 0.3 * votes), kind="stable")[:60])

    def content(self, images: bool, texts: bool, history: list[int], nearest: list[int]) -> np.ndarray:
        """Cosines [2, items] of the shown keywords with the history's and with what similar users took next."""
        if (images, texts) not in self._contents:
            ids = pa.array([str(number) for number in range(len(self.items))])
            words = [item.image_keywords * images + item.text_keywords * texts for item in self.items]
            self._contents[images, texts] = Content(ids, pa.table({"item_id": ids, "keywords": words}))
        weights = np.zeros((2, len(self.items)))
        for age, item in enumerate(history[: -LATEST_ITEMS - 1 : -1]):
            weights[0, item] += AGE_DECAY**age
        np.add.at(weights[1], nearest[:COUNTED_NEIGHBORS], 1.0)
        return self._contents[images, texts].similarities(sparse.csr_array(weights)).toarray()

    def levels(self, history: list[int], nearest: list[int], scores: np.ndarray, item: int, alike: np.ndarray) -> str:
        latest = history[: -LATEST_ITEMS - 1 : -1]
        weights = AGE_DECAY ** np.arange(len(latest))
        pieces = Pieces(
            cooccurrence=float(weights @ self.together[latest, item]),
            transition=float(weights @ self.follows[latest, item]),
            similar_users=nearest[:COUNTED_NEIGHBORS].count(item),
            content=float(alike[0, item]),
            similar_content=float(alike[1, item]),
            sasrec_rank=None if self.counts[item] == 0 else 1 + int((scores > scores[item]).sum()),
            popularity_percentile=float(self.percentile[item]),
        )
        return levels(pieces)

    def _state(self, history: list[int]) -> np.ndarray:
        weights = 0.7 ** np.arange(len(history))[::-1]
        state = weights @ self.vectors[history] if history else np.zeros(self.vectors.shape[1])
        return state / max(float(np.linalg.norm(state)), 1e-9)

    def scores(self, history: list[int]) -> np.ndarray:
        scores = self.vectors @ self._state(history) + self.follows[history[-1]] + 0.01 * self.percentile
        scores[history] = -np.inf
        return scores
