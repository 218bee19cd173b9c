"""Baselines that learn from training interactions or texts what goes with what, and are tuned on validation questions.

Each is a function: Training, a parameter -> weights of histories [users, items] -> scores [users, items]. The weights
sum to 1 per user; `decay` is that of an item against the one after it. Matrices are over the items of the test set:
what cannot be recommended is not in them. Nothing here has seen a held-out item.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from mmsrarec.collaborative import ease as linear
from mmsrarec.collaborative import embed
from mmsrarec.collaborative.content import Content
from mmsrarec.collaborative.pieces import counting
from mmsrarec.config import Config
from mmsrarec.errors import InputError
from mmsrarec.evaluation.outcome import Scorer
from mmsrarec.storage import tables

TIE_BREAK = 1e-7  # of popularity, below what tells two similarities apart
Learned = Callable[[sparse.csr_array], np.ndarray]


@dataclass(frozen=True)
class Training:
    """What a lake's methods may learn from: sequences over `items`, and the microseconds of each of their codes."""

    config: Config
    items: pa.Array
    sequences: embed.Sequences
    times: np.ndarray

    @cached_property
    def popularity(self) -> np.ndarray:
        return np.bincount(self.sequences.codes, minlength=len(self.items)).astype(float)

    @cached_property
    def matrix(self) -> sparse.csr_array:
        """Who took what, 1 or 0, float32 [users, items], of each user the latest build_cf.max_history."""
        latest = counting.latest(self.sequences, self.config.build_cf.max_history)
        return counting.taken(latest, len(self.items))

    @cached_property
    def together(self) -> sparse.csr_array:
        """Users who took both, [items, items]."""
        return (self.matrix.T @ self.matrix).tocsr()


def training(config: Config, items: list[str]) -> Training:
    """The training part of the lake's histories."""
    columns = ["user_id", "item_ids", "timestamps", "split", "held_out"]
    histories = tables.read(config.lake.root, "histories", columns).sort_by("user_id").combine_chunks()
    part = embed.training_part(histories)
    vocabulary = pa.array(items, pa.string())
    flat = part["item_ids"].combine_chunks().flatten()
    known = embed.encode(part["item_ids"], vocabulary)
    moments = part["timestamps"].combine_chunks().flatten().to_numpy()
    if len(moments) != len(flat):
        raise InputError(f"{config.table('histories')}: item_ids and timestamps differ in length; run build_cf again")
    inside = pc.is_in(flat, value_set=vocabulary).to_numpy(zero_copy_only=False)
    return Training(config, vocabulary, known, moments[inside])


def popularity(data: Training, _: float) -> Learned:
    """Training interactions, the same for every user."""
    return lambda histories: np.broadcast_to(data.popularity, histories.shape)


def recent_popularity(data: Training, share: float) -> Learned:
    """The same of the latest `share` of the interactions; equal counts by all of them."""
    since = np.quantile(data.times, 1 - share) if len(data.times) else 0
    recent = np.bincount(data.sequences.codes[data.times >= since], minlength=len(data.items))
    counts = recent + TIE_BREAK * data.popularity
    return lambda histories: np.broadcast_to(counts, histories.shape)


def item_knn(data: Training, shrinkage: float) -> Learned:
    """Cosine of the columns of who took what, shrunk: together / (sqrt(n_i n_j) + shrinkage)."""
    pairs = data.together.tocoo()
    counts = np.maximum(data.popularity, 1)
    apart = pairs.row != pairs.col
    row, column = pairs.row[apart], pairs.col[apart]
    cosine = pairs.data[apart] / (np.sqrt(counts[row] * counts[column]) + shrinkage)
    similar = sparse.csr_array((cosine.astype(np.float32), (row, column)), shape=data.together.shape)
    least = TIE_BREAK * data.popularity / max(data.popularity.max(initial=0), 1)
    return lambda histories: (histories @ similar).toarray() + least


def ease(data: Training, penalty: float) -> Learned:
    """A dense matrix of items x items, so only up to retrieve.fusion.ease_items."""
    learned = linear.weights(data.together, penalty)
    return lambda histories: histories @ learned


def tfidf(data: Training, _: float) -> Learned:
    """Cosine of an item's words with those of the history, TF-IDF over the catalog's texts."""
    catalog = tables.read(data.config.lake.root, "catalog", ["item_id", "text"])
    words = [re.findall(r"\w+", (text or "").lower()) for text in catalog["text"].to_pylist()]
    content = Content(data.items, pa.table({"item_id": catalog["item_id"], "keywords": words}))
    return lambda histories: content.similarities(histories).toarray()


def scorer(learned: Learned, data: Training, decay: float) -> Scorer:
    """As a method that scores users [user_id, item_ids]."""

    def score(users: pa.Table) -> np.ndarray:
        return learned(weights(embed.encode(users["item_ids"], data.items), len(data.items), decay))

    return score


def weights(histories: embed.Sequences, items: int, decay: float) -> sparse.csr_array:
    """Weights [users, items] of the items of the histories, float32, that sum to 1 per user."""
    raw = decay**histories.ages
    totals = np.bincount(histories.rows, raw, minlength=len(histories))
    shares = (raw / totals[histories.rows]).astype(np.float32)
    return sparse.csr_array((shares, (histories.rows, histories.codes)), shape=(len(histories), items))
