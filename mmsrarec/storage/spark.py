"""Spark with Delta: the session, reading what users bring, writing our tables.

The Arrow side is storage/tables.py; both write the same plain protocol; on S3 it alone writes
(handover.py). What the rows mean is preparation/'s business.
"""

import getpass
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from delta.tables import DeltaTable
from py4j.protocol import Py4JError, Py4JNetworkError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema
from pyspark.sql.types import StructType

from mmsrarec import log
from mmsrarec.config import Config
from mmsrarec.errors import ConfigError, InputError, ProcessDiedError, UserError, explains, shortened
from mmsrarec.schemas import TABLES
from mmsrarec.storage import files, guard, handover, inputs, tables
from mmsrarec.storage.scratch import Scratch

# What every session needs, however it was started.
SETTINGS = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.sql.session.timeZone": "UTC",
    # pandas writes nanoseconds by default, for which Spark has no type; as integers they are plain timestamps.
    "spark.sql.legacy.parquet.nanosAsLong": "true",
    # Otherwise a CSV file may be UTF or ISO-8859-1 only.
    "spark.sql.legacy.javaCharsets": "true",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    # A Delta log of ours has a few files: the default of 50 tasks to read one costs seconds per commit.
    "spark.databricks.delta.snapshotPartitions": "2",
}
LOOKS = 32  # tasks by which the executors tell whether they see a folder
# Its one use of pandas here is to ask for the version.
warnings.filterwarnings("ignore", message="PySpark does not yet fully support pandas")
# Some errors of Spark reach Python as its own exceptions and some as plain Java ones; both carry [CONDITION] message.
CONDITION = re.compile(r"\[(?P<name>[A-Z_]+)[A-Z_.]*\] *(?P<message>[^\n]*)")
LOST = re.compile(r"ExecutorLostFailure \([^)]*\) *(?P<why>[^\n]*)")
UNREADABLE = (
    "CANNOT_READ",
    "FAILED_READ",
    "UNABLE_TO_INFER",
    "DELTA_",
    "COLUMN_ALREADY_EXISTS",
    "MALFORMED",
    "INVALID_PARAMETER_VALUE",
    "PARQUET",
)


def session(config: Config) -> SparkSession:
    """The running session, or a new one.

    Under spark-submit its own --master, memory and the like hold; without it `config.spark` says them.
    """
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.appName("mmsrarec")
    submitted = "PYSPARK_GATEWAY_PORT" in os.environ  # its Java was there before us, and prints where it will
    if not submitted:
        builder = builder.master(config.spark.place).config("spark.driver.memory", config.spark.driver_memory)
    settings = {
        **SETTINGS,
        "spark.sql.shuffle.partitions": str(config.spark.shuffle_partitions),
        "spark.sql.warehouse.dir": os.path.join(tempfile.gettempdir(), f"spark-warehouse-{getpass.getuser()}"),
        **_s3a(),
        **config.spark.conf,
    }
    for key, value in settings.items():
        builder = builder.config(key, value)
    try:
        spark = builder.getOrCreate()
    except (Py4JNetworkError, ConnectionError):
        raise  # it did start, and died
    except (PySparkException, Py4JError, OSError) as error:
        raise UserError(
            f"Spark does not start (a JDK 17 or later must be on PATH): {str(error).strip().splitlines()[0]}"
        ) from error
    # What fails in a task comes up as an exception; Spark prints its trace as well.
    spark.sparkContext.setLogLevel("WARN" if log.diverted() and not submitted else "OFF")
    _check_reach(spark, config)
    return spark


def _check_reach(spark: SparkSession, config: Config) -> None:
    """Raises ConfigError where executors do not see the lake: what they write would be lost without a word."""
    if not files.is_local(config.lake.root) or spark.sparkContext.master.startswith("local"):
        return
    with Scratch("reach", Path(config.table("staging")).resolve()) as scratch:
        for number in range(LOOKS):
            (scratch.path / f"{number}.txt").touch()
        try:
            seen = spark.sparkContext.wholeTextFiles(f"{scratch.path.as_uri()}/*.txt", LOOKS)._jrdd.count()
        except Py4JError:
            seen = 0
    if seen < LOOKS:
        raise ConfigError(
            f"lake.root={config.lake.root} is not on every node of {spark.sparkContext.master}: put the lake on S3, or "
            "on a disk that every node has at the same place"
        )


