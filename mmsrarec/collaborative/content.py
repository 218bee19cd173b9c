"""Items near each other by their keywords: TF-IDF over keywords and their words, cosine. Pure; reads no table."""

import numpy as np
import pyarrow as pa
from scipy import sparse


class Content:
    """TF-IDF rows of the items in the order of `item_ids`; an item without keywords has a zero row."""

    def __init__(self, item_ids: pa.Array, keywords: pa.Table):
        known = dict(zip(keywords["item_id"].to_pylist(), keywords["keywords"].to_pylist(), strict=True))
        terms: dict[str, int] = {}
        columns, starts = [], [0]
        for item in item_ids.to_pylist():
            columns += [terms.setdefault(term, len(terms)) for term in _terms(known.get(item) or [])]
            starts.append(len(columns))
        shape = (len(item_ids), len(terms))
        counts = sparse.csr_array((np.ones(len(columns), np.float32), columns, starts), shape=shape)
        frequency = np.bincount(np.array(columns, np.int64), minlength=len(terms))
        inverse = np.log((1 + len(item_ids)) / (1 + frequency)).astype(np.float32) + 1
        self._rows = _unit(counts.multiply(inverse).tocsr())
        self._columns = self._rows.T.tocsr()

    def similarities(self, histories: sparse.csr_array) -> sparse.csr_array:
        """Cosine [users, items] of each item with the mean of a user's items, weighted by histories [users, items]."""
        return (_unit(histories @ self._rows) @ self._columns).tocsr()


def _terms(keywords: list[str]) -> list[str]:
    """Keywords and the words they are made of, each once."""
    return list(dict.fromkeys([*keywords, *(word for keyword in keywords for word in keyword.split())]))


def _unit(rows: sparse.csr_array) -> sparse.csr_array:
    norms = np.sqrt(rows.multiply(rows).sum(axis=1))
    inverse = np.divide(1, norms, out=np.zeros_like(norms), where=norms > 0)
    return sparse.diags_array(inverse).tocsr() @ rows
