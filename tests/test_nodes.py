"""Stages on clusters of several nodes, whose processes run on this machine, with inputs, pictures and lake on S3: none
needs the driver's disk, and a node that is lost in mid-run costs its own work alone. What comes of it is what comes of
a night on one machine."""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from conftest import ROOT, Shop
from nights import differences
from nodes import BIN, Node, RayCluster, SparkCluster, close, ray_cluster, spark_cluster, unshared, until
from s3_fixtures import Server, point_to, uploaded
from test_engine_batch import run

from mmsrarec.config import Config
from mmsrarec.engines.template import Template
from mmsrarec.engines.types import Group, Request
from mmsrarec.errors import ConfigError
from mmsrarec.schemas import KEYS
from mmsrarec.storage import files, jars, s3, tables

BUCKET = "s3://cluster"
MADE_BY_SPARK = ["histories", "catalog", "item_cooccurrence", "item_transitions"]
PATIENT = 900.0  # seconds that a stage may take on a machine that has much else to do
MADE_BY_RAY = ["item_keywords", "candidates", "evidence", "staged_recommendations"]
S3A = ROOT / "build" / "s3a"
DRIVER = """
import sys
from mmsrarec import load_config, run
run(load_config(sys.argv[1], dict(setting.split("=", 1) for setting in sys.argv[3:])), *sys.argv[2].split(","))
"""


@dataclass(frozen=True)
class Far:
    """A shop all of which is on S3; `lake` is its lake, `settings` (a.b=value) are those of its nights."""

    server: Server
    shop: Shop
    folder: Path
    lake: str = f"{BUCKET}/lake"
    drivers: list[Node] = field(default_factory=list)

    @property
    def settings(self) -> list[str]:
        given = dict(setting.split("=", 1) for setting in self.shop.settings)
        places = {"items": "items.parquet", "interactions": "interactions.parquet", "images": "pictures"}
        given |= {f"inputs.{name}": f"{BUCKET}/shop/{file}" for name, file in places.items()}
        given |= {
            "lake.root": self.lake,
            "index.uri": str(self.folder / "drivers" / "milvus.db"),
            "engine.replicas": "2",
            "engine.kv_cache_gb": "0.25",
        }
        return [f"{name}={value}" for name, value in given.items()]

    @property
    def hidden(self) -> list[Path]:
        """The drivers' disk, where no other node looks."""
        (self.folder / "drivers").mkdir(exist_ok=True)
        return [self.shop.folder, self.folder / "drivers"]

    @property
    def options(self) -> list[str]:
        return [argument for setting in self.settings for argument in ("--set", setting)]

    def driver(self, command: list[object], **variables: str) -> Node:
        """A driver in a folder of its own."""
        place = self.folder / "drivers" / f"{len(self.drivers)}"
        self.drivers.append(Node(place, [str(part) for part in command], **variables))
        return self.drivers[-1]

    def different(self, names: list[str], lake: str = "") -> list[str]:
        """What is not as in the night on one machine."""
        return differences(self.shop.folder / "lake", lake or self.lake, names)


@pytest.fixture(scope="module")
def far(s3_process: Server, shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Far]:
    assert shop.first.returncode == 0, shop.first.stderr[-3000:]
    with pytest.MonkeyPatch.context() as environment:
        point_to(s3_process, environment)
        environment.setenv("AWS_EC2_METADATA_DISABLED", "true")
        s3_process.calm()
        s3._asked(BUCKET, "create_bucket", Bucket="cluster")
        uploaded(shop.folder / "shop", f"{BUCKET}/shop")
        made = Far(s3_process, shop, tmp_path_factory.mktemp("far"))
        yield made
        close(made.drivers)
        s3.delete(f"{BUCKET}/{one.name}" for one in s3.listing(BUCKET))


@pytest.fixture(scope="module")
def s3a() -> Path:
    """The jars that a cluster's image has: fetched once."""
    jars.install_s3a(jars.spark_home(), S3A)
    return S3A


