"""What the items' texts mean, as a vector each: of a sentence encoder, kept in the table item_vectors by the text's
hash, so that a text is encoded once; or, without an encoder, by an SVD of TF-IDF."""

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from mmsrarec.collaborative import matrices, text
from mmsrarec.config import Config
from mmsrarec.engines.sentences import SentenceEncoder
from mmsrarec.progress import Progress
from mmsrarec.storage import tables

TABLE = "item_vectors"
DIMENSIONS = 64  # without an encoder
MAX_CHARS = 1000  # of a text; an encoder reads some hundred words


def vectors(config: Config, catalog: pa.Table, words: sparse.csr_array) -> np.ndarray:
    """float32 [items, width] of the rows of `catalog` [item_id, text], length 1 or 0; `words` are their TF-IDF rows."""
    name = config.retrieve.fusion.sentence_encoder
    if name is None:
        return text.reduced(words, DIMENSIONS)
    encoder, root = SentenceEncoder(name), config.lake.root
    identity = encoder.identity
    texts = [(whole or "")[:MAX_CHARS] for whole in catalog["text"].to_pylist()]
    hashes = [hashlib.blake2b(whole.encode(), digest_size=16).hexdigest() for whole in texts]
    found, known = _kept(root, identity, hashes)
    missing = sorted({row_hash: row for row, row_hash in enumerate(hashes) if texts[row] and not known[row]}.values())
    if missing:
        with Progress("item_vectors", total=len(missing), unit="texts") as progress:
            made = encoder.vectors([texts[row] for row in missing], progress.advance)
        place = {hashes[row]: number for number, row in enumerate(missing)}
        found = found if found.shape[1] == made.shape[1] else np.zeros((len(texts), made.shape[1]), np.float32)
        rows = [row for row, row_hash in enumerate(hashes) if row_hash in place]
        found[rows], known[rows] = made[[place[hashes[row]] for row in rows]], True
        tables.replace(root, TABLE, _table(catalog["item_id"], hashes, identity, found).filter(pa.array(known)))
    return found


def _kept(root: str, identity: str, hashes: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """The vectors that are there already [items, width], zero where there is none, and which are."""
    rows = tables.read(root, TABLE, ["text_hash", "vector"], [("encoder", "=", identity)]).combine_chunks()
    flat = rows["vector"].combine_chunks().flatten().to_numpy()
    width = len(flat) // max(len(rows), 1)
    places = pc.fill_null(pc.index_in(pa.array(hashes), value_set=rows["text_hash"]), -1).to_numpy()
    found = np.zeros((len(hashes), width), np.float32)
    found[places >= 0] = flat.reshape(len(rows), width)[places[places >= 0]]
    return found, places >= 0


def _table(items: pa.ChunkedArray, hashes: list[str], identity: str, vectors: np.ndarray) -> pa.Table:
    encoder, lists = [identity] * len(vectors), matrices.lists(vectors)
    return pa.table({"item_id": items, "text_hash": hashes, "encoder": encoder, "vector": lists})
