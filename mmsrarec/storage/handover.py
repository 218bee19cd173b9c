"""How Spark's rows come into a table on S3: as Parquet files that the driver puts into it by delta-rs, in one commit.

On S3 every table has this one writer. Its commits there are conditional puts, so that of two writers one is told; those
of Spark's Delta are not, and could undo one of delta-rs unseen. The files meet where both can reach: on the driver's
disk where Spark works on this machine alone, else, by s3a, below the lake's staging folder.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

import pyarrow as pa
import pyarrow.parquet as parquet
from pyspark.sql import DataFrame, SparkSession

from mmsrarec.config import Config
from mmsrarec.schemas import TABLES
from mmsrarec.storage import files, tables
from mmsrarec.storage.scratch import Scratch

WAY = "handover"  # beginning of the folder's name


def write(rows: DataFrame, config: Config, name: str, mode: str) -> None:
    """Put `rows`, which have the table's columns and types, in its place or (mode append) add them."""
    with _meeting(rows.sparkSession, config) as folder:
        rows.write.parquet(folder.replace("s3://", "s3a://", 1), compression="zstd")
        commit = tables.replace if mode == "overwrite" else tables.append
        commit(config.lake.root, name, _batches(folder, name))


@contextmanager
def _meeting(spark: SparkSession, config: Config) -> Iterator[str]:
    """A folder that is not there yet, and not any more after."""
    if spark.sparkContext.master.startswith("local"):
        with Scratch(WAY) as scratch:
            yield str(scratch.path / "rows")
        return
    folder = config.table(f"staging/{WAY}-{secrets.token_hex(4)}")
    try:
        yield folder
    finally:
        files.delete_folder(folder)


def _batches(folder: str, name: str) -> Iterator[pa.RecordBatch]:
    schema = TABLES[name]
    for file in files.listing(folder):
        if file.name.endswith(".parquet"):
            content = parquet.ParquetFile(BytesIO(files.content(f"{folder}/{file.name}")))
            for batch in content.iter_batches():
                yield from pa.Table.from_batches([batch]).cast(schema).to_batches()
