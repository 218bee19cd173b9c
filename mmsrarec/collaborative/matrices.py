"""Sparse users x items and items x items matrices over codes: how histories and tables of pairs become scores."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from mmsrarec.collaborative.candidates import top
from mmsrarec.collaborative.embed import Sequences
from mmsrarec.schemas import TABLES

LATEST_ITEMS = 5  # of a history, that item-item and content evidence is summed over
AGE_DECAY = 0.8  # the weight of the item before the one of weight 1


def codes(names: pa.ChunkedArray | pa.Array, vocabulary: pa.Array) -> np.ndarray:
    """Place of each name in the vocabulary, -1 where it is not there."""
    return pc.fill_null(pc.index_in(names, value_set=vocabulary), -1).to_numpy(zero_copy_only=False).astype(np.int64)


def latest(histories: Sequences, items: int) -> sparse.csr_array:
    """Weights [users, items] of the latest items; one that was taken twice counts twice."""
    age = histories.ages
    kept = age < LATEST_ITEMS
    weights = (AGE_DECAY ** age[kept], (histories.rows[kept], histories.codes[kept]))
    return sparse.csr_array(weights, shape=(len(histories), items))


def pairs(rows: np.ndarray, columns: np.ndarray, values: np.ndarray, shape: tuple[int, int]) -> sparse.csr_array:
    """The values at (row, column), summed; a pair with a code of -1 is left out."""
    kept = (rows >= 0) & (columns >= 0)
    return sparse.csr_array((values[kept], (rows[kept], columns[kept])), shape=shape)


def scored(table: pa.Table, items: pa.Array) -> sparse.csr_array:
    """Scores [item, other item] of a table of these and the score; items that left the catalog are left out."""
    one, other, scores = table.columns
    return pairs(codes(one, items), codes(other, items), scores.to_numpy(), (len(items), len(items)))


def best(scores: sparse.csr_array, row: int, free: np.ndarray, count: int) -> np.ndarray:
    """The `count` columns of a row with the highest scores above 0, among those that are free."""
    part = slice(scores.indptr[row], scores.indptr[row + 1])
    columns, values = scores.indices[part], scores.data[part]
    kept = free[columns] & (values > 0)
    return top(columns[kept], values[kept], count)


def cells(matrix: sparse.csr_array, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """matrix[rows, columns], one value per pair."""
    return np.asarray(matrix[rows, columns]).ravel() if len(rows) else np.zeros(0)


def ranks(logits: np.ndarray, seen: Sequences, rows: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Rank from 1 of each (row, code) among what the row has not seen; 0 for a code of -1. Overwrites the logits."""
    asked = logits[rows, codes]
    logits[seen.rows, seen.codes] = -np.inf
    logits.sort(axis=1)
    found = np.zeros(len(rows), np.int64)
    for place in np.flatnonzero(codes >= 0):
        line = logits[rows[place]]
        found[place] = len(line) - np.searchsorted(line, asked[place], side="right") + 1
    return found


def table(name: str, *columns: object) -> pa.Table:
    """The columns as a table `name` of the schemas."""
    schema = TABLES[name]
    arrays = [
        column.cast(field.type) if isinstance(column, pa.Array | pa.ChunkedArray) else pa.array(column, field.type)
        for column, field in zip(columns, schema, strict=True)
    ]
    return pa.table(arrays, schema=schema)


def lists(values: np.ndarray) -> pa.ListArray:
    """A list per row of values [rows, width], null in it where a value is NaN."""
    count, width = values.shape
    return pa.ListArray.from_arrays(
        np.arange(0, count * width + 1, width, dtype=np.int32), pa.array(values.ravel(), from_pandas=True)
    )