def submitted(cluster: SparkCluster, s3a: Path) -> list[object]:
    """spark-submit to the cluster, with little memory, and s3a on the class path."""
    given = {"spark.executor.extraClassPath": f"{s3a}/*", "spark.driver.host": "127.0.0.1"}
    given |= {"spark.executor.memory": "700m", "spark.executor.extraJavaOptions": "-XX:TieredStopAtLevel=1"}
    options = [part for name, value in given.items() for part in ("--conf", f"{name}={value}")]
    memory = ["--driver-memory", "700m", "--driver-java-options", "-XX:TieredStopAtLevel=1"]
    return [BIN / "spark-submit", "--master", cluster.address, "--driver-class-path", f"{s3a}/*", *memory, *options]


@pytest.fixture(scope="module")
def prepared(far: Far, s3a: Path) -> Far:
    """build_cf has run on a cluster of two."""
    with spark_cluster(far.folder / "spark", 2, far.hidden) as cluster:
        job = [ROOT / "jobs" / "build_cf.py", "--config", ROOT / "conf" / "local.yaml", *far.options]
        driver = far.driver([*submitted(cluster, s3a), *job])
        assert driver.wait(PATIENT) == 0, driver.log[-3000:]
        assert all(list((worker.folder / "tmp" / "work").glob("app-*/*")) for worker in cluster.workers), "both worked"
    return far


@pytest.mark.slow
def test_spark_on_two_nodes_makes_what_spark_makes_on_one(prepared: Far) -> None:
    assert prepared.different(MADE_BY_SPARK) == []
    assert files.listing(f"{prepared.lake}/staging") == []


@pytest.mark.slow
def test_a_spark_worker_that_is_lost_costs_its_own_work_alone(far: Far, s3a: Path) -> None:
    """By the program and --address; the worker goes when the first table is there."""
    lake = f"{BUCKET}/second"
    jvm = {"spark.driver.extraClassPath": f"{s3a}/*", "spark.executor.extraClassPath": f"{s3a}/*"}
    jvm |= {"spark.driver.host": "127.0.0.1", "spark.executor.memory": "700m"}
    with spark_cluster(far.folder / "spark-2", 2, far.hidden) as cluster:
        options = [*far.options, "--set", f"lake.root={lake}", "--set", f"spark.conf={json.dumps(jvm)}"]
        config = ROOT / "conf" / "local.yaml"
        driver = far.driver([BIN / "mmsrarec", "build_cf", config, "--address", cluster.address, *options])
        until("the first table", lambda: files.listing(f"{lake}/histories/_delta_log"), [driver], PATIENT)
        cluster.workers[0].kill()
        assert driver.wait(PATIENT) == 0, driver.log[-3000:]
    assert "Spark lost executor" in driver.log
    assert far.different(MADE_BY_SPARK, lake) == []


@pytest.mark.slow
def test_a_lake_that_sparks_nodes_do_not_see_is_refused(far: Far) -> None:
    here = far.folder / "drivers" / "lake"
    with spark_cluster(far.folder / "spark-3", 1, far.hidden) as cluster:
        if not unshared():
            pytest.skip("this machine lets nobody hide a folder from a process")
        options = [*far.options, "--set", f"lake.root={here}", "--set", 'spark.conf={"spark.driver.host": "127.0.0.1"}']
        inputs = [f"inputs.{name}={far.shop.folder}/shop/{name}.parquet" for name in ("items", "interactions")]
        options += [part for setting in inputs for part in ("--set", setting)]
        config = ROOT / "conf" / "local.yaml"
        driver = far.driver([BIN / "mmsrarec", "build_cf", config, "--address", cluster.address, *options])
        assert driver.wait(PATIENT) == 2
    assert f"lake.root={here} is not on every node" in driver.log


@pytest.fixture(scope="module")
def cluster(far: Far) -> Iterator[RayCluster]:
    with ray_cluster(far.folder / "ray", "--num-cpus=1", "--num-cpus=1", hidden=far.hidden) as made:
        yield made


def asking(lake: str, address: str) -> Config:
    engine = {"enforce_eager": True, "max_model_len": 512, "kv_cache_gb": 0.25, "batch_rows": 1, "address": address}
    return Config(inputs={"items": "-", "interactions": "-"}, lake={"root": lake}, engine=engine)


