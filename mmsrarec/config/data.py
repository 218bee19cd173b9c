"""Settings of what comes in, where tables go, and how Spark prepares them."""

import codecs
import os
from datetime import UTC, datetime
from typing import Literal

from pydantic import Field, field_validator, model_validator

from mmsrarec.config.section import Count, Fraction, Positive, Section


class Csv(Section):
    """How a CSV file is written, where its name does not say it; a quote within quotes is doubled."""

    delimiter: str | None = Field(None, min_length=1, max_length=1, description="default: tab in .tsv, else comma")
    encoding: str = Field("utf-8", description="as in utf-16, windows-1252, shift_jis")

    @field_validator("encoding")
    @classmethod
    def _is_known(cls, name: str) -> str:
        try:
            codecs.lookup(name)
        except LookupError:
            raise ValueError("no encoding is called so; utf-8, utf-16 and windows-1252 are the usual ones") from None
        return name


class CsvFiles(Section):
    """Of the inputs that are CSV files."""

    items: Csv = Csv()
    interactions: Csv = Csv()


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
    interactions_columns: dict[str, str] = Field(
        {}, description="the same for the interactions alone, where both files call a column differently"
    )
    csv: CsvFiles = CsvFiles()
    text: list[str] = Field(["title", "description", "category"], description="item columns that make up its text")


class Lake(Section):
    """Where all tables go."""

    root: str = Field("lake", description="folder, s3:// too, of the Delta tables, the index and the checkpoints")
    learned: str | None = Field(
        None,
        description="root of another lake whose LoRA adapters and fusion serve here, where none are then made, and "
        "whose answers are not asked for again; null: this lake's own",
    )
    keep_days: Count = Field(7, description="files that no table has needed for this many days are deleted by clean")


class Run(Section):
    """What holds for every stage."""

    date: str | None = Field(None, pattern=r"^\d{4}-\d{2}-\d{2}$", description="date of the lists; default today (UTC)")
    seed: int = Field(17, description="seed of everything random")
    error_budget: Fraction = Field(0.2, description="a stage stops when more than this share of its rows is rejected")
    lease: Positive = Field(300, description="seconds without a heartbeat after which a run's lock may be taken over")
    metrics: str | None = Field(None, description="file of the Prometheus metrics; default metrics.prom in the lake")
    id: str | None = Field(
        None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$", description="run_id, the same for the jobs of one night"
    )
    wait: Count = Field(0, description="seconds to wait for a lake that another run holds; 0: refuse at once")
    log: str | None = Field(
        None, description="file of what Spark, Ray and vLLM print; default logs/RUN_ID.log in the lake"
    )

    @property
    def run_date(self) -> str:
        return self.date or datetime.now(UTC).date().isoformat()

    def days_from(self, day: str) -> int:
        """How many days the run's date is from another one, before or after."""
        return abs((datetime.fromisoformat(self.run_date) - datetime.fromisoformat(day)).days)


class Spark(Section):
    """The Spark session, where no spark-submit has made one."""

    master: str | None = Field(
        None, description="local[N], or a cluster's address; default SPARK_MASTER, MASTER, else local[*]"
    )
    driver_memory: str = Field("2g", description="memory of the driver's Java process, such as 2g")
    shuffle_partitions: Positive = Field(8, description="partitions of a shuffle; more for more rows or machines")
    conf: dict[str, str] = Field({}, description="further Spark settings")

    @property
    def place(self) -> str:
        """Where Spark runs, where no spark-submit says it."""
        return self.master or os.environ.get("SPARK_MASTER") or os.environ.get("MASTER") or "local[*]"


class BuildCf(Section):
    """Histories and co-occurrence."""

    repeats: Literal["first", "all"] = Field("first", description="which of a user's repeated takes of an item count")
    window: Positive = Field(5, description="co-occurrence counts pairs at most this many positions apart")
    decay: Fraction = Field(0.8, description="weight of a pair at distance d is decay^(d-1)")
    top_n: Positive = Field(50, description="neighbors kept per item")
    max_history: Positive = Field(200, description="per user only the latest this many interactions make pairs")
    validation_fraction: Fraction = Field(0.1, description="share of the users whose last item validates")
    test_fraction: Fraction = Field(0.1, description="share of the users whose last item is held out for evaluate")

    @model_validator(mode="after")
    def _some_users_train(self) -> "BuildCf":
        if self.validation_fraction + self.test_fraction >= 1:
            raise ValueError("validation_fraction and test_fraction leave no training users; their sum must be below 1")
        return self
