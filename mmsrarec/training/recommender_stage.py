"""Stage tune_recommender: the backbone's scores, tuned on what validation users took next (method, stage 3), and the
blend of p_yes with the pre-ranker's score.

What is left is a card in the lake (engines/adapters.py): the adapter's name, the blend, and the figures. It stays while
the backbone and the settings do (`tune_recommender.refresh_days` for longer or shorter). A run that was stopped goes on
from its last checkpoint.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Final

import numpy as np

from mmsrarec import log
from mmsrarec.collaborative import fusion
from mmsrarec.collaborative.retrieve import Retriever
from mmsrarec.config import Config
from mmsrarec.engines import adapters, batch
from mmsrarec.engines.adapters import Adapter
from mmsrarec.engines.template import Template
from mmsrarec.errors import InputError
from mmsrarec.recommendation import blend, scoring
from mmsrarec.recommendation.examples import Writer
from mmsrarec.recommendation.task import Task
from mmsrarec.storage import guard, runs
from mmsrarec.storage.scratch import Scratch
from mmsrarec.training import curve, distributed, lessons, recommender_sft
from mmsrarec.training.fusion_stage import nothing_to_learn

READS = ("histories", "catalog", "item_cooccurrence", "item_transitions", "sasrec", "training_users", "item_keywords")
KIND: Final = "recommender"
BLENDS = "blends"  # of the facts on a card: by recommend.scoring, since it decides what p_yes is worth
CHECKED = 1000  # users at most whose lists the blend is learned on
FEWEST = 20  # lists, below which nothing can be learned from them


def tune_recommender(config: Config, run_id: str) -> None:
    """Write the card and the adapter; nothing where neither recommend.training nor recommend.blend asks for it."""
    wanted = adapters.wanted(config, KIND) or config.recommend.blend
    nothing = nothing_to_learn(config, wanted, "recommend.training is untrained and recommend.blend is false")
    with runs.stage(config, "tune_recommender", run_id, () if nothing else READS) as stage:
        if nothing:
            stage.notes["skipped"] = nothing
            return
        kept = adapters.kept(config, KIND)
        if kept and (not config.recommend.blend or config.recommend.scoring in kept.facts[BLENDS]):
            log.say("tune_recommender: the model and the settings are the same, the adapter stays", "unchanged")
            stage.notes["skipped"], card = "same model and settings", kept
        else:
            card = _made(config, stage, kept)
        stage.versions["adapter"] = card.name
        stage.notes |= card.facts


def _made(config: Config, stage: runs.Stage, kept: Adapter | None) -> Adapter:
    """The card; of one that is kept only the blend is missing."""
    facts: dict = {adapters.TUNED_ON: config.run.run_date, BLENDS: {}} if kept is None else {**kept.facts}
    with Retriever(config) as retriever:
        stage.versions |= {"model": Template.of(config).identity, "sasrec": retriever.model_hash}
        teach, check = lessons.split(config)
        stage.rows_in = len(teach.users) + len(check.users)
        name, why = None, "the configuration wants none"
        if kept:
            name, why = kept.name, kept.why
        elif adapters.wanted(config, KIND) and (given := config.tune_recommender.adapter):
            name, why = adapters.put(config, KIND, adapters.local_folder(given)), f"given: {given}"
        elif adapters.wanted(config, KIND):
            name, why = _trained(config, stage, retriever, teach, facts), "tuned"
    if config.recommend.blend:
        learned = _blend(config, stage, check, name)
        facts[BLENDS] = facts[BLENDS] | {config.recommend.scoring: learned}
    guard.check(config.lake.root)
    return adapters.card(config, KIND, name, why, facts)


def _trained(config: Config, stage: runs.Stage, retriever: Retriever, teach: lessons.Users, facts: dict) -> str:
    """The name of the adapter's weights in the lake."""
    settings, template = config.tune_recommender, Template.of(config)
    if not len(teach.users):
        raise InputError("histories: no validation users to learn from; raise build_cf.validation_fraction")
    yes, _ = template.yes_no_ids()
    mix = _mix(config)
    groups = list(recommender_sft.grouped(taught(config, retriever, teach), settings))
    rows = list(chain.from_iterable(groups))
    counts = {f"examples_{kind}": sum(row["instruction"] == kind for row in rows) for kind in mix}
    facts |= {"users": len(teach.users), **counts, "tokens": sum(len(row["tokens"]) for row in rows)}
    facts["computed_tokens"] = sum(map(recommender_sft.length, groups))
    digest = hashlib.sha256(json.dumps(groups).encode()).hexdigest()[:16]
    name = f"{KIND}-{adapters.fingerprint(config, KIND)}-{digest}-{settings.workers}"
    data = config.table(f"models/tuning/{name}{distributed.EXAMPLES}")
    batches = recommender_sft.batched(groups, settings, np.random.default_rng(config.run.seed), scoring.picture(config))
    facts["batches"] = stage.rows_out = recommender_sft.write(data, batches)
    weight = settings.epochs * sum(row["weight"] for row in rows) / facts["batches"]
    job = distributed.Job(config, settings, data, {"yes": yes, "weight": weight})
    with Scratch("adapter") as scratch, stage.progress(None, "steps") as progress:
        course = distributed.run(job, name, recommender_sft.build, scratch.path, progress)
        guard.check(config.lake.root)
        curve.write(config, stage.run_id, stage.name, course)
        made = adapters.put(config, KIND, scratch.path)
    distributed.forget(config, KIND)
    return made


