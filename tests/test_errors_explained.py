"""Errors of the libraries in words, each really provoked: what, where, what to do, and no trace on the screen."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
from pyspark.sql import SparkSession

from mmsrarec.cli import endings
from mmsrarec.collaborative.index import UserIndex
from mmsrarec.config import Config
from mmsrarec.engines import batch, cluster
from mmsrarec.errors import InputError, LakeError, ModelError, StoreError, UserError, explained
from mmsrarec.storage import runs, tables
from mmsrarec.storage.spark import read_input, readable

ROOT = Path(__file__).parent.parent
BUNDLED = ROOT / "mmsrarec" / "demo" / "backbone"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(inputs={"items": "-", "interactions": "-"}, lake={"root": str(tmp_path / "lake")})


@pytest.fixture
def histories(config: Config) -> Path:
    """The only file of a table."""
    rows = [{"user_id": f"u{n}", "item_ids": ["a", "b"], "split": "train"} for n in range(100)]
    tables.replace(config.lake.root, "histories", tables.from_rows("histories", rows))
    (file,) = Path(config.table("histories")).glob("*.parquet")
    return file


def told(work) -> UserError:  # noqa: ANN001
    with pytest.raises(Exception) as caught:  # noqa: B017
        work()
    known = explained(caught.value)
    assert isinstance(known, UserError), caught.value
    assert "\n" not in str(known) and "Traceback" not in str(known) and len(str(known)) < 700
    return known


def damaged(file: Path) -> None:
    os.truncate(file, 50)


def gone(file: Path) -> None:
    file.unlink()


def bad_log(file: Path) -> None:
    (file.parent / "_delta_log" / f"{0:020}.json").write_text("{broken")


@pytest.mark.parametrize("harm", [damaged, gone, bad_log])
@pytest.mark.parametrize("work", ["read", "stream", "delete"])
def test_a_damaged_table_is_named_with_the_stage_that_makes_it(config, histories, harm, work):
    harm(histories)
    does = {
        "read": lambda: tables.read(config.lake.root, "histories"),
        "stream": lambda: list(tables.stream(config.lake.root, "histories")),
        "delete": lambda: tables.delete(config.lake.root, "histories", "user_id = 'u1'"),
    }
    known = told(does[work])
    assert isinstance(known, LakeError)
    assert f"table {config.table('histories')}" in str(known) and "run build_cf" in str(known)


def test_a_stage_says_where_and_the_ledger_keeps_it(config, histories, capsys):
    damaged(histories)

    def work() -> None:
        with runs.stage(config, "retrieve", "night-1"):
            tables.read(config.lake.root, "histories")

    assert endings.guarded(work) == LakeError.exit_status
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: retrieve: table ") and histories.name in line
    (row,) = runs.ledger(config)
    assert row["status"] == "failed" and histories.name in row["notes"]["error"]


def test_an_unexpected_error_names_the_stage_and_its_trace(config, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def work() -> None:
        with runs.stage(config, "retrieve", "night-1"):
            raise RuntimeError("first line\nsecond line " + "x" * 1000)

    assert endings.guarded(work) == 1
    said, where = capsys.readouterr().err.splitlines()
    assert (
        said.startswith("unexpected error in stage retrieve: RuntimeError: first line second line") and len(said) < 400
    )
    trace = Path(where.removeprefix("the full trace is in "))
    assert trace == tmp_path / "mmsrarec-error.log" and "Traceback" in trace.read_text()


AS_NOBODY = """
import os
from mmsrarec.errors import explained
from mmsrarec.storage import tables
os.setegid(65534); os.seteuid(65534)
def attempt(work):
    try: work()
    except Exception as error: print(explained(error))
attempt(lambda: open({file!r}, "w"))
attempt(lambda: tables.append({root!r}, "histories", tables.from_rows("histories", [{{"user_id": "u"}}])))
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody who may not write")
def test_a_lake_that_may_not_be_written(config, histories):
    for folder in (histories.parent, histories.parent / "_delta_log"):
        folder.chmod(0o755)
    for folder in histories.parents[:4]:
        folder.chmod(folder.stat().st_mode | 0o555)
    script = AS_NOBODY.format(file=str(histories.parent / "new"), root=config.lake.root)
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    lines = done.stdout.splitlines()
    assert len(lines) == 2 and all("permission denied" in line for line in lines), done
    assert str(histories.parent / "new") in lines[0] and str(histories.parent) in lines[1]


