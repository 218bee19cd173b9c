"""What MMSRARec has to beat, from tables that the night has anyway; those that learn on their own are in item_item.py.
A baseline is a function: users [user_id, item_ids] -> scores of the whole catalog.

It gets the same histories and the same items to rank as MMSRARec and has learned from the same training interactions.
Scores are float [users, items], higher is better; -inf is an item the baseline knows nothing of. Nothing is trained
here: counts come from the tables of build_cf, SASRec's logits from `collaborative.retrieve`.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmsrarec.collaborative import embed, matrices
from mmsrarec.collaborative.retrieve import Retriever
from mmsrarec.config import Config
from mmsrarec.evaluation.outcome import Scorer
from mmsrarec.storage import tables

TIE_BREAK = 1e-9  # of popularity, below any difference between two sums of co-occurrence scores


def cooccurrence(config: Config, items: list[str]) -> Scorer:
    """Co-occurrence summed over the latest items of the history, as in the evidence; equal sums by popularity."""
    rows = tables.read(config.lake.root, "item_cooccurrence", ["item_id", "neighbor_id", "score"])
    sources = rows["item_id"].unique()
    places = (matrices.codes(rows["item_id"], sources), matrices.codes(rows["neighbor_id"], pa.array(items)))
    neighbors = matrices.pairs(*places, rows["score"].to_numpy(), (len(sources), len(items)))
    counts = interactions(config, items)
    tie_break = TIE_BREAK * counts / max(counts.max(), 1.0)

    def score(users: pa.Table) -> np.ndarray:
        latest = matrices.latest(embed.encode(users["item_ids"], sources), len(sources))
        return (latest @ neighbors).toarray() + tie_break

    return score


def sasrec(retriever: Retriever, items: list[str]) -> Scorer:
    """SASRec's logits over its vocabulary."""
    ours = matrices.codes(pa.array(retriever.vocabulary), pa.array(items))
    known = np.flatnonzero(ours >= 0)

    def score(users: pa.Table) -> np.ndarray:
        scores = np.full((len(users), len(items)), -np.inf)
        scores[:, ours[known]] = retriever.scores(users)[:, known]
        return scores

    return score


def interactions(config: Config, items: list[str]) -> np.ndarray:
    """Training interactions of the items."""
    catalog = tables.read(config.lake.root, "catalog", ["item_id", "interactions"])
    places = pc.index_in(pa.array(items), value_set=catalog["item_id"])
    return pc.fill_null(catalog["interactions"].take(places), 0).to_numpy().astype(float)
