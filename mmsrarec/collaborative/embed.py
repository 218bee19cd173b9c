"""Histories as sequences of item codes, and the state of each.

Everything about who may see what stands here: `training_part` takes the held-out items out of the histories,
`before_last` splits a history into what came before and what came next. Reads the table `histories`, writes nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from mmsrarec.collaborative.network import PADDING, Network
from mmsrarec.config import Config
from mmsrarec.errors import InputError
from mmsrarec.storage import tables

STATE_BATCH = 512
LISTS = ("item_ids", "timestamps")  # of a history, alike in length and order


@dataclass(frozen=True)
class Sequences:
    """Rows of item codes in time order: row i is codes[offsets[i]:offsets[i + 1]], code 0 is the first item."""

    codes: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> np.ndarray:
        return self.codes[self.offsets[row] : self.offsets[row + 1]]

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)

    @property
    def rows(self) -> np.ndarray:
        """The row of each code."""
        return np.repeat(np.arange(len(self)), self.lengths)

    @property
    def ages(self) -> np.ndarray:
        """How many codes of its row come after each code."""
        return np.repeat(self.offsets[1:], self.lengths) - 1 - np.arange(len(self.codes))


def read_histories(config: Config) -> pa.Table:
    """user_id, item_ids, split and held_out, ascending by user_id; InputError where there are none."""
    table = tables.read(config.lake.root, "histories", ["user_id", "item_ids", "split", "held_out"])
    if table.num_rows == 0:
        raise InputError(f"{config.table('histories')}: no histories; run build_cf first")
    return table.sort_by("user_id").combine_chunks()


def training_part(histories: pa.Table) -> pa.Table:
    """user_id, item_ids and, if there, timestamps of the same rows without the held-out items at their end."""
    unseen = held_out(histories)
    parts = {name: _all_but(histories[name], unseen) for name in LISTS if name in histories.column_names}
    return pa.table({"user_id": histories["user_id"], **parts})


def _all_but(lists: pa.ChunkedArray, last: np.ndarray) -> pa.Array:
    """The lists without their last elements, as many as `last` says of each."""
    flat, offsets = _flat(lists)
    lengths = np.diff(offsets)
    kept = lengths - np.minimum(last, lengths)
    seen = np.arange(len(flat)) - np.repeat(offsets[:-1], lengths) < np.repeat(kept, lengths)
    shorter = pa.array(np.concatenate([[0], np.cumsum(kept)]), pa.int32())
    return pa.ListArray.from_arrays(shorter, flat.filter(pa.array(seen)))


def held_out(histories: pa.Table) -> np.ndarray:
    """How many of the last items of each row are held out; where it is not told, one of whoever does not train."""
    told = histories["held_out"] if "held_out" in histories.column_names else pa.nulls(len(histories), pa.int64())
    others = pc.not_equal(histories["split"], "train").cast(pa.int64())
    return pc.coalesce(told, others).to_numpy(zero_copy_only=False)


def before_last(lists: pa.ChunkedArray, rows: np.ndarray) -> tuple[pa.Array, pa.Array]:
    """The lists without their last element where rows[i] is true, and those last elements, in order of the rows."""
    flat, offsets = _flat(lists)
    rows = rows & (np.diff(offsets) > 0)
    last = offsets[1:][rows] - 1
    keep = np.ones(len(flat), bool)
    keep[last] = False
    shorter = offsets - np.concatenate([[0], np.cumsum(rows)])
    return pa.ListArray.from_arrays(pa.array(shorter, pa.int32()), flat.filter(pa.array(keep))), flat.take(last)


def encode(item_ids: pa.ChunkedArray | pa.Array, vocabulary: pa.Array) -> Sequences:
    """Codes of the items; an item outside the vocabulary is left out of its row."""
    flat, offsets = _flat(item_ids)
    codes = pc.fill_null(pc.index_in(flat, value_set=vocabulary), -1).to_numpy(zero_copy_only=False)
    known = codes >= 0
    counts = np.concatenate([[0], np.cumsum(known)])
    return Sequences(codes[known].astype(np.int32), counts[offsets])


def pad(sequences: Sequences, rows: np.ndarray, max_length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes + 1 [rows, length] of the latest items, padded on the right, and their lengths [rows]."""
    lengths = np.minimum(sequences.lengths[rows], max_length)
    columns = np.arange(max(int(lengths.max(initial=0)), 1))
    filled = columns < lengths[:, None]
    start = sequences.offsets[rows + 1] - lengths
    padded = np.full(filled.shape, PADDING, np.int64)
    padded[filled] = sequences.codes[(start[:, None] + columns)[filled]] + 1
    return torch.from_numpy(padded), torch.from_numpy(lengths)


def states(model: Network, sequences: Sequences, rows: np.ndarray | None = None) -> np.ndarray:
    """States [rows, dim] after the last item, float32; zeros for an empty sequence."""
    rows = np.arange(len(sequences)) if rows is None else rows
    dim, device = model.items.embedding_dim, model.items.weight.device
    result = np.zeros((len(rows), dim), np.float32)
    training = model.training
    model.eval()
    with torch.inference_mode():
        for part in _parts(sequences.lengths[rows]):
            codes, lengths = pad(sequences, rows[part], model.max_length)
            hidden = model(codes.to(device), lengths.to(device)).cpu()
            result[part] = hidden[torch.arange(len(part)), lengths - 1].numpy()
    model.train(training)
    return result


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1; zero rows stay zero."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(norms > 0, norms, 1)


def _parts(lengths: np.ndarray) -> Iterator[np.ndarray]:
    """Positions of the non-empty rows in batches of like length, so little is padded."""
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] > 0]
    for start in range(0, len(order), STATE_BATCH):
        yield order[start : start + STATE_BATCH]


def _flat(lists: pa.ChunkedArray | pa.Array) -> tuple[pa.Array, np.ndarray]:
    """All elements in one array and where each list starts, with the end as one more."""
    if isinstance(lists, pa.ChunkedArray):
        lists = lists.combine_chunks()
    lengths = pc.fill_null(lists.value_lengths(), 0).to_numpy(zero_copy_only=False)
    return lists.flatten(), np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