def groups(config: Config) -> list[Group]:
    template = Template.of(config)
    texts = [[f"User {user}. " * 12 + f"Is it lamp {lamp}?" for lamp in range(8)] for user in range(20)]
    asked = [[template.render([{"role": "user", "content": text}]) for text in some] for some in texts]
    return [Group(f"{user}", tuple(Request(prompt, "yes_no") for prompt in some)) for user, some in enumerate(asked)]


def test_a_lake_that_rays_nodes_do_not_see_is_refused(far: Far, cluster: RayCluster) -> None:
    if not unshared():
        pytest.skip("this machine lets nobody hide a folder from a process")
    config = asking(str(far.folder / "drivers" / "unseen"), cluster.address)
    with pytest.raises(ConfigError, match="drivers/unseen is not on the node"):
        run(config, groups(config)[:1])


def answered(lake: str, stage: str) -> list[str]:
    """Files of answers that engines have written for this stage and that are still there."""
    names = [file.name for file in files.listing(f"{lake}/staging") if file.name.endswith(".answers")]
    return [name for name in names if name.startswith(stage)]


@pytest.mark.slow
def test_a_ray_node_that_is_lost_costs_its_own_work_alone(prepared: Far, cluster: RayCluster) -> None:
    """Both nodes summarize; while they recommend, one is gone with all its processes."""
    far = prepared
    stages = "train_sasrec,index_cf,summarize_items,retrieve,recommend"
    command = [sys.executable, "-c", DRIVER, ROOT / "conf" / "local.yaml", stages, *far.settings]
    driver = far.driver(command, RAY_ADDRESS=cluster.address)
    until("answers of recommend", lambda: len(answered(far.lake, "recommend")) >= 4, [driver], PATIENT)
    cluster.workers[0].kill()
    there = answered(far.lake, "recommend")
    assert driver.wait(PATIENT) == 0, driver.log[-3000:]
    assert all(node.alive() for node in cluster.nodes if node is not cluster.workers[0])
    written = puts(far, f"{far.lake}/staging/recommend")
    assert len(written) > len(there) and set(written.values()) == {1}, "no file is asked again once it is answered"
    assert far.different(MADE_BY_RAY) == []
    assert_answered_once(far, ["summarize_items", "recommend"])


def puts(far: Far, below: str) -> Counter[str]:
    """How often every file of answers was written there."""
    puts = [one for one in far.server.requests() if one.startswith(f"PUT /{below.removeprefix('s3://')}")]
    return Counter(one.split()[1] for one in puts if ".answers" in one)


def test_engines_wait_for_nodes_and_go_on_where_they_are(far: Far) -> None:
    """The only worker goes in mid-run, and later there is another one: as spot nodes do."""
    lake = f"{BUCKET}/third"
    with ray_cluster(far.folder / "ray-2", "--num-cpus=1", hidden=far.hidden) as cluster:
        config = asking(lake, cluster.address)
        with ThreadPoolExecutor(1) as threads:
            asked = threads.submit(run, config, groups(config))
            until("the first answers", lambda: len(answered(lake, "asking")) >= 3, cluster.nodes, PATIENT)
            cluster.workers[0].kill()
            there = answered(lake, "asking")
            cluster.add("--num-cpus=1")
            answers, ledger = asked.result(PATIENT)
    assert 3 <= len(there) < 20, "it was in mid-run"
    assert ledger["notes"]["engine_requests"] == 160 and tables.count(lake, "answers") == 160
    written = puts(far, lake)
    assert len(written) == 20 and set(written.values()) == {1}


def assert_answered_once(far: Far, stages: list[str]) -> None:
    rows = tables.read(far.lake, "answers", KEYS["answers"]).to_pylist()
    assert len(rows) == len({tuple(row.values()) for row in rows})
    for stage in stages:
        here, there = (_notes(lake, stage) for lake in (str(far.shop.folder / "lake"), far.lake))
        assert there == here, stage
    assert files.listing(f"{far.lake}/staging") == []


def _notes(lake: str, stage: str) -> dict:
    """Of the first run."""
    rows = tables.read(lake, "runs", filters=[("stage", "=", stage)]).sort_by("started_at").to_pylist()
    notes = json.loads(rows[0]["notes"])
    return {name: notes[name] for name in ("engine_requests", "engine_errors", "answers_known")}
