"""Stage tune_summarizer: a LoRA adapter for the keywords by GRPO (method, stage 1), where
summarize_items.summarizer=grpo wants one.

Draws items, lets the workers train (distributed.py), and takes the adapter only if it passes its trial
(summarizer_trial.py); else the card says why not, and the night goes on with the untuned backbone. An adapter serves
until a setting that decides it, the model, or tune_summarizer.refresh_days asks for another. A training that was killed
goes on from its last checkpoint.
"""

import hashlib
import json
from pathlib import Path

from mmsrarec import log
from mmsrarec.config import Config
from mmsrarec.engines import adapters, cluster, delivery
from mmsrarec.engines.adapters import Adapter
from mmsrarec.engines.template import Template
from mmsrarec.keywords import prompt
from mmsrarec.storage import files, guard, runs
from mmsrarec.storage.scratch import Scratch
from mmsrarec.training import backbone, curve, distributed, summarizer_data, summarizer_grpo, summarizer_trial
from mmsrarec.training.distributed import Job
from mmsrarec.training.fusion_stage import nothing_to_learn
from mmsrarec.training.summarizer_data import Item

READS = ("catalog", "histories")
CURVES = {  # what TRL logs, by the name that the table has
    "reward": "reward",
    "rewards/information/mean": "reward_information",
    "rewards/reconstruction/mean": "reward_reconstruction",
    "rewards/length/mean": "reward_length",
    "cosine": "cosine",
    "perplexity": "perplexity",
    "keywords": "keywords",
    "entropy": "entropy",
    "kl": "divergence",
    "loss": "loss",
    "step_time": "step_seconds",
}


def tune_summarizer(config: Config, run_id: str) -> None:
    """Leave the card of an adapter in the lake; nothing where the configuration wants none."""
    wanted = adapters.wanted(config, "summarizer")
    nothing = nothing_to_learn(config, wanted, "summarize_items.summarizer is not grpo")
    with runs.stage(config, "tune_summarizer", run_id, () if nothing else READS) as stage:
        if nothing:
            stage.notes["skipped"] = nothing
            return
        stage.versions = {"model": Template.of(config).identity, "prompt": prompt.PROMPT_VERSION}
        if address := config.tune_summarizer.adapter:
            why = f"the adapter serves: tune_summarizer.adapter={config.tune_summarizer.adapter}"
            found = adapters.save(config, "summarizer", adapters.local_folder(address), why, {})
        elif kept := adapters.kept(config, "summarizer"):
            found, stage.notes["skipped"] = kept, "same model and settings"
        else:
            found = _made(config, stage)
        stage.versions["adapter"] = found.name
        stage.notes |= {"adapter": found.name, "why": found.why, **found.facts}
        log.say(f"tune_summarizer: {found.why}", "adapter_serves" if found.name else "adapter_not_taken")


def curves(points: list[curve.Point]) -> list[curve.Point]:
    """Those that tell how the training went, by their names in the table."""
    return [(step, CURVES[name], value) for step, name, value in points if name in CURVES]


def _made(config: Config, stage: runs.Stage) -> Adapter:
    settings = config.tune_summarizer
    learned, held_out = summarizer_data.drawn(config, Template.of(config))
    questions = summarizer_data.questions(config, learned)
    stage.rows_in = len(questions)
    facts = {adapters.TUNED_ON: config.run.run_date, "items": len(learned), "held_out": len(held_out)}
    facts |= {"questions": len(questions), "steps": settings.steps}
    least = settings.prompts * settings.workers * settings.accumulation
    if len(questions) < least or len(held_out) < summarizer_trial.FEWEST:
        why = f"the untuned backbone serves: {len(questions):,} questions to learn from, where a step takes {least:,}, "
        why += f"and {len(held_out):,} items held out are too few"
        return adapters.save(config, "summarizer", None, why, facts)
    processes = max(settings.workers, config.engine.most_replicas)
    with Scratch("adapter") as scratch, cluster.joined(config, processes):
        _trained(config, stage, questions, scratch.path)
        found = _tried(config, stage, scratch.path, held_out, facts)
    distributed.forget(config, "summarizer")
    stage.rows_out = int(found.name is not None)
    return found


def _trained(config: Config, stage: runs.Stage, questions: list[dict], home: Path) -> None:
    """Put an adapter into `home`."""
    settings = config.tune_summarizer
    digest = hashlib.sha256(json.dumps(questions).encode()).hexdigest()[:12]
    name = f"summarizer-{adapters.fingerprint(config, 'summarizer')}-{digest}"
    summarizer_grpo.check_prompts(config, backbone.processor(config), questions)
    folder = f"{delivery.folder(config)}/tune_summarizer-{stage.run_id}"
    summarizer_grpo.write(f"{folder}/questions.parquet", questions)
    job = Job(config, settings, f"{folder}/questions.parquet", {})
    with stage.progress(settings.steps, "steps") as progress:
        points = distributed.run(job, name, summarizer_grpo.build, home, progress)
    files.delete_folder(folder)
    curve.write(config, stage.run_id, stage.name, curves(points))


def _tried(config: Config, stage: runs.Stage, home: Path, held_out: list[Item], facts: dict) -> Adapter:
    """The card of the adapter in `home`, or of none where it does not pass."""
    name = adapters.put(config, "summarizer", home)
    verdict = summarizer_trial.tried(config, stage, name, held_out)
    guard.check(config.lake.root)
    facts = facts | verdict.facts()
    if not verdict.taken:
        files.delete_folder(adapters.place(config, name))
    return adapters.card(config, "summarizer", name if verdict.taken else None, verdict.why, facts)
