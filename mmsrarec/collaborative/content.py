"""Items near each other by their keywords: TF-IDF over keywords and their words, cosine. Pure; reads no table."""

import numpy as np
import pyarrow as pa
from scipy import sparse


class Content:
    """TF-IDF rows of the items in the order of `item_ids`; an item without keywords has a zero row."""

    def __init__(self, item_ids: pa.Array, keywords: pa.Table):
        known = dict(zip(keywords["item_id"].to_pylist(), keywords["keywords"].to_pylist(), strict=True))
        self.rows = weighted([_terms(known.get(item) or []) for item in item_ids.to_pylist()])
        self._columns = self.rows.T.tocsr()

    def similarities(self, histories: sparse.csr_array) -> sparse.csr_array:
        """Cosine [users, items] of each item with the mean of a user's items, weighted by histories [users, items]."""
        return (unit(histories @ self.rows) @ self._columns).tocsr()


def weighted(documents: list[list[str]]) -> sparse.csr_array:
    """TF-IDF rows of length 1 of documents, each a list of different terms; an empty one has a zero row."""
    terms: dict[str, int] = {}
    columns, starts = [], [0]
    for document in documents:
        columns += [terms.setdefault(term, len(terms)) for term in document]
        starts.append(len(columns))
    shape = (len(documents), len(terms))
    counts = sparse.csr_array((np.ones(len(columns), np.float32), columns, starts), shape=shape)
    frequency = np.bincount(np.array(columns, np.int64), minlength=len(terms))
    inverse = np.log((1 + len(documents)) / (1 + frequency)).astype(np.float32) + 1
    return unit(counts.multiply(inverse).tocsr())


def _terms(keywords: list[str]) -> list[str]:
    """Keywords and the words they are made of, each once."""
    return list(dict.fromkeys([*keywords, *(word for keyword in keywords for word in keyword.split())]))


def unit(rows: sparse.csr_array) -> sparse.csr_array:
    """Rows scaled to length 1; zero rows stay zero."""
    norms = np.sqrt(rows.multiply(rows).sum(axis=1))
    inverse = np.divide(1, norms, out=np.zeros_like(norms), where=norms > 0)
    return sparse.diags_array(inverse).tocsr() @ rows
