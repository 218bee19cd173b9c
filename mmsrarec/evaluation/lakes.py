"""The lakes of a protocol: the offline evaluation is the night's own stages on histories that were cut otherwise.

    null            the night's lake as it is; nothing is made
    user_split      one lake, lake.root: like a night's
    leave_one_out   two: lake.root/fit, where parameters are tuned on validation questions, and lake.root/test, whose
    time_split      models know what was asked there; see preparation/cuts.py

In `test` nobody validates, so a network trains there for as many epochs as did best in `fit`, and what is learned from
validation users (the fusion, the LoRA adapters, the blend) is that of `fit`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from mmsrarec.collaborative import checkpoint
from mmsrarec.config import Config
from mmsrarec.engines import adapters

FUSED = ("fusion", "boosting")  # the methods that need all evidence


@dataclass(frozen=True)
class Lake:
    """A lake to be made: its name, its configuration, and the stages that make it. A network that is not the main one
    is trained by an entry of its own, whose stages stand in the ledger under another `run`."""

    name: str
    config: Config
    stages: tuple[str, ...]
    also: str = ""

    def run(self, run_id: str) -> str:
        return f"{run_id}-{self.also}" if self.also else run_id


def lakes(config: Config) -> Iterator[Lake]:
    """The lakes to make, in order. Each is told when the one before it is there."""
    if config.evaluation.protocol is None:
        return
    if not two_lakes(config):
        yield from _tuned(_lake("the lake", place(config, "test")))
        return
    yield from _tuned(_lake("fit", place(config, "fit")))
    for lake in _networks(_lake("test", place(config, "test"))):
        yield replace(lake, config=_as_long(lake.config, place(config, "fit")))


def _lake(name: str, config: Config) -> Lake:
    return Lake(name, config, _stages(config))


def _tuned(lake: Lake) -> Iterator[Lake]:
    """The lake, and where the model is asked what is learned in it from validation users."""
    yield from _networks(lake)
    if asks_mllm(lake.config):
        yield Lake(f"{lake.name}, tuning", lake.config, ("train_fusion", "tune_recommender"), "tuning")


def _networks(lake: Lake) -> Iterator[Lake]:
    """The lake, and what it takes to train the other networks in it: for rows of their own, and for the fusion."""
    methods, stages = lake.config.evaluation.methods, lake.stages
    asked = [with_network(lake.config, network) for network in checkpoint.NETWORKS if network in methods]
    asked += lake.config.evidence_networks if _fuses(lake.config) or asks_mllm(lake.config) else []
    behind: tuple[str, ...] = ()  # stages that wait for the network of the similar users
    if "index_cf" in stages and lake.config.similar_network is not lake.config:
        asked.append(lake.config.similar_network)
        stages, behind = stages[: stages.index("index_cf")], stages[stages.index("index_cf") :]
    yield replace(lake, config=_alone(lake.config), stages=stages)
    for name, config in {each.sasrec.name: each for each in asked}.items():
        if name != lake.config.sasrec.name:
            yield Lake(f"{lake.name}, {name}", _alone(config), ("train_sasrec",), name)
    if behind:
        yield replace(lake, stages=behind, also="index")


def _alone(config: Config) -> Config:
    """Without further networks, which train_sasrec would train at once and not each for as long as is best for it."""
    settings = {"fusion": config.retrieve.fusion.model_copy(update={"networks": []}), "similar_by": None}
    return config.model_copy(update={"retrieve": config.retrieve.model_copy(update=settings)})


def with_network(config: Config, network: str) -> Config:
    return config.model_copy(update={"sasrec": config.sasrec.model_copy(update={"network": network})})


def two_lakes(config: Config) -> bool:
    return config.evaluation.protocol in ("leave_one_out", "time_split")


def place(config: Config, part: str) -> Config:
    """The configuration of the lake where validation (fit) or test questions are asked. SASRec is never kept there from
    other histories, as from night to night: another protocol's checkpoint has seen what this one asks."""
    if config.evaluation.protocol is None:
        return config
    found = config.model_copy(update={"sasrec": config.sasrec.model_copy(update={"refresh_days": 0})})
    if not two_lakes(config):
        return found
    learned = config.lake.learned or (config.table("fit") if part == "test" else None)
    lake = config.lake.model_copy(update={"root": config.table(part), "learned": learned})
    return found.model_copy(update={"lake": lake, "evaluation": config.evaluation.model_copy(update={"part": part})})


def asks_mllm(config: Config) -> bool:
    """Is MMSRARec asked itself?"""
    return "mmsrarec" in config.evaluation.methods


def _fuses(config: Config) -> bool:
    return any(method in FUSED for method in config.evaluation.methods)


def _stages(config: Config) -> tuple[str, ...]:
    if asks_mllm(config):
        tuned = ("tune_summarizer",) if adapters.wanted(config, "summarizer") and not config.lake.learned else ()
        return ("build_cf", "train_sasrec", "index_cf", *tuned, "summarize_items")
    if _fuses(config):
        return ("build_cf", "train_sasrec", "index_cf")
    return ("build_cf", "train_sasrec") if config.sasrec.network in config.evaluation.methods else ("build_cf",)


def _as_long(test: Config, fit: Config) -> Config:
    """The network trains as many epochs as did best in `fit`, if it was trained there."""
    fitted = checkpoint.describe(checkpoint.folder(fit.model_copy(update={"sasrec": test.sasrec})))
    if not fitted:
        return test
    settings = test.sasrec.model_copy(update={"epochs": fitted["facts"]["best_epoch"]})
    return test.model_copy(update={"sasrec": settings})
