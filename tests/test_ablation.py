"""The ablation's rows: each is the whole method with one part otherwise, its file says what the code does, and figures
of a row stay."""

from pathlib import Path

import pytest

from mmsrarec import ablation
from mmsrarec.config import Config, load
from mmsrarec.errors import ConfigError
from mmsrarec.storage import tables

ROOT = Path(__file__).parent.parent
BASE = ROOT / "conf" / "ablation-7b.yaml"


@pytest.mark.parametrize("name", ablation.ROWS)
def test_the_file_of_a_row_is_what_the_command_runs(name: str) -> None:
    found = load(ROOT / "conf" / "paper" / f"{name}.yaml")
    row = ablation.row(load(BASE), name)
    settings = {"evaluation": found.evaluation}
    assert row.model_copy(update=settings) == found, "run python -m mmsrarec.ablation conf/ablation-7b.yaml conf/paper"


def test_a_row_differs_from_the_whole_in_one_part() -> None:
    config = load(BASE)
    for table, base in ablation.BASES.items():
        whole = ablation.ROWS[f"{table}_{ablation.WHOLE}"]
        assert whole == base
        for name, values in ablation.ROWS.items():
            if name.startswith(table) and values != whole:
                assert sum(values[key] != whole.get(key) for key in values) == 1, name
    hashes = {ablation.row(config, name).hash for name in ablation.ROWS}
    assert len(hashes) == len(ablation.ROWS)


def test_a_hash_is_of_what_decides_results_alone(tmp_path: Path) -> None:
    config = load(BASE)
    moved = load(BASE, [f"lake.root={tmp_path}", "engine.replicas=3", "run.date=2026-01-01", "spark.master=local[1]"])
    assert moved.hash == config.hash
    assert load(BASE, ["engine.dtype=float32"]).hash != config.hash != load(BASE, ["run.seed=1"]).hash


def test_an_unknown_row_is_refused_with_those_there_are(tmp_path: Path) -> None:
    config = Config(inputs={"items": "-", "interactions": "-"}, lake={"root": str(tmp_path)})
    with pytest.raises(ConfigError, match="ours_whole"):
        ablation.ablate(config, ["ours_holw"])


def test_a_row_that_is_there_is_shown_and_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = Config(
        inputs={"items": "-", "interactions": "-"},
        lake={"root": str(tmp_path)},
        evaluation={"protocol": "user_split"},
    )
    asked = ablation.row(config, "ours_whole")
    figure = {"run_id": "r", "protocol": "user-split", "row": "ours_whole", "configuration": asked.hash, "users": 9}
    figure |= {"tokens": 1234, "seconds": 5.0, "k": 10, "among": "full"}
    rows = [
        figure | {"metric": "ndcg", "value": 0.0812, "low": 0.07, "high": 0.09},
        figure | {"metric": "ratio_ndcg_fusion", "value": 1.07, "low": 1.01, "high": 1.13},
    ]
    tables.append(str(tmp_path), "ablation", tables.from_rows("ablation", rows))
    assert len(ablation.ablate(config, ["ours_whole"])) == 2
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("ours_whole", "8.1", "1.07", "1.01-1.13", "1,234"))


def test_what_a_configuration_leaves_unsaid_a_row_does_not_say() -> None:
    """A default that is written out would be a demand: of columns, say, that the user's files have not."""
    config = load(BASE)
    row = ablation.row(config, "ours_without_stage_1")
    assert row.inputs.model_fields_set == config.inputs.model_fields_set
    assert row.evaluation.methods == ["sasrec", "fusion", "mmsrarec"]
