"""Stage train_fusion: learns how much each piece of evidence counts, from what validation users took next; where
recommend.blend is on once more without those who check, on whom the blend is learned.

It learns on the held-out items of validation users alone; the counts, SASRec and the index have seen none of them
(collaborative/prerank.py refuses counts that have). Too few of them: the fusion with fixed weights serves. What was
learned is kept while the networks, the settings and the model behind the keywords stay: a new one changes everybody's
candidates.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mmsrarec import log
from mmsrarec.collaborative import embed, fusion
from mmsrarec.collaborative import fusion_learning as learning
from mmsrarec.collaborative.questions import pools
from mmsrarec.collaborative.retrieve import Retriever
from mmsrarec.config import Config
from mmsrarec.engines import adapters
from mmsrarec.errors import InputError
from mmsrarec.storage import guard, runs
from mmsrarec.training import validation

READS = ("histories", "catalog", "item_cooccurrence", "item_transitions", "sasrec", "training_users", "item_keywords")
SAME = "networks, settings and the keywords' model are the same"


def train_fusion(config: Config, run_id: str) -> None:
    """Write models/fusion.json, and the one apart; nothing where `retrieve.fusion.enabled` is false."""
    nothing = nothing_to_learn(config, config.retrieve.fusion.enabled, "retrieve.fusion.enabled is false")
    with runs.stage(config, "train_fusion", run_id, () if nothing else READS) as stage:
        if nothing:
            stage.notes["skipped"] = nothing
            return
        with Retriever(config) as retriever:
            made_from = fingerprints(config, retriever.learned)
            if kept := _kept(config, retriever.preranker.pieces, made_from):
                log.say(f"train_fusion: {SAME}, the fusion stays", "unchanged")
                stage.notes["skipped"], found = SAME, kept
            else:
                every = _learned(config, retriever, stage, list(made_from))
                guard.check(config.lake.root)
                for name, each in every.items():
                    facts = each.facts | {"made_from": made_from[name]}
                    fusion.save(fusion.place(config, name), replace(each, facts=facts))
                found = every[fusion.SERVING]
            stage.versions |= {"sasrec": retriever.model_hash, "fusion": found.hash}
            stage.notes |= found.facts


def nothing_to_learn(config: Config, wanted: bool, otherwise: str) -> str | None:
    """Why a stage that learns from validation users has nothing to do: it is not wanted, for the reason given
    `otherwise`, or another lake has learned it (lake.learned). None where it has."""
    if not wanted:
        return otherwise
    return f"that of {config.lake.learned}" if config.lake.learned else None


def fingerprints(config: Config, networks_hash: str) -> dict[str, str]:
    """By the names of the fusions that are wanted, a hash of the networks, of who writes the keywords, and of the
    settings behind each."""
    sections = [part.model_dump(mode="json") for part in (config.build_cf, config.summarize_items, config.retrieve)]
    writer = config.model, adapters.expected(config, "summarizer")
    known = [fusion.FUSION_VERSION, networks_hash, writer, sections, config.run.seed]
    behind = {fusion.SERVING: known}
    if config.recommend.blend:
        behind[fusion.APART] = [*known, config.tune_recommender.held_out]
    return {name: hashlib.sha256(json.dumps(each).encode()).hexdigest()[:16] for name, each in behind.items()}


def _kept(config: Config, pieces: Sequence[str], made_from: dict[str, str]) -> fusion.Fusion | None:
    """The fusion that serves, where all that are wanted are there and made of the same."""
    try:
        present = {name: fusion.load(fusion.place(config, name), pieces) for name in made_from}
    except InputError:
        return None
    same = all(present[name].facts.get("made_from") == hashed for name, hashed in made_from.items())
    return present[fusion.SERVING] if same else None


def _learned(config: Config, retriever: Retriever, stage: runs.Stage, names: list[str]) -> dict[str, fusion.Fusion]:
    """The fusions by name: the one that serves learns from everybody, the one apart from nobody who checks."""
    settings, pieces = config.retrieve.fusion, retriever.preranker.pieces
    users, targets = validation.questions(embed.read_histories(config), settings.max_users, config.run.seed)
    stage.rows_in = len(users)
    if len(users) < settings.min_users:
        return dict.fromkeys(names, _too_few(pieces, f"{len(users):,} held-out items", settings.min_users))
    values, answered = pools(retriever, users, targets)
    recall, stage.rows_out = {"pool_recall": round(float((answered >= 0).mean()), 6)}, int((answered >= 0).sum())
    checks, found = validation.checking(config, users), {}
    for name in names:
        kept = np.where(checks & (name == fusion.APART), -1, answered)
        if (in_pool := int((kept >= 0).sum())) < settings.min_users:
            said = f"{name}: {in_pool:,} held-out items of validation users are in their pools"
            found[name] = _too_few(pieces, said, settings.min_users)
        elif name == fusion.SERVING:
            found[name] = learning.fit(pieces, values, kept, config.run.seed)
        else:  # the same columns and levels
            found[name] = learning.weighted(found[fusion.SERVING], values, kept)
    return {name: replace(each, facts=each.facts | recall) for name, each in found.items()}


def _too_few(pieces: Sequence[str], what: str, wanted: int) -> fusion.Fusion:
    log.say(f"train_fusion: {what}, below {wanted:,}: fixed weights serve", "fixed_weights")
    return fusion.fixed(pieces)
