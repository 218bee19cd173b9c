"""The stages in their order, for one command on one machine; jobs/ run the same functions on a cluster.

    items, interactions -> build_cf -> train_sasrec -> index_cf ----+
                               |                                    v
                               +-> summarize_items ------------> retrieve -> recommend -> evaluate

A stage is a function (config, run_id) that reads and writes tables; nothing else passes between stages.
"""

import importlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass

from mmsrarec.config import Config
from mmsrarec.errors import DiskFullError, disk_full
from mmsrarec.schemas import TABLES


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
    """Raises DiskFullError for whatever a full disk led to."""
    try:
        STAGES[name].function(name)(config, run_id)
    except Exception as error:
        if not disk_full(error):
            raise
        places = f"lake.root={config.lake.root} or the temporary folder {tempfile.gettempdir()}"
        raise DiskFullError(
            f"{name}: no space is left on the disk of {places}. What is finished is kept: make room, then run the same "
            "command again to go on from there"
        ) from error


def clean(config: Config) -> int:
    """Delete what nobody needs: leftovers of runs that died (their answers are kept), answers that no run has asked for
    lately, and files that no table has needed for lake.keep_days; how many files of tables."""
    from mmsrarec.engines import delivery
    from mmsrarec.storage import scratch, tables

    delivery.recover(config)
    delivery.prune(config)
    scratch.sweep(scratch.common())
    return sum(tables.tidy(config.lake.root, name, config.lake.keep_days) for name in TABLES)
