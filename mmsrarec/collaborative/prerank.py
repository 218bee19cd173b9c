"""The pre-ranker: wide pools from many sources, cut by the fusion of all evidence (`retrieve.fusion`)."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from mmsrarec.collaborative import ease, embed, fusion, meaning
from mmsrarec.collaborative.candidates import filled
from mmsrarec.collaborative.pieces import content, counting, table
from mmsrarec.collaborative.pieces.asked import Asked
from mmsrarec.collaborative.pieces.context import Context
from mmsrarec.collaborative.pieces.pool import Batch, about, ask
from mmsrarec.collaborative.pieces.related import related
from mmsrarec.config import Config, Fusion
from mmsrarec.errors import InputError
from mmsrarec.storage import tables

WORDS = (
    "sasrec",
    "sasrec_gap",
    "follows",
    "together",
    "linear",
    "text_mean",
    "meaning_best",
    "recency",
    "popularity",
)


@dataclass(frozen=True)
class Ranked:
    """A user's best of the pool, in order: code -> source and code -> score of the fusion."""

    sources: dict[int, str]
    priors: dict[int, float]

    def filled(self, filler: Iterable[int], count: int) -> list[tuple[int, str]]:
        return filled(self.sources, filler, count)


@dataclass(frozen=True)
class Known:
    """What a Retriever has read: items of the catalog in order, which may be named, co-occurrence, transitions, rows of
    the keywords, and the item vectors [items, dim] of the networks (zero where one does not know the item)."""

    items: pa.Array
    free: np.ndarray
    together: sparse.csr_array
    follows: sparse.csr_array
    keywords: sparse.csr_array
    networks: Mapping[str, np.ndarray]


