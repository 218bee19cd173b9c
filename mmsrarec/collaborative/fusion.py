"""The linear fusion of all pieces of evidence: scores a pool, is one JSON file, gives levels. Learning it is
fusion_learning.py.

A piece comes in as its standardized value, as hinges at a few of its quantiles (so its effect is piecewise linear), as
the logarithm of its rank within the user's pool, and as a mark where nothing is known. The score is linear in these.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from mmsrarec.collaborative.pieces.asked import ranks
from mmsrarec.config import Config
from mmsrarec.errors import InputError
from mmsrarec.storage import files

FUSION_VERSION = 4
QUANTILES = (0.5, 0.8, 0.95, 0.99)  # of the pools' values, where the hinges are
LEVELS = 8
CHUNK = 512  # users whose features are in memory at a time
SERVING = "fusion"
APART = "fusion_apart"  # of those validation users alone who do not check (training/validation.py)
REACH = 6.0  # standard deviations beyond which a value counts no more
FIXED = {"sasrec": 1.0, "follows": 1.0, "together": 0.5, "linear": 1.0, "text_mean": 0.5, "similar_users": 0.25}


@dataclass(frozen=True)
class Fusion:
    """What is learned. Per piece: mean and scale, the hinges' knots (standardized), the inner edges of its levels.
    `weights` [pieces * columns] in the order of `features`."""

    pieces: tuple[str, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]
    knots: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]
    edges: tuple[tuple[float, ...], ...]
    facts: dict = field(default_factory=dict)

    @property
    def hash(self) -> str:
        """Of all that decides a score or a level."""
        known = {name: value for name, value in asdict(self).items() if name != "facts"}
        return hashlib.sha256(json.dumps([FUSION_VERSION, known]).encode()).hexdigest()[:16]

    def score(self, values: np.ndarray) -> np.ndarray:
        """float32 [users, width] of values [users, width, pieces]; -inf where nothing at all is known (no item)."""
        weights, scores = np.array(self.weights, np.float32), np.empty(values.shape[:2], np.float32)
        for start in range(0, len(values), CHUNK):
            scores[start : start + CHUNK] = self.features(values[start : start + CHUNK]) @ weights
        return np.where(nobody(values), -np.inf, scores).astype(np.float32)

    def features(self, values: np.ndarray) -> np.ndarray:
        """float32 [users, width, pieces * (3 + knots)]: value, hinges, log rank and mark of the first piece, and so on;
        a row without an item is zero."""
        each = 3 + len(QUANTILES)
        found = np.empty((*values.shape[:2], each * len(self.pieces)), np.float32)
        for number in range(len(self.pieces)):
            piece, columns = values[:, :, number], found[:, :, number * each : (number + 1) * each]
            unknown = np.isnan(piece)
            standard = np.clip((piece - self.means[number]) / self.scales[number], -REACH, REACH)
            columns[..., 0] = np.where(unknown, 0, standard)
            for place, knot in enumerate(self.knots[number], 1):
                columns[..., place] = np.maximum(columns[..., 0] - knot, 0) * ~unknown
            columns[..., -2] = -np.log(ranks(piece))
            columns[..., -1] = unknown
        found[nobody(values)] = 0
        return found

    def levels(self, values: np.ndarray) -> np.ndarray:
        """int8 like values: from 0 to 7 by the edges, -1 where nothing is known."""
        found = [
            np.searchsorted(self.edges[i], values[..., i].astype(float), side="right") for i in range(len(self.pieces))
        ]
        return np.where(np.isnan(values), -1, np.stack(found, axis=-1)).astype(np.int8)


def nobody(values: np.ndarray) -> np.ndarray:
    """[users, width]: places of a pool without an item: nothing, not even its popularity, is known."""
    return np.isnan(values).all(axis=-1)


def fixed(pieces: Sequence[str]) -> Fusion:
    """Serves where too few users can teach: a sum of log ranks with documented weights (FIXED), no piece by value."""
    count, columns = len(pieces), 3 + len(QUANTILES)
    weights = np.zeros((count, columns))
    weights[:, -2] = [FIXED.get(name, 0.0) for name in pieces]
    knots = tuple((0.0,) * len(QUANTILES) for _ in pieces)
    edges = tuple(tuple(np.arange(1, LEVELS) / LEVELS) for _ in pieces)
    facts = {"learned": False}
    return Fusion(tuple(pieces), (0.0,) * count, (1.0,) * count, knots, tuple(weights.ravel().tolist()), edges, facts)


def place(config: Config, name: str = SERVING) -> str:
    return config.learned(f"models/{name}.json")


def save(file: str | Path, fusion: Fusion) -> None:
    files.write(file, json.dumps(asdict(fusion) | {"version": FUSION_VERSION}, indent=1).encode())


def load(file: str | Path, pieces: Sequence[str]) -> Fusion:
    """InputError where there is none, or one that other code has made, or of other pieces than these."""
    found = files.read(file)
    if not found:
        raise InputError(f"{file}: no fusion; run train_fusion first")
    known = json.loads(found)
    version = known.pop("version")
    if version != FUSION_VERSION or tuple(known["pieces"]) != tuple(pieces):
        raise InputError(f"{file}: made of other pieces of evidence; run train_fusion again")
    for name, value in known.items():
        if isinstance(value, list):
            known[name] = tuple(tuple(each) if isinstance(each, list) else each for each in value)
    return Fusion(**known)
