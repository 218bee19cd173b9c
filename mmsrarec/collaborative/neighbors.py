"""The similar users of every user: the nearest in the index by SASRec's state."""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from mmsrarec.collaborative import embed, matrices
from mmsrarec.collaborative.index import UserIndex
from mmsrarec.collaborative.sasrec import SasRec
from mmsrarec.schemas import TABLES


def nearest(
    batches: Iterable[pa.Table], model: SasRec, vocabulary: pa.Array, index: UserIndex, sizes: tuple[int, int]
) -> pa.Table:
    """Rows of similar_users for batches of users: of each the first `count` of sizes = (count, own positions in the
    index, which may be among what it finds); none where SASRec knows no item."""
    count, own = sizes
    rows: list[tuple] = []
    for part in batches:
        sequences = embed.encode(part["item_ids"], vocabulary)
        known = np.flatnonzero(sequences.lengths > 0)
        queries = embed.unit(embed.states(model, sequences, known))
        names = part["user_id"].take(known).to_pylist()
        for user, near in zip(names, index.search(queries, count + own), strict=True):
            others = [neighbor for neighbor in near if neighbor.user_id != user][:count]
            rows += [(user, rank, *neighbor) for rank, neighbor in enumerate(others, 1)]
    empty = TABLES["similar_users"].empty_table()
    return matrices.table("similar_users", *zip(*rows, strict=True)) if rows else empty
