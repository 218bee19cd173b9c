"""Stage train_fusion: learns how much each piece of evidence counts, from what validation users took next.

It learns on the held-out items of validation users alone; the counts, SASRec and the index have seen none of them
(collaborative/prerank.py refuses counts that have). Too few of them: the fusion with fixed weights serves. What was
learned is kept while the networks and the settings stay: a new one changes everybody's candidates.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmsrarec import log
from mmsrarec.collaborative import embed, fusion
from mmsrarec.collaborative import fusion_learning as learning
from mmsrarec.collaborative.questions import pools
from mmsrarec.collaborative.retrieve import Retriever
from mmsrarec.config import Config
from mmsrarec.errors import InputError
from mmsrarec.storage import guard, runs

READS = ("histories", "catalog", "item_cooccurrence", "item_transitions", "sasrec", "training_users", "item_keywords")
MIN_HISTORY = 1


def train_fusion(config: Config, run_id: str) -> None:
    """Write models/fusion.json; nothing where `retrieve.fusion.enabled` is false."""
    nothing = nothing_to_learn(config, config.retrieve.fusion.enabled, "retrieve.fusion.enabled is false")
    with runs.stage(config, "train_fusion", run_id, () if nothing else READS) as stage:
        if nothing:
            stage.notes["skipped"] = nothing
            return
        with Retriever(config) as retriever:
            made_from = fingerprint(config, retriever.learned)
            if kept := _kept(config, retriever.preranker.pieces, made_from):
                log.say("train_fusion: the networks and the settings are the same, the fusion stays", "unchanged")
                stage.notes["skipped"], found = "same networks and settings", kept
            else:
                found = _learned(config, retriever, stage)
                guard.check(config.lake.root)
                fusion.save(fusion.place(config), replace(found, facts=found.facts | {"made_from": made_from}))
            stage.versions |= {"sasrec": retriever.model_hash, "fusion": found.hash}
            stage.notes |= found.facts


def nothing_to_learn(config: Config, wanted: bool, otherwise: str) -> str | None:
    """Why a stage that learns from validation users has nothing to do: it is not wanted, for the reason given
    `otherwise`, or another lake has learned it (lake.learned). None where it has."""
    if not wanted:
        return otherwise
    return f"that of {config.lake.learned}" if config.lake.learned else None


def fingerprint(config: Config, networks_hash: str) -> str:
    """Of the networks and the settings behind a fusion."""
    sections = [part.model_dump(mode="json") for part in (config.build_cf, config.summarize_items, config.retrieve)]
    known = json.dumps([fusion.FUSION_VERSION, networks_hash, sections, config.run.seed])
    return hashlib.sha256(known.encode()).hexdigest()[:16]


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


def _kept(config: Config, pieces: Sequence[str], made_from: str) -> fusion.Fusion | None:
    try:
        present = fusion.load(fusion.place(config), pieces)
    except InputError:
        return None
    return present if present.facts.get("made_from") == made_from else None


def _learned(config: Config, retriever: Retriever, stage: runs.Stage) -> fusion.Fusion:
    settings, pieces = config.retrieve.fusion, retriever.preranker.pieces
    users, targets = questions(embed.read_histories(config), settings.max_users, config.run.seed)
    stage.rows_in = len(users)
    if len(users) < settings.min_users:
        return _too_few(pieces, f"{len(users):,} validation users", settings.min_users)
    values, answered = pools(retriever, users, targets)
    in_pool = int((answered >= 0).sum())
    if in_pool < settings.min_users:
        said = f"{in_pool:,} validation users whose next item is in their pool"
        return _too_few(pieces, said, settings.min_users)
    found = learning.fit(pieces, values, answered, config.run.seed)
    stage.rows_out = in_pool
    return replace(found, facts=found.facts | {"pool_recall": round(in_pool / len(users), 6)})


def _too_few(pieces: Sequence[str], what: str, wanted: int) -> fusion.Fusion:
    log.say(f"train_fusion: {what}, below {wanted:,}: fixed weights serve", "fixed_weights")
    return fusion.fixed(pieces)
