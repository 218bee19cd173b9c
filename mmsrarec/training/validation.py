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
    """What validation users took next: [user_id, item_ids] before each held-out item, and those items; of `most` users,
    drawn by the seed. An item that the user took before is left out: what a user has had is never a candidate."""
    users = histories.filter(pc.equal(histories["split"], "validation"))
    rows, before, items = held_out(users)
    again = [item in had for item, had in zip(items.to_pylist(), before.to_pylist(), strict=True)]
    fit = (before.value_lengths().to_numpy() >= MIN_HISTORY) & ~np.array(again, bool)
    asked = np.unique(rows[fit])
    if len(asked) > most:
        fit &= np.isin(rows, np.random.default_rng(seed).choice(asked, most, replace=False))
    chosen = pa.array(np.flatnonzero(fit))
    names = users["user_id"].combine_chunks().take(pa.array(rows))
    return pa.table({"user_id": names, "item_ids": before}).take(chosen), items.take(chosen)


def held_out(users: pa.Table) -> tuple[np.ndarray, pa.Array, pa.Array]:
    """Rows of `users`, their histories before each held-out item, and those items: everybody's last first."""
    lists, count = users["item_ids"], embed.held_out(users)
    rows, before, items = [np.zeros(0, int)], [lists.combine_chunks()[:0]], [pa.array([], lists.type.value_type)]
    for age in range(count.max(initial=0)):
        chosen = (count > age) & (pc.list_value_length(lists).to_numpy(zero_copy_only=False) > 0)
        lists, last = embed.before_last(lists, chosen)
        rows.append(np.flatnonzero(chosen))
        before.append(lists.filter(pa.array(chosen)))
        items.append(last)
    return np.concatenate(rows), pa.concat_arrays(before), pa.concat_arrays(items)


def checking(config: Config, users: pa.Table) -> np.ndarray:
    """bool [users]: who checks what is learned for the language model, instead of teaching it."""
    return np.array([_checks(config, user) for user in users["user_id"].to_pylist()], bool)


def _checks(config: Config, user_id: str) -> bool:
    digest = hashlib.blake2b(f"{config.run.seed}:tune:{user_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64 < config.tune_recommender.held_out
