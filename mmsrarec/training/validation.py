"""Validation users: what they took next, which no count, network or index has seen, and who of them only checks.

Who checks is decided by a hash of the user, so nobody both teaches a language model and checks it, on whatever night.
"""

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmsrarec.collaborative import embed
from mmsrarec.config import Config

MIN_HISTORY = 1


def questions(histories: pa.Table, most: int, seed: int) -> tuple[pa.Table, pa.Array]:
    """Validation users [user_id, item_ids] without their last item, and that item; `most` of them, drawn by the seed.
    Those who took it before are left out: what a user has had is never a candidate."""
    asked = histories.filter(pc.equal(histories["split"], "validation"))
    rest, last = embed.before_last(asked["item_ids"], np.ones(len(asked), bool))
    again = [item in had for item, had in zip(last.to_pylist(), rest.to_pylist(), strict=True)]
    fit = np.flatnonzero((rest.value_lengths().to_numpy() >= MIN_HISTORY) & ~np.array(again, bool))
    if len(fit) > most:
        fit = np.sort(np.random.default_rng(seed).choice(fit, most, replace=False))
    users = pa.table({"user_id": asked["user_id"], "item_ids": rest})
    return users.take(fit), last.take(pa.array(fit))


def checking(config: Config, users: pa.Table) -> np.ndarray:
    """bool [users]: who checks what is learned for the language model, instead of teaching it."""
    return np.array([_checks(config, user) for user in users["user_id"].to_pylist()], bool)


def _checks(config: Config, user_id: str) -> bool:
    digest = hashlib.blake2b(f"{config.run.seed}:tune:{user_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64 < config.tune_recommender.held_out
