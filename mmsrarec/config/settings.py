"""Every setting with its meaning, documented here and nowhere else; frozen, and refused at birth where it is nonsense.

Relative paths are relative to the directory the command is started in.
"""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

BUNDLED_MODEL = Path(__file__).parent.parent / "demo" / "backbone"
Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", coerce_numbers_to_str=True, protected_namespaces=(), hide_input_in_errors=True
    )


class Inputs(Section):
    """The user's own data."""

    items: str = Field(description="items: a Delta table, a Parquet file or folder, or a CSV file")
    interactions: str = Field(description="interactions: a Delta table, a Parquet file or folder, or a CSV file")
    images: str | None = Field(
        None, description="what the image column is relative to: a folder, s3:// or https:// too, or a .zip archive"
    )
    image_sources: list[str] = Field(
        [], description="https://HOST/FOLDER or s3://BUCKET/FOLDER below which an item's image address is followed"
    )
    private_hosts: list[str] = Field([], description="HOST or HOST:PORT of these that may be in a private network")
    columns: dict[str, str] = Field({}, description="our column name = the name in your files")
    text: list[str] = Field(["title", "description", "category"], description="item columns that make up its text")


class Lake(Section):
    """Where all tables go."""

    root: str = Field("lake", description="folder, s3:// too, of the Delta tables, the index and the checkpoints")
    keep_days: Count = Field(7, description="files that no table has needed for this many days are deleted by clean")


class Run(Section):
    """What holds for every stage."""

    date: str | None = Field(None, pattern=r"^\d{4}-\d{2}-\d{2}$", description="date of the lists; default today (UTC)")
    seed: int = Field(17, description="seed of everything random")
    error_budget: Fraction = Field(0.2, description="a stage stops when more than this share of its rows is rejected")
    lease: Positive = Field(300, description="seconds without a heartbeat after which a run's lock may be taken over")
    metrics: str | None = Field(None, description="file of the Prometheus metrics; default metrics.prom in the lake")

    @property
    def run_date(self) -> str:
        return self.date or datetime.now(UTC).date().isoformat()


class Spark(Section):
    """The Spark session, where no spark-submit has made one."""

    master: str = "local[*]"
    driver_memory: str = "2g"
    shuffle_partitions: Positive = 8
    conf: dict[str, str] = Field({}, description="further Spark settings")


class BuildCf(Section):
    """Histories and co-occurrence."""

    repeats: Literal["first", "all"] = Field("first", description="of a user's repeated takes of an item keep which")
    window: Positive = Field(5, description="co-occurrence counts pairs at most this many positions apart")
    decay: Fraction = Field(0.8, description="weight of a pair at distance d is decay^(d-1)")
    top_n: Positive = Field(50, description="neighbors kept per item")
    max_history: Positive = Field(200, description="per user only the latest this many interactions make pairs")
    validation_fraction: Fraction = Field(0.1, description="users whose last item validates")
    test_fraction: Fraction = Field(0.1, description="users whose last item is held out for evaluate")

    @model_validator(mode="after")
    def _some_users_train(self) -> "BuildCf":
        if self.validation_fraction + self.test_fraction >= 1:
            raise ValueError("validation_fraction and test_fraction leave no training users; their sum must be below 1")
        return self


class Sasrec(Section):
    """SASRec (Kang and McAuley 2018) with full-catalog cross-entropy."""

    dim: Positive = 64
    layers: Positive = 2
    heads: Positive = 2
    max_length: Positive = 50
    dropout: Fraction = 0.2
    learning_rate: float = Field(1e-3, gt=0)
    batch_size: Positive = 128
    epochs: Positive = 40
    patience: Positive = Field(8, description="epochs without a better validation NDCG@10 before training stops")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    refresh_days: Count = Field(
        7, description="days a checkpoint serves before new interactions train another; 0: every run with new ones"
    )


class Index(Section):
    """The Milvus collection of training users."""

    uri: str | None = Field(None, description="a Milvus server, or a folder; default a Milvus Lite folder in the lake")
    token_env: str | None = Field(None, description="environment variable that holds the server's token")
    collection: str = "training_users"
    positions: Positive = Field(5, description="latest positions of a training user that go in")
    probe: Fraction = Field(1 / 16, description="share of a large collection that a search looks through")
    min_recall: Fraction = Field(0.9, description="least recall against exact search before the alias is swapped")


class Engine(Section):
    """vLLM, one engine per Ray actor."""

    dtype: str = "auto"
    max_model_len: Positive = 1024
    max_num_seqs: Positive = 128
    block_size: Positive | None = Field(None, description="KV-cache block; prefixes are shared in whole blocks")
    kv_cache_gb: float = Field(1.0, gt=0, description="CPU only: GiB of KV cache")
    gpu_memory_utilization: Fraction = 0.9
    tensor_parallel_size: Positive = 1
    enforce_eager: bool | None = Field(
        None, description="run the model uncompiled; default: only on a CPU without a C++ compiler"
    )
    trust_remote_code: bool = False
    replicas: Positive = Field(1, description="engines side by side")
    num_gpus: float = Field(0, ge=0, description="GPUs per engine; 0 on a CPU")
    batch_rows: Positive = Field(32, description="users or items handed to an engine at a time")
    extra: dict[str, Any] = Field({}, description="further vLLM engine arguments")


