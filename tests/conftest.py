"""What the tests share: one Spark session, since starting one takes longer than most tests."""

from collections.abc import Iterator

import pytest
from pyspark.sql import SparkSession

from mmsrarec.config import Config
from mmsrarec.storage.spark import session

# Short queries only: the second compiler of the JVM would cost more than it brings.
QUICK = {"spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1"}


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """The session of storage/spark.py; stages called in a test with it use the same one."""
    config = Config(
        inputs={"items": "", "interactions": ""},
        spark={"master": "local[2]", "driver_memory": "1g", "shuffle_partitions": 2, "conf": QUICK},
    )
    started = session(config)
    yield started
    started.stop()