class Preranker:
    """Pools, their evidence and their order, for batches of users."""

    def __init__(self, config: Config, known: Known, fused_by: str = fusion.SERVING):
        self._config, self._known, self._settings, self._fused_by = config, known, config.retrieve.fusion, fused_by

    @cached_property
    def context(self) -> Context:
        return context(self._config, self._known)

    @cached_property
    def fusion(self) -> fusion.Fusion:
        """What train_fusion has learned; InputError where it has not run."""
        return fusion.load(fusion.place(self._config, self._fused_by), self.pieces)

    @property
    def pieces(self) -> tuple[str, ...]:
        """The names of the evidence, in its order."""
        return tuple(table.pieces(list(self._known.networks)[1:]))

    def pools(self, batch: Batch) -> tuple[Asked, np.ndarray]:
        """The pools of a batch, and which source named each item first (see `ask`)."""
        return ask(self.context, batch, self._known.free, sizes(self._settings))

    def values(self, asked: Asked) -> np.ndarray:
        """The evidence [users, width, pieces]."""
        return table.values(self.context, asked)

    def best(self, batch: Batch, count: int) -> Iterator[Ranked]:
        """Per user the `count` items that the fusion puts first; equal scores in the order of the items."""
        asked, source = self.pools(batch)
        scores = self.fusion.score(self.values(asked)).astype(float)
        names = list(sizes(self._settings))
        for codes, score, named in zip(asked.pool, scores, source, strict=True):
            order = np.lexsort((codes, -score))[:count]
            order = order[np.isfinite(score[order])]
            best = codes[order].tolist()
            sources = {code: names[number] for code, number in zip(best, named[order], strict=True)}
            yield Ranked(sources, dict(zip(best, score[order].tolist(), strict=True)))

    def pairs(self, batches: Iterable[Batch], users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """The evidence [pairs, pieces] of pairs (row among all users of the batches, item code)."""
        found, start = np.empty((len(users), len(self.pieces)), np.float32), 0
        for batch in batches:
            end = start + len(batch.histories)
            chosen = np.flatnonzero((users >= start) & (users < end))
            asked, places = about(self.context, batch, users[chosen] - start, items[chosen])
            found[chosen] = self.values(asked)[users[chosen] - start, places]
            start = end
        return found

    def priors(self, batches: Iterable[Batch], users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """The fusion's scores [pairs] of pairs (row among all users of the batches, item code): of what a pool has as
        `best` has it, of others as if the pool had them, too."""
        found, start = np.empty(len(users)), 0
        for batch in batches:
            end = start + len(batch.histories)
            chosen = np.flatnonzero((users >= start) & (users < end))
            rows, wanted = users[chosen] - start, items[chosen]
            asked, _ = self.pools(batch)
            scores = self.fusion.score(self.values(asked))
            inside = asked.pool[rows] == wanted[:, None]
            own = np.where(inside.any(axis=1), scores[rows, inside.argmax(axis=1)], np.nan)
            if (missing := np.isnan(own)).any():
                more, places = about(self.context, batch, rows[missing], wanted[missing])
                wide = replace(asked, pool=np.concatenate([asked.pool, more.pool], axis=1))
                own[missing] = self.fusion.score(self.values(wide))[rows[missing], asked.pool.shape[1] + places]
            found[chosen] = own
            start = end
        return found

    def words(self, values: np.ndarray, before: list[str]) -> list[str]:
        """For each row of `pairs` the words `before` and the levels of WORDS, such as `follows 3`."""
        levels = self.fusion.levels(values)[:, [self.pieces.index(name) for name in WORDS]]
        return [f"{words}, {_said(row)}" for words, row in zip(before, levels.tolist(), strict=True)]


def _said(levels: list[int]) -> str:
    return ", ".join(
        f"{name.replace('_', ' ')} {level if level >= 0 else 'unknown'}"
        for name, level in zip(WORDS, levels, strict=True)
    )


def sizes(settings: Fusion) -> dict[str, int]:
    """How many items each source may name."""
    named = type(settings).model_fields
    return {name.removeprefix("from_"): getattr(settings, name) for name in named if name.startswith("from_")}


def context(config: Config, known: Known) -> Context:
    """From the tables and the training part of the histories: held-out items are in nothing of it."""
    root, count = config.lake.root, len(known.items)
    columns = ["user_id", "item_ids", "timestamps", "split", "held_out"]
    histories = tables.read(root, "histories", columns).sort_by("user_id").combine_chunks()
    part = embed.training_part(histories)
    training = embed.encode(part["item_ids"], known.items)
    if len(training.codes) != pc.sum(pc.list_value_length(part["item_ids"])).as_py():
        raise InputError(f"{config.table('histories')}: has items that the catalog has not; run build_cf again")
    times = _times(histories, part)
    catalog = tables.read(root, "catalog", ["item_id", "text", "interactions"]).sort_by("item_id")
    popularity = pc.fill_null(catalog["interactions"], 0).to_numpy().astype(float)
    not_seen(config, training, popularity)
    text = content.text_rows(catalog["text"].to_pylist())
    settings = config.retrieve.fusion
    fits = count <= settings.ease_items
    return Context(
        popularity=popularity,
        recent=counting.recent(training, times, count),
        clock=counting.clock(training, times, count),
        together=known.together,
        follows=known.follows,
        linear=ease.weights(counting.gram(training, count), settings.ease_penalty) if fits else None,
        text=text,
        meaning=meaning.vectors(config, catalog, text),
        keywords=known.keywords,
        related=related(training, known.follows, config.build_cf.max_history, config.build_cf.top_n),
        networks=known.networks,
    )


def not_seen(config: Config, training: embed.Sequences, popularity: np.ndarray) -> None:
    """InputError where the counts are not those of the training part: they may have seen what is held out."""
    if not np.array_equal(np.bincount(training.codes, minlength=len(popularity)), popularity):
        raise InputError(
            f"{config.table('catalog')}: its counts are not those of the training part of the histories, so that what "
            "is held out may be in them; run build_cf again"
        )


def _times(histories: pa.Table, training: pa.Table) -> np.ndarray | None:
    """Microseconds, one per item of the training part; None where the histories have none."""
    lengths = [pc.sum(pc.list_value_length(histories[name])).as_py() for name in embed.LISTS]
    if lengths[0] != lengths[1]:
        return None
    return training["timestamps"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