def test_a_milvus_server_that_does_not_answer(config):
    away = config.model_copy(update={"index": config.index.model_copy(update={"uri": "http://127.0.0.1:1"})})
    known = told(lambda: UserIndex(away))
    assert "http://127.0.0.1:1" in str(known) and "index.uri" in str(known) and "MilvusException" not in str(known)


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    """Two Parquet files, one of them with its data overwritten: its footer is fine, so it is found out late."""
    folder = tmp_path / "items"
    folder.mkdir()
    for name in ("good", "bad"):
        pq.write_table(pa.table({"item_id": [str(n) for n in range(50_000)]}), folder / f"{name}.parquet")
    content = bytearray((folder / "bad.parquet").read_bytes())
    content[100:5000] = bytes(4900)
    (folder / "bad.parquet").write_bytes(content)
    return folder


def items_of(place: Path) -> Config:
    return Config(inputs={"items": str(place), "interactions": "-"})


def test_a_broken_input_file_is_named(spark: SparkSession, pages: Path):
    rows = read_input(spark, items_of(pages), "items")
    known = told(lambda: rows.selectExpr("max(item_id)").collect())
    assert isinstance(known, InputError) and "bad.parquet" in str(known)

    def as_build_cf_does() -> None:
        with readable(f"inputs.items={pages}"):
            rows.selectExpr("max(item_id)").collect()

    assert str(told(as_build_cf_does)).startswith(f"inputs.items={pages}: cannot be read")


def test_an_input_file_that_goes_away_is_named(spark: SparkSession, pages: Path):
    rows = read_input(spark, items_of(pages / "good.parquet"), "items")
    (pages / "good.parquet").unlink()
    assert "good.parquet" in str(told(rows.collect))


WITHOUT_WEIGHTS = """
from mmsrarec.config import Config
from mmsrarec.engines import batch
from mmsrarec.engines.vllm import VLLMEngine
from mmsrarec.errors import ModelError
settings = {{"enforce_eager": True, "max_model_len": 512, "kv_cache_gb": 0.25}}
for model, changes in (({without!r}, {{}}), ({bundled!r}, {{"max_model_len": 10_000_000}})):
    try:
        VLLMEngine(Config(inputs={{"items": "", "interactions": ""}}, model=model, engine=settings | changes))
    except ModelError as error:
        print("told:", error)
"""


def test_a_model_that_cannot_be_served(tmp_path: Path):
    """In a process of its own: vLLM changes the one it is started in."""
    without = tmp_path / "model"
    shutil.copytree(BUNDLED, without, ignore=shutil.ignore_patterns("*.safetensors"))
    script = WITHOUT_WEIGHTS.format(without=str(without), bundled=str(BUNDLED))
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=300)
    told = [line for line in done.stdout.splitlines() if line.startswith("told:")]
    assert len(told) == 2, done.stderr[-2000:]
    assert str(without) in told[0] and "its folder needs *.safetensors" in told[0]
    assert "10000000" in told[1] and "lower engine.max_model_len" in told[1]


def test_an_engine_that_fails_or_is_killed(config):
    class Sleeper:
        def process(self) -> int:
            return os.getpid()

        def sleep(self) -> None:
            time.sleep(100)

        def fail(self) -> None:
            raise StoreError("s3://shop: 503")

    with cluster.joined(config):
        actor = ray.remote(Sleeper).remote()
        with pytest.raises(ray.exceptions.RayError) as refused:
            ray.get(actor.fail.remote())
        process, answer = ray.get(actor.process.remote()), actor.sleep.remote()
        os.kill(process, signal.SIGKILL)
        with pytest.raises(ray.exceptions.RayError) as caught:
            ray.get(answer, timeout=60)
    kind, said = batch._cause(caught.value)
    assert kind is ModelError and said.startswith("its process or its machine died")
    assert batch._cause(refused.value) == (StoreError, "s3://shop: 503")