class SummarizeItems(Section):
    """Stage 1 of the method: item keywords."""

    use_images: bool = True
    use_text: bool = True
    max_keywords: Positive = Field(8, description="keywords kept per modality")
    max_tokens: Positive = Field(48, description="tokens an answer may have")
    max_text_chars: Positive = Field(1000, description="an item's text is cut to this many characters")
    image_pixels: Positive = Field(448 * 448, description="a picture is scaled down to this many pixels")


class Retrieve(Section):
    """Stage 2: similar users, candidates and the evidence about them."""

    similar_users: Count = Field(3, description="k of the method; 0 switches similar users off")
    neighbors: Positive = Field(50, description="similar users whose next items become candidates")
    from_sasrec: Count = Field(20, description="candidates from SASRec over the full catalog")
    from_similar_users: Count = 10
    from_cooccurrence: Count = 10
    from_content: Count = Field(10, description="candidates whose keywords are near the history's")
    from_similar_content: Count = Field(10, description="candidates whose keywords are near what similar users took")
    from_new: Count = Field(2, description="of these, items that nobody has taken yet")
    candidates: Positive = Field(30, description="candidates per user; popular items fill up")


class Recommend(Section):
    """Stage 3: scoring and the lists."""

    top_k: Positive = 10
    history: Positive = Field(5, description="n of the method: latest items shown in the prompt")
    evidence: bool = Field(True, description="show the evidence about the candidate")
    candidate_image: bool = Field(False, description="show the candidate's picture (slower: see the README)")
    because: Positive = Field(3, description="keywords given as the reason")


class Evaluate(Section):
    """Metrics on the held-out items of the test users."""

    ks: list[Positive] = [5, 10]
    negatives: Positive = Field(20, description="sampled negatives per user (the paper's 1 + 20)")
    max_users: Positive = Field(1000, description="test users drawn at most")
    bootstrap: Positive = Field(1000, description="resamples behind an interval")


class Plan(Section):
    """The price before the run; what is given here stands in the place of what earlier runs have shown."""

    sample: Positive = Field(100, description="items or users whose tokens are counted; the rest is scaled from them")
    answer_tokens: Positive | None = Field(None, description="of a first keyword answer; default half of max_tokens")
    items_per_second: float | None = Field(None, gt=0, description="speed of summarize_items; default: the ledger's")
    pairs_per_second: float | None = Field(None, gt=0, description="speed of scoring; default: the ledger's")
    price_per_hour: float | None = Field(None, ge=0, description="of all machines that a run holds")
    currency: str = "EUR"


class Budget(Section):
    """What a run may spend on its engines, all stages together; null is no limit. It is refused before one starts."""

    tokens: Count | None = Field(None, description="prompt and output tokens")
    hours: float | None = Field(None, ge=0, description="hours of the stages that ask an engine")
    money: float | None = Field(None, ge=0, description="in plan.currency; needs plan.price_per_hour")

    @property
    def limited(self) -> bool:
        return (self.tokens, self.hours, self.money) != (None, None, None)


class Publish(Section):
    """Gates between the staged lists and the readers; comparisons are with the published night before, if any."""

    users_covered: Fraction = Field(0.99, description="least share of the users that have a list")
    lists_full: Fraction = Field(0.95, description="least share of the lists that have recommend.top_k items")
    mean_shift: Fraction = Field(0.1, description="the mean score moves at most this much")
    quantile_shift: Fraction = Field(0.2, description="so much do their 10%, 50% and 90% quantiles at most")
    overlap_min: Fraction = Field(0.1, description="least share of the items that were on the user's list before")
    overlap_max: Fraction = Field(1.0, description="most of that share; below 1 it tells a night that stands still")
    keep_staged: Positive = Field(14, description="latest nights kept in staged_recommendations")


class Rules(Section):
    """What may be listed; decided before any candidate is scored. Files are tables with an item_id or user_id."""

    categories: list[str] = Field([], description="categories that may be listed; none named: all")
    quota: Positive | None = Field(None, description="most items of one category in a list")
    quotas: dict[str, Positive] = Field({}, description="the same for single categories")
    exclude_items: list[str] = []
    exclude_items_file: str | None = None
    exclude_users: list[str] = Field([], description="users who get no list; their data counts, unlike after forget")
    exclude_users_file: str | None = None


class Cache(Section):
    """The table `answers`: what an engine was asked before."""

    keep_days: Positive = Field(
        30, description="an answer that no run asks for in this many days is deleted, at the latest after twice as many"
    )


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
    summarize_items: SummarizeItems = SummarizeItems()
    retrieve: Retrieve = Retrieve()
    recommend: Recommend = Recommend()
    evaluate: Evaluate = Evaluate()
    answers: Cache = Cache()
    plan: Plan = Plan()
    budget: Budget = Budget()
    publish: Publish = Publish()
    rules: Rules = Rules()

    @model_validator(mode="after")
    def _money_has_a_price(self) -> "Config":
        if self.budget.money is not None and self.plan.price_per_hour is None:
            raise ValueError("budget.money needs plan.price_per_hour")
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
            "index.uri": self.index.uri,
        }
        for name, place in places.items():
            if place and re.search(r"://[^/\s]*@", place):
                raise ValueError(
                    f"{name}: user and password do not belong in an address; they come from the environment"
                )
        return self

    @property
    def model_path(self) -> str:
        """Folder or hub name for the engine."""
        return str(BUNDLED_MODEL) if self.model == "bundled" else self.model

    def table(self, name: str) -> str:
        """Address of the table `name` in the lake."""
        return f"{self.lake.root.rstrip('/')}/{name}"
