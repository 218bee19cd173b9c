"""The sequence networks that the evidence asks: the main one, which also makes the candidates' cf_score, and those of
`retrieve.fusion.networks` beside it, by name."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from mmsrarec.collaborative import checkpoint, embed, matrices
from mmsrarec.collaborative.checkpoint import Checkpoint
from mmsrarec.collaborative.pieces.asked import MAIN
from mmsrarec.config import Config


@dataclass(frozen=True)
class Networks:
    """Checkpoints by the names of their pieces, the main one first."""

    trained: Mapping[str, Checkpoint]

    @property
    def hash(self) -> str:
        """Of all of them; of the main one alone its own."""
        hashes = [one.model_hash for one in self.trained.values()]
        return hashes[0] if len(hashes) == 1 else hashlib.sha256(" ".join(hashes).encode()).hexdigest()[:16]

    def states(self, item_ids: pa.ChunkedArray | pa.Array) -> dict[str, np.ndarray]:
        """By network the states [users, dim] of histories; zeros where it knows no item of one."""
        return {
            name: embed.states(one.model, embed.encode(item_ids, one.vocabulary)) for name, one in self.trained.items()
        }

    def vectors(self, items: pa.Array) -> dict[str, np.ndarray]:
        """By network the vectors [items, dim] of these items, zero where it does not know one."""
        return {name: _vectors(one, items) for name, one in self.trained.items()}


def load(config: Config, main: Checkpoint) -> Networks:
    """`main` and the others of the configuration; InputError where one has not been trained."""
    others = {each.sasrec.name: checkpoint.load(checkpoint.folder(each)) for each in config.evidence_networks[1:]}
    return Networks({MAIN: main} | others)


def _vectors(trained: Checkpoint, items: pa.Array) -> np.ndarray:
    places = matrices.codes(trained.vocabulary, items)
    vectors = trained.model.item_vectors.detach().numpy()
    found = np.zeros((len(items), vectors.shape[1]), np.float32)
    found[places[places >= 0]] = vectors[places >= 0]
    return found
