"""Which cluster does the work: --address, then the settings, then the environment, then this machine."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from typer.testing import CliRunner

from mmsrarec.cli import app, endings
from mmsrarec.config import Config, at, load
from mmsrarec.engines import cluster
from mmsrarec.errors import ConfigError
from mmsrarec.storage import resume

HERE = {"inputs": {"items": "items.csv", "interactions": "events.csv"}}


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "SPARK_MASTER", "MASTER"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("addresses", "spark", "ray"),
    [
        ([], "local[*]", None),
        (["spark://head:7077"], "spark://head:7077", None),
        (["head:6379"], "local[*]", "head:6379"),
        (["auto", "yarn"], "yarn", "auto"),
        (["k8s://https://api:6443", "head:6379"], "k8s://https://api:6443", "head:6379"),
        (["local[2]", "local"], "local[2]", None),
    ],
)
def test_its_form_tells_whose_cluster_it_is(tmp_path: Path, addresses: list[str], spark: str, ray: str | None) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text("inputs: {items: a.csv, interactions: b.csv}\n")
    config = load(path, at(addresses))
    assert (config.spark.place, config.engine.cluster) == (spark, ray)


def test_settings_come_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASTER", "spark://old:7077")
    monkeypatch.setenv("RAY_ADDRESS", "there:6379")
    found = Config(**HERE)
    assert (found.spark.place, found.engine.cluster) == ("spark://old:7077", "there:6379")
    monkeypatch.setenv("SPARK_MASTER", "spark://new:7077")
    assert Config(**HERE).spark.place == "spark://new:7077"
    given = Config(**HERE, spark={"master": "local[1]"}, engine={"address": "local"})
    assert (given.spark.place, given.engine.cluster) == ("local[1]", None)


@pytest.mark.parametrize("address", ["ray://head:10001", "http://head:8265"])
def test_what_a_driver_cannot_join_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="ray job submit"):
        Config(**HERE, engine={"address": address})
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ConfigError, match=f"RAY_ADDRESS={address}: .*ray job submit"), cluster.joined(Config(**HERE)):
        pass


@pytest.mark.parametrize("command", [["run"], ["build_cf"], ["recommend"]])
def test_commands_and_jobs_take_it(command: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text("inputs: {items: a.csv, interactions: b.csv}\n")
    seen = []
    monkeypatch.setattr(endings, "run", lambda read, names: seen.append(read()) or 0)
    given = ["--address", "spark://head:7077", "--address", "head:6379"]
    assert CliRunner().invoke(app, [*command, str(path), *given]).exit_code == 0
    assert (seen[0].spark.place, seen[0].engine.cluster) == ("spark://head:7077", "head:6379")
    shown = subprocess.run([sys.executable, ROOT / "jobs" / "recommend.py", "--help"], capture_output=True, text=True)
    assert "--address" in shown.stdout and "RAY_ADDRESS" in shown.stdout


def test_a_run_goes_on_on_another_cluster(tmp_path: Path) -> None:
    asked = {
        resume._asked(Config(**HERE, spark={"master": master}, engine={"address": address}), ("build_cf",))
        for master, address in [(None, None), ("spark://a:1", "b:2"), ("yarn", "auto")]
    }
    assert len(asked) == 1
    assert resume._asked(Config(**HERE, spark={"shuffle_partitions": 9}), ("build_cf",)) not in asked
