"""The configuration as a whole; its sections are in data.py, models.py, tuning.py, evaluation.py and nights.py. Every
setting with its meaning stands there and nowhere else; frozen, and refused at birth where it is nonsense.

Relative paths are relative to the directory the command is started in.
"""

import hashlib
import json
import re
from pathlib import Path

from pydantic import Field, model_validator

from mmsrarec.config.data import BuildCf, Inputs, Lake, Run, Spark
from mmsrarec.config.evaluation import Evaluation
from mmsrarec.config.models import Engine, Index, Recommend, Retrieve, Sasrec, SummarizeItems
from mmsrarec.config.nights import Budget, Cache, Plan, Publish, Report, Rules
from mmsrarec.config.section import Section
from mmsrarec.config.tuning import TuneRecommender, TuneSummarizer, Tuning

BUNDLED_MODEL = Path(__file__).parent.parent / "demo" / "backbone"


class Config(Section):
    """Everything a run needs to know."""

    inputs: Inputs
    model: str = Field("bundled", description="folder or hub name of an MLLM that vLLM serves; bundled: the demo's")
    dataset: str = Field("shop", description="name of the data set in the evaluation table")
    lake: Lake = Lake()
    run: Run = Run()
    spark: Spark = Spark()
    build_cf: BuildCf = BuildCf()
    sasrec: Sasrec = Sasrec()
    index: Index = Index()
    engine: Engine = Engine()
    tune_summarizer: TuneSummarizer = TuneSummarizer()
    summarize_items: SummarizeItems = SummarizeItems()
    retrieve: Retrieve = Retrieve()
    tune_recommender: TuneRecommender = TuneRecommender()
    recommend: Recommend = Recommend()
    evaluation: Evaluation = Evaluation()
    answers: Cache = Cache()
    plan: Plan = Plan()
    budget: Budget = Budget()
    publish: Publish = Publish()
    rules: Rules = Rules()
    report: Report = Report()

    @model_validator(mode="after")
    def _money_has_a_price(self) -> "Config":
        if self.budget.money is not None and self.plan.price_per_hour is None:
            raise ValueError("budget.money needs plan.price_per_hour")
        return self

    @model_validator(mode="after")
    def _blends_what_there_is(self) -> "Config":
        if self.recommend.blend and not self.retrieve.fusion.enabled:
            raise ValueError("recommend.blend needs retrieve.fusion.enabled: p_yes is blended with its score")
        return self

    @model_validator(mode="after")
    def _no_credentials(self) -> "Config":
        """Of the whole, so that the message does not show what was given."""
        places = {
            "inputs.items": self.inputs.items,
            "inputs.interactions": self.inputs.interactions,
            "inputs.images": self.inputs.images,
            "inputs.image_sources": " ".join(self.inputs.image_sources),
            "model": self.model,
            "lake.root": self.lake.root,
            "lake.learned": self.lake.learned,
            "sasrec.text_vectors": self.sasrec.text_vectors,
            "index.uri": self.index.uri,
            "report.out": self.report.out,
            "tune_summarizer.adapter": self.tune_summarizer.adapter,
            "tune_summarizer.language_model": self.tune_summarizer.language_model,
            "tune_recommender.adapter": self.tune_recommender.adapter,
        }
        for name, place in places.items():
            if place and re.search(r"://[^/\s]*@", place):
                raise ValueError(
                    f"{name}: user and password do not belong in an address; they come from the environment"
                )
        return self

    @property
    def evidence_networks(self) -> list["Config"]:
        """One for each network that is evidence: this, and with its settings in `sasrec` each of
        retrieve.fusion.networks that is not this one's own."""
        names = [name for name in dict.fromkeys(self.retrieve.fusion.networks) if name != self.sasrec.name]
        return [self, *(self.model_copy(update={"sasrec": self.sasrec.named(name)}) for name in names)]

    @property
    def similar_network(self) -> "Config":
        """This, with the settings of the network whose states find similar users (retrieve.similar_by) in `sasrec`."""
        name = self.retrieve.similar_by
        if name in (None, "none", self.sasrec.name):
            return self
        return self.model_copy(update={"sasrec": self.sasrec.named(str(name))})

    @property
    def networks(self) -> list["Config"]:
        """One for each network that is trained."""
        found = self.evidence_networks
        known = {each.sasrec.name for each in found}
        return found if self.similar_network.sasrec.name in known else [*found, self.similar_network]

    @property
    def model_path(self) -> str:
        """Folder or hub name for the engine."""
        return str(BUNDLED_MODEL) if self.model == "bundled" else self.model

    @property
    def adapters(self) -> dict[str, Tuning]:
        """The settings of the LoRA adapters that engines are asked with, by kind."""
        found: dict[str, Tuning] = {}
        if self.summarize_items.summarizer == "grpo":
            found["summarizer"] = self.tune_summarizer
        if self.recommend.training != "untrained":
            found["recommender"] = self.tune_recommender
        return found

    @property
    def hash(self) -> str:
        """Of the settings that decide what comes out: not where things lie, nor on which machines they are made."""
        beside = {"inputs", "lake", "spark", "engine", "report", "plan", "budget", "answers"}
        settings = self.model_dump(mode="json", exclude=beside) | {"engine": [self.engine.dtype, self.engine.extra]}
        for name in ("log", "metrics", "id", "wait", "lease", "date"):
            settings["run"].pop(name)
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def merges(self) -> bool:
        """Whether engines have adapters in their weights instead of beside them."""
        apart = "served" if self.engine.num_gpus else "merged"
        return bool(self.adapters) and (apart if self.engine.lora == "auto" else self.engine.lora) == "merged"

    @property
    def page(self) -> str:
        """The report's file."""
        return self.report.out or self.table("report.html")

    def learned(self, name: str) -> str:
        """Address of what was learned from validation users, here or in another lake."""
        return f"{(self.lake.learned or self.lake.root).rstrip('/')}/{name}"

    def table(self, name: str) -> str:
        """Address of the table `name` in the lake."""
        return f"{self.lake.root.rstrip('/')}/{name}"
