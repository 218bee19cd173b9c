"""What MMSRARec has to beat, from tables that the night has anyway; those that learn on their own are in item_item.py.
A baseline is a function: users [user_id, item_ids] -> scores of the whole catalog.

It gets the same histories and the same items to rank as MMSRARec and has learned from the same training interactions.
Scores are float [users, items], higher is better; -inf is an item the baseline knows nothing of. Nothing is trained
here: counts come from the tables of build_cf, logits from the checkpoints of train_sasrec.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmsrarec.collaborative import embed, matrices
from mmsrarec.collaborative.checkpoint import Checkpoint
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


def network(trained: Checkpoint, items: list[str]) -> Scorer:
    """Logits of SASRec or GRU4Rec over its vocabulary; 0 for all of it where it knows nothing of the history."""
    columns = matrices.codes(trained.vocabulary, pa.array(items))
    known = np.flatnonzero(columns >= 0)
    vectors = trained.model.item_vectors.detach().numpy()[known]

    def score(users: pa.Table) -> np.ndarray:
        scores = np.full((len(users), len(items)), -np.inf)
        states = embed.states(trained.model, embed.encode(users["item_ids"], trained.vocabulary))
        scores[:, columns[known]] = states @ vectors.T
        return scores

    return score


def interactions(config: Config, items: list[str]) -> np.ndarray:
    """Training interactions of the items."""
    catalog = tables.read(config.lake.root, "catalog", ["item_id", "interactions"])
    places = pc.index_in(pa.array(items), value_set=catalog["item_id"])
    return pc.fill_null(catalog["interactions"].take(places), 0).to_numpy().astype(float)
