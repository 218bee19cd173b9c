"""What MMSRARec has to beat. A baseline is a function: users [user_id, item_ids] -> scores of the whole catalog.

It gets the same histories and the same items to rank as MMSRARec and has learned from the same training interactions.
Scores are float [users, items], higher is better; -inf is an item the baseline knows nothing of. Nothing is trained
here: counts come from the tables of build_cf, SASRec's logits from `collaborative.retrieve`.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import csr_array

from mmsrarec.collaborative.retrieve import Retriever
from mmsrarec.config import Config
from mmsrarec.evaluation.protocol import Scorer
from mmsrarec.storage import tables

RECENT = 5  # history items whose neighbors count
RECENCY_DECAY = 0.8  # weight of an item by its age in the history, as in the evidence
TIE_BREAK = 1e-9  # of popularity, below any difference between two sums of co-occurrence scores


def popularity(config: Config, items: list[str]) -> Scorer:
    """Training interactions of an item, the same for every user."""
    counts = _interactions(config, items)
    return lambda users: np.broadcast_to(counts, (len(users), len(items)))


def cooccurrence(config: Config, items: list[str]) -> Scorer:
    """Co-occurrence scores summed over the latest items of the history; more popular first where they are equal."""
    neighbors, sources = _neighbors(config, items)
    counts = _interactions(config, items)
    tie_break = TIE_BREAK * counts / max(counts.max(), 1.0)
    return lambda users: (_recent(users, sources) @ neighbors).toarray() + tie_break


def sasrec(retriever: Retriever, items: list[str]) -> Scorer:
    """SASRec's logits over its vocabulary."""
    ours = _positions(pa.array(retriever.vocabulary, pa.string()), items)
    known = np.flatnonzero(ours >= 0)

    def score(users: pa.Table) -> np.ndarray:
        scores = np.full((len(users), len(items)), -np.inf)
        scores[:, ours[known]] = retriever.scores(users)[:, known]
        return scores

    return score


def _interactions(config: Config, items: list[str]) -> np.ndarray:
    catalog = tables.read(config.lake.root, "catalog", ["item_id", "interactions"])
    counts = catalog["interactions"].take(pc.index_in(pa.array(items), catalog["item_id"].combine_chunks()))
    return pc.fill_null(counts, 0).to_numpy().astype(float)


def _neighbors(config: Config, items: list[str]) -> tuple[csr_array, dict[str, int]]:
    """Scores [source items, items] and the row of each source item (which may be one that is no longer available)."""
    rows = tables.read(config.lake.root, "item_cooccurrence", ["item_id", "neighbor_id", "score"])
    sources = rows["item_id"].unique().to_pylist()
    row, column = _positions(rows["item_id"], sources), _positions(rows["neighbor_id"], items)
    kept = column >= 0
    scores = csr_array((rows["score"].to_numpy()[kept], (row[kept], column[kept])), (len(sources), len(items)))
    return scores, {item: row for row, item in enumerate(sources)}


def _recent(users: pa.Table, sources: dict[str, int]) -> csr_array:
    """Weight of each of the latest history items, [users, source items]."""
    weighted = [
        (RECENCY_DECAY**age, row, sources[item])
        for row, history in enumerate(users["item_ids"].to_pylist())
        for age, item in enumerate(reversed(history[-RECENT:]))
        if item in sources
    ]
    values, row, column = np.array(weighted, float).reshape(-1, 3).T
    return csr_array((values, (row.astype(int), column.astype(int))), (len(users), len(sources)))


def _positions(ids: pa.Array | pa.ChunkedArray, among: list[str]) -> np.ndarray:
    """Where each id stands in `among`, -1 where it does not."""
    return pc.fill_null(pc.index_in(ids, pa.array(among, pa.string())), -1).to_numpy().astype(int)
