"""What stands in for what is not known before a stage has run: keywords of items, and what retrieve would name.

All is drawn from the lake's own items with a fixed seed, so a prompt made of it has the right length, and nearly never
the words of one that was answered before.
"""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmsrarec.collaborative.evidence import Pieces, levels
from mmsrarec.config import Config
from mmsrarec.engines.price import Past
from mmsrarec.engines.template import Template
from mmsrarec.engines.untrusted import clean_text
from mmsrarec.keywords.prompt import parse_keywords
from mmsrarec.storage import tables

POOL = 1024  # answers to draw from
PIECES = 64  # different pieces of evidence to draw from


def keywords(config: Config, template: Template, changed: Mapping[str, int], past: Past, piloted: pa.Table) -> pa.Table:
    """item_id and keywords as summarize_items will leave them. `changed` items, with the number of their questions,
    get those of others, the `piloted` among them, or, before there are any, words of the catalog, as many as fit
    answers of past.answer_tokens."""
    known = tables.read(config.lake.root, "item_keywords", ["item_id", "keywords"]).sort_by("item_id")
    if not changed:
        return known
    random = np.random.default_rng(config.run.seed)
    others = pa.concat_tables([known, piloted])["keywords"]
    if len(others):
        numbers = random.integers(len(others), size=(2, len(changed)))
        drawn = [_mixed(*pair) for pair in zip(*(others.take(of).to_pylist() for of in numbers), strict=True)]
    else:
        pool = _answers(config, template, past.answer_tokens, random)
        picked = ((pool[number] for number in random.integers(POOL, size=count)) for count in changed.values())
        drawn = [list(dict.fromkeys(word for answer in answers for word in answer)) for answers in picked]
    stay = known.filter(pc.invert(pc.is_in(known["item_id"], pa.array(list(changed), pa.string()))))
    return pa.concat_tables([stay, pa.table([list(changed), drawn], schema=known.schema)])


def _mixed(first: list[str], second: list[str]) -> list[str]:
    """Half of each, so that the item shows neither's words, which a pair may have been asked about before."""
    return list(dict.fromkeys(first[: len(first) // 2] + second[len(second) // 2 :]))


def _answers(config: Config, template: Template, answer_tokens: float, random: np.random.Generator) -> list[list[str]]:
    """POOL lists of keywords such as an answer could give."""
    words = _words(config, template)
    costs = [len(template.token_ids(f", {word}")) for word in words]
    limit = config.summarize_items.max_keywords
    return [parse_keywords(_answer(words, costs, answer_tokens, random), limit) for _ in range(POOL)]


def _answer(words: list[str], costs: list[int], answer_tokens: float, random: np.random.Generator) -> str:
    """Words with commas between them and the token that ends the answer; there is no comma before the first."""
    chosen: list[str] = []
    left = answer_tokens
    for number in random.permutation(len(words)):
        if chosen and left < costs[number] / 2:
            break
        chosen.append(words[number])
        left -= costs[number]
    return ", ".join(chosen)


def _words(config: Config, template: Template) -> list[str]:
    """Different words of the first texts of the catalog."""
    texts = next(tables.stream(config.lake.root, "catalog", ["text"]), None)
    found: dict[str, None] = {}
    for text in texts["text"].to_pylist() if texts else ():
        cleaned = clean_text(text, template.special_tokens, config.summarize_items.max_text_chars)
        found |= dict.fromkeys(word for word in cleaned.split() if word.isalpha() and len(word) > 2)
    return sorted(found)[:: max(1, len(found) // POOL)] or ["keyword"]


class Drawn:
    """Answers the questions of collaborative.retrieve.Retriever by chance, where there is no SASRec or index yet."""

    def __init__(self, config: Config):
        catalog = tables.read(config.lake.root, "catalog", ["item_id", "available"]).sort_by("item_id")
        self._items = catalog["item_id"].combine_chunks()
        self._open = pc.indices_nonzero(pc.fill_null(catalog["available"], True)).to_numpy()
        self._settings, self._top_k = config.retrieve, config.recommend.top_k
        self._random = np.random.default_rng(config.run.seed)
        self._levels = [self._words() for _ in range(PIECES)]

    def similar_users(self, users: pa.Table) -> pa.Table:
        rows = [
            {"user_id": user, "rank": rank, "next_item_id": item}
            for user in users["user_id"].to_pylist()
            for rank, item in enumerate(self._draw(self._settings.similar_users, set()), 1)
        ]
        return tables.from_rows("similar_users", rows)

    def candidates(self, users: pa.Table, similar: pa.Table) -> pa.Table:
        wanted = max(self._settings.candidates, self._top_k)
        rows = [
            {"user_id": user["user_id"], "item_id": item, "rank": rank}
            for user in users.select(["user_id", "item_ids"]).to_pylist()
            for rank, item in enumerate(self._draw(wanted, set(user["item_ids"])), 1)
        ]
        return tables.from_rows("candidates", rows)

    def evidence(self, users: pa.Table, pairs: pa.Table, similar: pa.Table) -> pa.Table:
        drawn = self._random.integers(PIECES, size=pairs.num_rows)
        asked = zip(pairs["user_id"].to_pylist(), pairs["item_id"].to_pylist(), drawn, strict=True)
        rows = [{"user_id": user, "item_id": item, "levels": self._levels[n]} for user, item, n in asked]
        return tables.from_rows("evidence", rows)

    def _draw(self, count: int, barred: set[str]) -> list[str]:
        """`count` different available items that are not barred, or all there are."""
        size = min(count + len(barred), len(self._open))
        codes = self._open[self._random.choice(len(self._open), size, replace=False)]
        return [item for item in self._items.take(pa.array(codes)).to_pylist() if item not in barred][:count]

    def _words(self) -> str:
        together, follows, content, others, popular = self._random.random(5).tolist()
        votes, rank = int(self._random.integers(3)), int(self._random.integers(1, 150))
        return levels(Pieces(together / 5, follows / 8, votes, content, others, rank, popular))
