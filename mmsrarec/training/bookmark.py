"""Where a training stands, in the lake: one that was killed goes on after the last saved epoch, to the same weights."""

import time
from io import BytesIO
from pathlib import Path

import numpy as np
import torch

from mmsrarec.storage import files

SAVE_SECONDS = 60.0  # at most so much training is lost


class Bookmark:
    """The state of the training that is `made_from` certain inputs and settings, in `file`."""

    def __init__(self, file: str | Path, made_from: str, every: float = SAVE_SECONDS):
        self._file, self._made_from, self._every = file, made_from, every
        self._saved = time.monotonic()

    def save(self, state: dict, rng: np.random.Generator) -> None:
        """Remember `state` and every source of chance, if it is time to."""
        if time.monotonic() - self._saved < self._every:
            return
        chance = {"numpy": rng.bit_generator.state, "torch": torch.get_rng_state()}
        chance["cuda"] = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        content = BytesIO()
        torch.save({"made_from": self._made_from, "chance": chance, "state": state}, content)
        files.write(self._file, content.getvalue())
        self._saved = time.monotonic()

    def load(self, rng: np.random.Generator) -> dict | None:
        """The state to go on from, with every source of chance as it was; None where there is none of this training."""
        content = files.read(self._file)
        if content is None:
            return None
        found = torch.load(BytesIO(content), map_location="cpu", weights_only=True)
        if found["made_from"] != self._made_from:
            return None
        rng.bit_generator.state = found["chance"]["numpy"]
        torch.set_rng_state(found["chance"]["torch"])
        if torch.cuda.is_available():
            torch.cuda.set_rng_state_all(found["chance"]["cuda"])
        return found["state"]
