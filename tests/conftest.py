"""What the tests share, since it takes longer than most tests: a Spark session, and a shop with a finished night."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from s3_fixtures import s3_process, s3_server  # noqa: F401

from mmsrarec.config import Config
from mmsrarec.demo.shop import write_shop
from mmsrarec.storage.spark import session

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "bench"))
PROGRAM = Path(sys.executable).parent / "mmsrarec"

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


@dataclass(frozen=True)
class Shop:
    """A small shop in `folder`, the settings (a.b=value) of its night, and what `mmsrarec run` said about it."""

    folder: Path
    settings: list[str]
    first: subprocess.CompletedProcess


def command(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([str(PROGRAM), *arguments], cwd=ROOT, capture_output=True, text=True, timeout=900)


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    from chaos import settings

    folder = tmp_path_factory.mktemp("shop")
    write_shop(folder / "shop", seed=7, items=60, users=80)
    given = settings(folder / "shop", folder / "lake")
    arguments = [argument for setting in given for argument in ("--set", setting)]
    return Shop(folder, given, command("run", "conf/local.yaml", *arguments))


@pytest.fixture(scope="session")
def small_night(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A lake with two published nights that no engine made, for tests that only read it (see small_night.py)."""
    from small_night import write

    return write(tmp_path_factory.mktemp("small_night"))