def _mix(config: Config) -> dict[str, float]:
    mix = config.tune_recommender.mix if config.recommend.training == "multi_task" else {"pointwise": 1.0}
    return {str(instruction): weight for instruction, weight in mix.items()}


def taught(config: Config, retriever: Retriever, teach: lessons.Users) -> Iterator[recommender_sft.Rows]:
    """The examples of each question, for the trainer."""
    template = Template.of(config)
    yes, no = (template.tokenizer.decode([token]) for token in template.yes_no_ids())
    shown, room = scoring.pictures(config), scoring.room(config)
    writer = Writer(template, room, _mix(config), (yes, no), config.tune_recommender.choices, config.run.seed, shown)
    for question in lessons.lessons(config, retriever, teach):
        yield recommender_sft.tokenized(list(writer.examples(question)), template)


def _blend(config: Config, stage: runs.Stage, check: lessons.Users, name: str | None) -> dict[str, float]:
    """The blend's weights, learned on the lists of those who check, by a pre-ranker that has not learned from them; the
    prior alone where they are too few."""
    with Retriever(config, fusion.APART) as retriever:
        parts = list(lessons.checks(config, retriever, check, CHECKED))
    if (held := sum(len(part.targets) for part in parts)) < FEWEST:
        return _prior_alone(f"{held} lists of validation users hold what was taken, below {FEWEST}")
    scorer = scoring.Scorer.of(config, stage, name)
    answers = batch.answer(config, stage, chain.from_iterable(scorer.groups(part.known) for part in parts))
    lists = [each for part in parts for each in _lists(part, scorer.judged(part.known, answers))]
    if len(lists) < FEWEST:
        return _prior_alone(f"the model answered about {len(lists)} of {held} validation lists, below {FEWEST}")
    learned = blend.learned(lists)
    reached = stage.notes["checked"] = {"lists": len(lists), **blend.figures(learned, lists)}
    if not learned.p_yes:
        said = "{lists} lists of validation users have NDCG@10 {ndcg_prior:.3f} by the prior and gain nothing by p_yes"
        log.say(f"tune_recommender: {said.format(**reached)}: the prior alone orders", "fixed_blend")
    return learned.facts


def _prior_alone(why: str) -> dict[str, float]:
    """The weights where nothing can be learned."""
    log.say(f"tune_recommender: {why}: the prior alone orders", "fixed_blend")
    return blend.Blend(0.0, 1.0, 0.0, 0.0).facts


def _lists(part: lessons.Checks, judged: Iterable[tuple[Task, Mapping[str, float | None]]]) -> Iterator[blend.List]:
    """With both opinions, of those users whose target the engine has answered."""
    pairs = zip(*(part.candidates[name].to_pylist() for name in ("user_id", "item_id")), strict=True)
    priors = dict(zip(pairs, part.candidates["prior"].to_pylist(), strict=True))
    for task, p_yes in judged:
        items = [item for item, p in p_yes.items() if p is not None]
        if (target := part.targets[task.user_id]) in items:
            own = [priors[task.user_id, item] for item in items]
            yield blend.List([p_yes[item] or 0.0 for item in items], own, items.index(target))
