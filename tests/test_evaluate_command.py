"""From raw files to the table by one command, for every protocol; and the same command after it was stopped."""

import json
from pathlib import Path

import pytest
from conftest import Shop, command

from mmsrarec.config import Config, load
from mmsrarec.storage import runs, tables

CONFIG = "conf/evaluate.yaml"
SMALL = ("sasrec.epochs=2", "sasrec.dim=16", "evaluation.bootstrap=50", "spark.shuffle_partitions=2")


def arguments(shop: Shop, root: Path, protocol: str) -> list[str]:
    folder = shop.folder / "shop"
    given = [
        f"inputs.items={folder / 'items.parquet'}",
        f"inputs.interactions={folder / 'interactions.parquet'}",
        f"lake.root={root}",
        f"evaluation.protocol={protocol}",
        *SMALL,
    ]
    return [argument for setting in given for argument in ("--set", setting)]


def opened(given: list[str]) -> Config:
    return load(CONFIG, given[1::2])


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["leave_one_out", "user_split", "time_split"])
def test_one_command_from_raw_files_to_the_figures(shop: Shop, tmp_path: Path, protocol: str) -> None:
    given = arguments(shop, tmp_path, protocol)
    done = command("evaluate", CONFIG, *given)
    assert done.returncode == 0, done.stderr
    config = opened(given)
    rows = tables.read(str(tmp_path), "evaluation").to_pylist()
    assert {row["method"] for row in rows} == set(config.evaluation.methods) - {"boosting"}, "too few to teach trees"
    name = protocol.replace("_", "-")
    assert {f"{name}/full", f"{name}/sampled-1+20"} <= {row["protocol"] for row in rows}
    assert f"{name}/full" in done.stdout
    assert not (tmp_path / "unfinished.json").exists()
    assert len({row["run_id"] for row in rows}) == 1


@pytest.mark.slow
def test_a_stopped_evaluation_goes_on_after_the_lakes_it_has_made(shop: Shop, tmp_path: Path) -> None:
    given = arguments(shop, tmp_path, "leave_one_out")
    assert command("evaluate", CONFIG, *given).returncode == 0
    config = opened(given)
    (last,) = runs.ledger(config)
    tables.delete(str(tmp_path), "runs", f"run_id = '{last['run_id']}'")  # as if it had died before its own stage
    fit = tmp_path / "fit"
    versions = {name: tables.version(str(fit), name) for name in ("histories", "catalog")}
    from mmsrarec.storage.resume import Run

    unfinished = {"run_id": last["run_id"], "asked": Run(config, ["evaluate"])._asked}
    (tmp_path / "unfinished.json").write_text(json.dumps(unfinished))
    assert command("evaluate", CONFIG, *given).returncode == 0
    assert [row["run_id"] for row in runs.ledger(config)] == [last["run_id"]]
    assert {name: tables.version(str(fit), name) for name in versions} == versions
