"""The similar users of every user: the nearest in the index by the state of a network (retrieve.similar_by)."""

from collections.abc import Iterable
from contextlib import nullcontext

import numpy as np
import pyarrow as pa

from mmsrarec.collaborative import checkpoint, embed, matrices
from mmsrarec.collaborative.checkpoint import Checkpoint
from mmsrarec.collaborative.index import UserIndex
from mmsrarec.config import Config
from mmsrarec.errors import InputError
from mmsrarec.schemas import TABLES


class Neighbors:
    """The network, `main` unless another is named, and the index of its states. InputError where it was not trained.

    Between `open` and `close` the index stays open, otherwise each search opens and closes it.
    """

    def __init__(self, config: Config, main: Checkpoint):
        own = config.similar_network
        self._config, self.trained = config, main if own is config else checkpoint.load(checkpoint.folder(own))
        self.other_hash = "" if own is config else self.trained.model_hash
        self.index_version: str | None = None
        self._index: UserIndex | None = None

    def open(self) -> None:
        if self._config.retrieve.similar_users:
            self._index = self._opened()

    def close(self) -> None:
        if self._index is not None:
            self._index.close()
            self._index = None

    def nearest(self, batches: Iterable[pa.Table]) -> pa.Table:
        """Rows of similar_users for batches of users: of each the first retrieve.neighbors; none where the network
        knows no item. A neighbor that is near at several positions has a row for each."""
        if not self._config.retrieve.similar_users:
            return TABLES["similar_users"].empty_table()
        rows: list[tuple] = []
        with nullcontext(self._index) if self._index else self._opened() as index:
            for part in batches:
                rows += self._of(part, index)
        empty = TABLES["similar_users"].empty_table()
        return matrices.table("similar_users", *zip(*rows, strict=True)) if rows else empty

    def _of(self, users: pa.Table, index: UserIndex) -> list[tuple]:
        """A user's own positions may be among what the index finds: so many more are asked for."""
        count, own = self._config.retrieve.neighbors, self._config.index.positions
        sequences = embed.encode(users["item_ids"], self.trained.vocabulary)
        known = np.flatnonzero(sequences.lengths > 0)
        queries = embed.unit(embed.states(self.trained.model, sequences, known))
        rows: list[tuple] = []
        for user, near in zip(
            users["user_id"].take(known).to_pylist(), index.search(queries, count + own), strict=True
        ):
            others = [neighbor for neighbor in near if neighbor.user_id != user][:count]
            rows += [(user, rank, *neighbor) for rank, neighbor in enumerate(others, 1)]
        return rows

    def _opened(self) -> UserIndex:
        index = UserIndex(self._config)
        try:
            index.require(self.trained.model_hash)
        except InputError:
            index.close()
            raise
        self.index_version = index.version
        return index
