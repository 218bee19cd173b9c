"""The stage on lakes that were cut by hand: figures in the table and on the screen, no way to what is held out."""

from pathlib import Path

import numpy as np
import pytest

from mmsrarec.config import Config
from mmsrarec.errors import InputError
from mmsrarec.evaluation.evaluate import evaluate
from mmsrarec.storage import runs, tables

METHODS = ["popularity", "recent_popularity", "item_knn", "ease", "tfidf"]
PAIRS, USERS = 30, 120


def write_lake(root: Path, split: str, told: bool) -> None:
    """Every user takes three items of the shop's front, then the first of a pair and, held out, its other one. Where it
    is `told`, that pair is in other users' training parts; else it stands nowhere but in the held-out tails."""
    generator = np.random.default_rng(3)
    rows = []
    for number in range(USERS):
        front = [f"front {place}" for place in generator.choice(20, 3, replace=False)]
        pair = [f"first {number % PAIRS:02d}", f"other {number % PAIRS:02d}"]
        learns = told and number < USERS // 2
        rows.append(
            {
                "user_id": f"u{number}",
                "item_ids": front + pair,
                "timestamps": [1_700_000_000_000_000 + 10**9 * place for place in range(5)],
                "split": "train" if learns else split,
                "held_out": 0 if learns else 1,
            }
        )
    items = [f"front {place}" for place in range(20)]
    items += [f"{side} {pair:02d}" for side in ("first", "other") for pair in range(PAIRS)]
    catalog = [{"item_id": item, "text": "thing", "available": True, "interactions": 1} for item in items]
    tables.replace(str(root), "catalog", tables.from_rows("catalog", catalog))
    tables.replace(str(root), "histories", tables.from_rows("histories", rows))


def evaluated(root: Path, told: bool) -> tuple[Config, list[dict]]:
    config = Config(
        inputs={"items": "-", "interactions": "-"},
        lake={"root": str(root)},
        evaluation={
            "protocol": "leave_one_out",
            "methods": [*METHODS, "gru4rec"],
            "baseline": "popularity",
            "slices": True,
            "bootstrap": 50,
        },
    )
    write_lake(root / "fit", "validation", told)
    write_lake(root / "test", "test", told)
    evaluate(config, "run")
    return config, tables.read(str(root), "evaluation").to_pylist()


def figure(rows: list[dict], method: str, metric: str = "hr", protocol: str = "leave-one-out/full") -> dict:
    (found,) = [
        row
        for row in rows
        if (row["method"], row["metric"], row["protocol"]) == (method, metric, protocol) and row["k"] == 10
    ]
    return found


def test_what_training_tells_is_found_and_everything_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, rows = evaluated(tmp_path, told=True)
    for method in ("item_knn", "ease"):
        assert figure(rows, method)["value"] > 0.9 > 0.5 > figure(rows, "popularity")["value"]
        assert figure(rows, method, "coverage")["low"] is None
    assert {row["method"] for row in rows} == set(METHODS)
    assert figure(rows, "popularity")["users"] == USERS // 2
    candidates = tables.read(str(tmp_path), "evaluation_candidates").to_pylist()
    assert len(candidates) == USERS // 2
    assert all(row["position"] == 4 and row["target_item_id"].startswith("other") for row in candidates)
    (row,) = runs.ledger(config, "run")
    assert row["notes"]["methods_left_out"].keys() == {"gru4rec"}
    assert row["notes"]["tuned"].keys() == set(METHODS)
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("leave-one-out/full", "sampled-1+20", "by slice", "x popularity", "ease"))


def test_nobody_finds_what_only_the_held_out_tails_tell(tmp_path: Path) -> None:
    """A count that included the asked interaction would name each target first."""
    _, rows = evaluated(tmp_path, told=False)
    chance = 10 / (20 + 2 * PAIRS - 4)
    for method in METHODS:
        assert figure(rows, method)["value"] < chance + 0.1, method


def test_lakes_that_are_not_there_are_asked_for(tmp_path: Path) -> None:
    config = Config(
        inputs={"items": "-", "interactions": "-"},
        lake={"root": str(tmp_path)},
        evaluation={"protocol": "time_split", "methods": ["popularity"]},
    )
    with pytest.raises(InputError, match="run build_cf first"):
        evaluate(config, "run")
