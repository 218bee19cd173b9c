"""The configuration: the only reader of conf/*.yaml.

`load(path, overrides)` gives one frozen `Config`. Every field is documented here and nowhere else; an unknown key, a
wrong type or a value out of range is a `ConfigError` that names the key, the file and the nearest valid key.
Relative paths are relative to the directory the command is started in.
"""

import difflib
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mmsrarec.errors import ConfigError

BUNDLED_MODEL = Path(__file__).parent / "demo" / "backbone"
Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True, protected_namespaces=())


class Inputs(Section):
    """The user's own data."""

    items: str = Field(description="items: a Delta table, a Parquet file or folder, or a CSV file")
    interactions: str = Field(description="interactions: a Delta table, a Parquet file or folder, or a CSV file")
    images: str | None = Field(None, description="folder, .zip archive or prefix the image column is relative to")
    columns: dict[str, str] = Field({}, description="our column name = the name in your files")
    text: list[str] = Field(["title", "description", "category"], description="item columns that make up its text")


class Lake(Section):
    """Where all tables go."""

    root: str = Field("lake", description="folder of the Delta tables, the index and the checkpoints")


class Run(Section):
    """What holds for every stage."""

    date: str | None = Field(None, pattern=r"^\d{4}-\d{2}-\d{2}$", description="date of the lists; default today (UTC)")
    seed: int = Field(17, description="seed of everything random")
    error_budget: Fraction = Field(0.2, description="a stage stops when more than this share of its rows is rejected")

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


class Index(Section):
    """The Milvus collection of training users."""

    uri: str | None = Field(None, description="a Milvus server; default a Milvus Lite folder in the lake")
    token_env: str | None = Field(None, description="environment variable that holds the server's token")
    collection: str = "training_users"
    positions: Positive = Field(5, description="latest positions of a training user that go in")


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
    plan: Plan = Plan()
    budget: Budget = Budget()

    @model_validator(mode="after")
    def _money_has_a_price(self) -> "Config":
        if self.budget.money is not None and self.plan.price_per_hour is None:
            raise ValueError("budget.money needs plan.price_per_hour")
        return self

    @property
    def model_path(self) -> str:
        """Folder or hub name for the engine."""
        return str(BUNDLED_MODEL) if self.model == "bundled" else self.model

    def table(self, name: str) -> str:
        """Address of the table `name` in the lake."""
        return f"{self.lake.root.rstrip('/')}/{name}"


def load(path: str | Path, overrides: tuple[str, ...] | list[str] = ()) -> Config:
    """Read a YAML file and apply `a.b=value` overrides, whose values are YAML themselves.

    Raises ConfigError with every problem found, one per line.
    """
    source = Path(path)
    try:
        values = yaml.safe_load(source.read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; conf/local.yaml is an example to start from") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected sections such as 'inputs:', found {type(values).__name__}")
    for override in overrides:
        _override(values, override)
    try:
        return Config.model_validate(_plain(values))
    except ValidationError as error:
        origin = f"{path} (with --set)" if overrides else str(path)
        raise ConfigError("\n".join(_explain(origin, problem) for problem in error.errors())) from None


def _override(values: dict, override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {override}: expected a.b=value")
    *parents, last = key.strip().split(".")
    if parents[:2] == ["inputs", "columns"] and len(parents) > 2:
        raise ConfigError(f"--set {override}: expected inputs.columns.OURS=THEIRS")
    place = values
    for parent in parents:
        place = place.setdefault(parent, {})
        if not isinstance(place, dict):
            raise ConfigError(f"--set {override}: {parent} is a value, not a section")
    try:
        place[last] = yaml.safe_load(text) if text else None
    except yaml.YAMLError:
        place[last] = text


def _plain(value: Any) -> Any:
    """YAML reads 2026-11-21 as a date where we mean the text; keys such as 1 become text too."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, date):
        return value.isoformat()
    return value


def _explain(origin: str, problem: Any) -> str:
    location = [str(part) for part in problem["loc"]]
    key = ".".join(location)
    if problem["type"] == "extra_forbidden":
        section = _section(location[:-1])
        near = difflib.get_close_matches(location[-1], section.model_fields, n=1, cutoff=0.0)
        known = ", ".join(section.model_fields)
        return f"{origin}: unknown key {key}; did you mean {'.'.join([*location[:-1], near[0]])}? (known here: {known})"
    if problem["type"] == "missing":
        return f"{origin}: {key} is missing; add it or give --set {key}=…"
    return f"{origin}: {key}: {problem['msg']} (found {problem['input']!r})" if key else f"{origin}: {problem['msg']}"


def _section(location: list[str]) -> type[Section]:
    section: type[Section] = Config
    for name in location:
        section = section.model_fields[name].annotation
    return section
