"""Fixed text vectors of the items, for a sequence model with sasrec.text: TF-IDF reduced by a truncated SVD (latent
semantic analysis), which needs no model; or those of any sentence encoder, given as a table (sasrec.text_vectors).

TF-IDF counts words, and three letters in a row within a word, so that endings, compounds and languages without spaces
are near each other, too. Deterministic: the chance in the SVD is stated, and signs are settled.
"""

import hashlib
import re
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from mmsrarec.config import Config
from mmsrarec.errors import InputError
from mmsrarec.storage import delta, tables

MAX_CHARS = 1000  # of an item's text
WORD = re.compile(r"\w+")
COLUMNS = ("item_id", "vector")
SPARE, POWERS = 10, 6  # of the randomized SVD (Halko, Martinsson, Tropp 2011): directions too many, and iterations


@dataclass(frozen=True)
class ItemText:
    """Of each item of a vocabulary its text and, where they were given, its vector (zeros where it has none)."""

    texts: list[str]
    given: np.ndarray | None

    @property
    def digest(self) -> str:
        """Changes with anything that the vectors are made from."""
        source = "\0".join(self.texts).encode() if self.given is None else self.given.tobytes()
        return hashlib.sha256(source).hexdigest()[:16]

    def vectors(self, width: int) -> np.ndarray:
        """float32 [items, width or less], rows of length 1 or 0; those that were given keep their width."""
        return _unit(self.given) if self.given is not None else latent(self.texts, width)


def read(config: Config, vocabulary: pa.Array) -> ItemText | None:
    """None where sasrec.text is off."""
    if not config.sasrec.text:
        return None
    if config.sasrec.text_vectors:
        return ItemText([], _given(config.sasrec.text_vectors, vocabulary))
    catalog = tables.read(config.lake.root, "catalog", ["item_id", "text"])
    places = pc.index_in(vocabulary, value_set=catalog["item_id"].combine_chunks())
    return ItemText([(text or "")[:MAX_CHARS] for text in catalog["text"].take(places).to_pylist()], None)


def latent(texts: list[str], width: int) -> np.ndarray:
    """TF-IDF of the texts reduced to at most `width` dimensions."""
    return reduced(_tf_idf(texts), width)


def reduced(rows: sparse.csr_array, width: int) -> np.ndarray:
    """float32 [rows, width], length 1 or 0: rows in the `width` directions that hold most of them, or in fewer."""
    width = min(width, *(side - 1 for side in rows.shape))
    if width < 1 or not rows.nnz:
        return np.zeros((rows.shape[0], 1), np.float32)
    spread = np.random.default_rng(0).standard_normal((rows.shape[1], min(rows.shape[1], width + SPARE)))
    for _ in range(POWERS):
        spread, _ = np.linalg.qr(rows.T @ (rows @ spread))
    left, strength, right = np.linalg.svd(rows @ spread, full_matrices=False)
    signs = np.sign(right[np.arange(width), np.abs(right[:width]).argmax(1)])
    return _unit(left[:, :width] * (strength[:width] * signs))


def _tf_idf(texts: list[str]) -> sparse.csr_array:
    """Rows of length 1 over the terms that at least two texts have; logarithms of counts."""
    terms: dict[str, int] = {}
    columns: list[int] = []
    counts: list[int] = []
    starts = [0]
    for text in texts:
        found = Counter(_terms(text))
        columns += [terms.setdefault(term, len(terms)) for term in found]
        counts += found.values()
        starts.append(len(columns))
    shape = (len(texts), len(terms))
    rows = sparse.csr_array((1 + np.log(np.array(counts, np.float64)), columns, starts), shape=shape)
    frequency = np.bincount(np.array(columns, np.int64), minlength=len(terms))
    inverse = np.where(frequency > 1, np.log((1 + len(texts)) / (1 + frequency)) + 1, 0.0)
    rows = (rows @ sparse.diags_array(inverse)).tocsr()[:, frequency > 1]
    norms = np.sqrt(rows.multiply(rows).sum(axis=1))
    return (sparse.diags_array(np.divide(1, norms, out=np.zeros_like(norms), where=norms > 0)) @ rows).tocsr()


def _terms(text: str) -> list[str]:
    words = WORD.findall(text.casefold())
    parts = [f"#{word[start : start + 3]}" for word in words for start in range(len(word) - 2)]
    return words + parts


def _given(path: str, vocabulary: pa.Array) -> np.ndarray:
    """The table's vectors in the order of the vocabulary."""
    try:
        found = delta.open_rows(path).to_table(list(COLUMNS))
        vectors = np.array(found["vector"].to_pylist(), np.float32)
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:500]
        raise InputError(
            f"sasrec.text_vectors={path}: expected a Delta table or Parquet with item_id and vector (a list of as many "
            f"numbers for every item): {reason}"
        ) from None
    if vectors.ndim != 2 or not np.isfinite(vectors).all():
        raise InputError(
            f"sasrec.text_vectors={path}: a vector is empty, null or not finite; give every item a whole one"
        )
    places = pc.index_in(vocabulary, value_set=found["item_id"].cast(pa.string()).combine_chunks())
    known = places.is_valid().to_numpy(False)
    if not known.any():
        raise InputError(f"sasrec.text_vectors={path}: no item_id of it is in the catalog; use the ids of inputs.items")
    result = np.zeros((len(vocabulary), vectors.shape[1]), np.float32)
    result[known] = vectors[places.drop_null().to_numpy()]
    return result


def _unit(rows: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 1e-9).astype(np.float32)
