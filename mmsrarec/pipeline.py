"""The stages in their order, for one command on one machine; jobs/ run the same functions on a cluster.

    items, interactions -> build_cf -> train_sasrec -> index_cf -------------------+
                               |                                                   v
                               +-> tune_summarizer -> summarize_items -> train_fusion -> retrieve -> tune_recommender -+
                                                                                                                       v
                                                 report <- clean <- evaluate <- publish <- recommend <-----------------+

A stage is a function (config, run_id) that reads and writes tables; nothing else passes between stages.
"""

import importlib
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import dropwhile

from mmsrarec import log
from mmsrarec.config import Config
from mmsrarec.progress import duration, under_way
from mmsrarec.reports import ledger, metrics
from mmsrarec.storage import lock, runs, tables
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
    "tune_summarizer": StageEntry(
        "mmsrarec.training.summarizer_stage",
        "Ray Train + TRL: an adapter for the keywords by GRPO, taken if it beats the untuned model (summarizer: grpo).",
    ),
    "summarize_items": StageEntry(
        "mmsrarec.keywords.summarize", "Ray + vLLM: keywords of every item's picture and text."
    ),
    "train_fusion": StageEntry(
        "mmsrarec.training.fusion_stage", "Learn the pre-ranker from what validation users took (retrieve.fusion)."
    ),
    "retrieve": StageEntry("mmsrarec.collaborative.retrieve", "Similar users, candidates and evidence for every user."),
    "tune_recommender": StageEntry(
        "mmsrarec.training.recommender_stage",
        "Ray Train: a LoRA adapter for the scores, from what validation users took (recommend.training).",
    ),
    "recommend": StageEntry("mmsrarec.recommendation.recommend", "Ray + vLLM: score the candidates, write the lists."),
    "publish": StageEntry("mmsrarec.publishing.publish", "Check the staged lists, then let readers see them."),
    "evaluate": StageEntry(
        "mmsrarec.evaluation.evaluate",
        "HR, NDCG and AUC on held-out items, beside the baselines; with evaluation.protocol from raw files on.",
    ),
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


def conclude(run: Run, status: int, seconds: float) -> None:
    """What is left of a run that has ended, with whatever status: its metrics, and its last line."""
    metrics.write(run.config)
    ledger.last_line(run.config, run.run_id, status, seconds)


def _run_first(run: Run, left: list[str]) -> None:
    """The first of the stages that are left."""
    name, config = left[0], run.config
    if name == "evaluate":
        make_lakes(config, run.run_id)
    _affordable(config, run.run_id, left)
    timed(name, config, run.run_id)
    metrics.write(config)


def _affordable(config: Config, run_id: str, left: list[str]) -> None:
    if config.budget.limited:
        importlib.import_module("mmsrarec.planning.plan").require(config, run_id, left)


def make_lakes(config: Config, run_id: str, once: Collection[str] = ()) -> None:
    """The lakes of evaluation.protocol, as far as this run has not made them: they keep its stages in their ledgers.
    The stages `once` are left out of a lake that has histories."""
    for lake in importlib.import_module("mmsrarec.evaluation.lakes").lakes(config):
        lake_run = lake.run(run_id)
        rows = runs.ledger(lake.config, lake_run)
        done = {row["stage"] for row in rows if row["status"] == "completed"}
        done |= set(once) if tables.exists(lake.config.lake.root, "histories") else set()
        left = list(dropwhile(done.__contains__, lake.stages))
        for number, name in enumerate(left):
            tables.delete(lake.config.lake.root, "rejects", f"run_id = '{lake_run}' AND stage = '{name}'")
            with log.context(stage=name):
                log.say(f"{name}: of {lake.name}, {lake.config.lake.root}", "lake_stage")
                _affordable(lake.config, lake_run, left[number:])
                timed(name, lake.config, lake_run)


def timed(name: str, config: Config, run_id: str) -> None:
    """Run a stage and say what it has done: the line that stays of it on a terminal."""
    started = time.monotonic()
    with under_way(name):
        run_stage(name, config, run_id)
    seconds = time.monotonic() - started
    row = next(row for row in reversed(runs.ledger(config, run_id)) if row["stage"] == name)
    counts = {count: row[count] for count in ("rows_in", "rows_out", "rows_rejected")}
    said = [f"{name}: completed in {duration(seconds)}", f"{row['rows_in']:,} rows in, {row['rows_out']:,} out"]
    if rejected := row["notes"].get("rejected"):
        said.append("rejected " + ", ".join(f"{error} {rows:,}" for error, rows in rejected.items()))
    log.say("; ".join(said), "stage_completed", seconds=round(seconds, 1), **counts)
