"""The stages in their order, for one command on one machine; jobs/ run the same functions on a cluster.

    items, interactions -> build_cf -> train_sasrec -> index_cf ----+
                               |                                    v
                               +-> summarize_items ------------> retrieve -> recommend -> evaluate

A stage is a function (config, run_id) that reads and writes tables; nothing else passes between stages.
"""

import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass

from mmsrarec import log
from mmsrarec.config import Config
from mmsrarec.reports import metrics
from mmsrarec.storage import lock


@dataclass(frozen=True)
class StageEntry:
    """Where a stage lives and what it does, in a line; the module is imported when the stage runs."""

    module: str
    summary: str

    def function(self, name: str) -> Callable[[Config, str], None]:
        return getattr(importlib.import_module(self.module), name)


STAGES: dict[str, StageEntry] = {
    "build_cf": StageEntry(
        "mmsrarec.preparation.build_cf", "Spark: validate the inputs; histories, co-occurrence, transitions, catalog."
    ),
    "train_sasrec": StageEntry(
        "mmsrarec.training.sasrec_trainer", "Train SASRec on the training split, early stopping on validation."
    ),
    "index_cf": StageEntry(
        "mmsrarec.collaborative.index", "Put the training users' embeddings and next items into Milvus."
    ),
    "summarize_items": StageEntry(
        "mmsrarec.keywords.summarize", "Ray + vLLM: keywords of every item's picture and text."
    ),
    "retrieve": StageEntry("mmsrarec.collaborative.retrieve", "Similar users, candidates and evidence for every user."),
    "recommend": StageEntry("mmsrarec.recommendation.recommend", "Ray + vLLM: score the candidates, write the lists."),
    "evaluate": StageEntry("mmsrarec.evaluation.evaluate", "HR, NDCG and AUC on held-out items, beside the baselines."),
}


def run_stage(name: str, config: Config, run_id: str) -> None:
    STAGES[name].function(name)(config, run_id)


def run_stages(names: list[str], config: Config, run_id: str) -> None:
    """Some stages in order, as one run that holds the lake from the first to the last."""
    with lock.held(config, run_id):
        for name in names:
            with log.context(stage=name):
                started = time.monotonic()
                log.say(f"{name}: started", "stage_started")
                run_stage(name, config, run_id)
                seconds = time.monotonic() - started
                log.say(f"{name}: completed in {seconds:.1f} s", "stage_completed", seconds=round(seconds, 1))
                metrics.write(config)