def _s3a() -> dict[str, str]:
    """What boto3 and delta-rs take from the environment and s3a does not."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if not endpoint:
        return {}
    return {"spark.hadoop.fs.s3a.endpoint": endpoint, "spark.hadoop.fs.s3a.path.style.access": "true"}


def read_input(spark: SparkSession, config: Config, table: str) -> DataFrame:
    """A Delta table, a Parquet file or folder, or CSV (every column a string); `table` is items or interactions.

    Raises InputError, naming the setting, where there is nothing that can be read.
    """
    source = inputs.source(config, table)
    _reachable(spark, getattr(config.inputs, table), source)
    with readable(source):
        rows = _load(spark, config, table)
    if not rows.columns:
        raise InputError(f"{source}: the file is empty")
    return rows


def input_version(spark: SparkSession, path: str) -> int | None:
    """The Delta version that `read_input` reads; None where the input is no Delta table."""
    if not DeltaTable.isDeltaTable(spark, _address(path)):
        return None
    return DeltaTable.forPath(spark, _address(path)).history(1).collect()[0]["version"]


def _reachable(spark: SparkSession, path: str, setting: str) -> None:
    """Raise UserError where it is on S3 and this Spark has not learned to read there."""
    if not files.is_local(path) and path.startswith("s3") and not _has_s3a(spark):
        raise UserError(
            f"{setting}={path}: this Spark has no s3a (hadoop-aws and what it needs, 14 MB): `python -m "
            "mmsrarec.storage.jars --s3a` adds it to this environment's; or name local copies of the files"
        )


def _has_s3a(spark: SparkSession) -> bool:
    try:
        spark._jvm.java.lang.Class.forName("org.apache.hadoop.fs.s3a.S3AFileSystem")
    except Py4JError:
        return False
    return True


def _address(path: str) -> str:
    return path.replace("s3://", "s3a://", 1) if path.startswith("s3://") else path


def _load(spark: SparkSession, config: Config, table: str) -> DataFrame:
    address = _address(getattr(config.inputs, table))
    if DeltaTable.isDeltaTable(spark, address):
        return spark.read.format("delta").load(address)
    names = _names(spark, address, inputs.source(config, table))
    if inputs.kind(names, config, table) == ".parquet":
        return spark.read.parquet(address)
    written = {"sep": inputs.delimiter(names, config, table), "encoding": getattr(config.inputs.csv, table).encoding}
    options = {"header": True, "multiLine": True, "quote": '"', "escape": '"'}
    return spark.read.options(**options, **written).csv(address)


def read_table(spark: SparkSession, config: Config, name: str) -> DataFrame:
    """One of our tables; an empty one with its schema where it does not exist yet."""
    if not files.is_local(config.lake.root):
        return spark.createDataFrame(tables.read(config.lake.root, name).to_pylist(), table_schema(name))
    address = config.table(name)
    if not DeltaTable.isDeltaTable(spark, address):
        return spark.createDataFrame([], table_schema(name))
    return spark.read.format("delta").load(address)


def write_table(rows: DataFrame, config: Config, name: str, mode: str = "overwrite") -> None:
    """One commit that replaces the table (or appends to it), with exactly the columns and types of schemas.TABLES."""
    columns = [F.col(field.name).cast(field.dataType).alias(field.name) for field in table_schema(name)]
    rows = rows.select(*columns)
    if not files.is_local(config.lake.root):
        return handover.write(rows, config, name, mode)
    # Asked when the rows are about to be computed: the commit itself is the JVM's.
    guard.check(config.lake.root)
    writer = rows.write.format("delta").mode(mode).options(**tables.PROPERTIES)
    if mode == "overwrite":
        writer = writer.option("overwriteSchema", "true")
    writer.save(config.table(name))


def table_schema(name: str) -> StructType:
    """The Spark schema of a table of ours."""
    return from_arrow_schema(TABLES[name], prefer_timestamp_ntz=False)


@contextmanager
def readable(source: str) -> Iterator[None]:
    """Turn Spark's errors about broken files, which may come as late as the first action, into an InputError."""
    try:
        yield
    except (PySparkException, Py4JError) as error:
        found = CONDITION.search(str(error))
        if found is None or not found["name"].startswith(UNREADABLE):
            raise
        raise InputError(f"{source}: cannot be read: {_reason(found, str(error))}") from error


@explains(PySparkException, Py4JError)
def _told(error: PySparkException | Py4JError) -> UserError | None:
    """Spark's errors that have a cause outside this program, wherever they come up."""
    said = str(error)
    if "java.lang.OutOfMemoryError" in said:
        return UserError("Spark's Java has too little memory: raise spark.driver_memory (--driver-memory, -executor-)")
    found = CONDITION.search(said)
    if found and found["name"].startswith(UNREADABLE):
        return InputError(f"a file cannot be read: {_reason(found, said)}")
    if found := LOST.search(said):
        return ProcessDiedError(
            f"Spark gave up after it had lost its executors ({found['why'][:200]}). What is finished is kept; run the "
            "same command again, with more memory for an executor if that is why"
        )
    return None


def _reason(found: re.Match, said: str) -> str:
    """What Spark says of a broken file, and what its reader said to Spark."""
    causes = re.findall(r"Caused by: \S+: ([^\n]+)", said)
    first = " ".join(found["message"].split(" SQLSTATE")[0].split())
    return shortened(f"{first} ({causes[-1]})" if causes else first, 500)


@contextmanager
def alive() -> Iterator[None]:
    """Tell a death of Spark's Java process in one line."""
    try:
        yield
    except (Py4JNetworkError, ConnectionError) as error:
        raise ProcessDiedError(
            "Spark's Java process ended (killed, or out of memory: see spark.driver_memory). What is finished is kept; "
            "run the same command again to go on from there"
        ) from error


def _names(spark: SparkSession, address: str, source: str) -> list[str]:
    """Names of the files at or under an address; raises InputError where there is none."""
    names = _files(spark, address)
    if names is None:
        raise InputError(f"{source}: no such file or folder (relative paths start at {os.getcwd()})")
    if not names:
        raise InputError(f"{source}: the folder is empty")
    return names


def _files(spark: SparkSession, address: str) -> list[str] | None:
    """Names of the files at or under an address, on any file system that Spark knows; None where nothing is there."""
    path = spark._jvm.org.apache.hadoop.fs.Path(address)
    system = path.getFileSystem(spark._jsc.hadoopConfiguration())
    if not system.exists(path):
        return None
    names: list[str] = []
    found = system.listFiles(path, True)
    while found.hasNext() and len(names) < 1000:
        name = found.next().getPath().getName()
        if not name.startswith(("_", ".")):
            names.append(name)
    return names
