"""The stages in their order, for one command on one machine; jobs/ run the same functions on a cluster.

    items, interactions -> build_cf -> train_sasrec -> index_cf ---+
                               |                                   v
                               +-> summarize_items -----------> retrieve -> recommend -> publish -+
                                                                                                  v
                                                                    report <- clean <- evaluate <-+

A stage is a function (config, run_id) that reads and writes tables; nothing else passes between stages.
"""

import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass

from mmsrarec import log
from mmsrarec.config import Config
from mmsrarec.progress import duration, under_way
from mmsrarec.reports import metrics
from mmsrarec.storage import lock, runs
from mmsrarec.storage.resume import Run


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
    "publish": StageEntry("mmsrarec.publishing.publish", "Check the staged lists, then let readers see them."),
    "evaluate": StageEntry("mmsrarec.evaluation.evaluate", "HR, NDCG and AUC on held-out items, beside the baselines."),
    "clean": StageEntry("mmsrarec.publishing.clean", "Delete what dead runs left and what nobody needs any more."),
    "report": StageEntry("mmsrarec.reports.page.stage", "Write the page about the night, one HTML file."),
}


def run_stage(name: str, config: Config, run_id: str) -> None:
    STAGES[name].function(name)(config, run_id)


def run_stages(run: Run) -> None:
    """What is left of a run, in order; it holds the lake from the first stage to the last."""
    with lock.held(run.config, run.run_id):
        left = run.begin()
        for name in run.names[: len(run.names) - len(left)]:
            with log.context(stage=name):
                log.say(f"{name}: completed before this run was stopped", "stage_completed_before")
        for number, name in enumerate(left):
            with log.context(stage=name):
                _run_first(run, left[number:])
        run.finish()


def _run_first(run: Run, left: list[str]) -> None:
    """The first of the stages that are left."""
    name, config = left[0], run.config
    if config.budget.limited:
        importlib.import_module("mmsrarec.planning.plan").require(config, run.run_id, left)
    started = time.monotonic()
    with under_way(name):
        run_stage(name, config, run.run_id)
    _completed(run, name, time.monotonic() - started)
    metrics.write(config)


def _completed(run: Run, name: str, seconds: float) -> None:
    """Say what a stage has done: the line that stays of it on a terminal."""
    row = next(row for row in reversed(runs.ledger(run.config, run.run_id)) if row["stage"] == name)
    counts = {count: row[count] for count in ("rows_in", "rows_out", "rows_rejected")}
    said = [f"{name}: completed in {duration(seconds)}", f"{row['rows_in']:,} rows in, {row['rows_out']:,} out"]
    if rejected := row["notes"].get("rejected"):
        said.append("rejected " + ", ".join(f"{error} {rows:,}" for error, rows in rejected.items()))
    log.say("; ".join(said), "stage_completed", seconds=round(seconds, 1), **counts)
