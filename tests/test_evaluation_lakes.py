"""Which lakes a protocol makes, by which stages; and histories that were written before held_out was a column."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from mmsrarec.collaborative import embed
from mmsrarec.collaborative.index import indexed_rows
from mmsrarec.config import Config, load
from mmsrarec.errors import ConfigError
from mmsrarec.evaluation import lakes
from mmsrarec.storage import tables

METHODS = ["popularity", "sasrec"]
NIGHT = ("build_cf", "train_sasrec", "index_cf", "summarize_items")
TUNING = ("train_fusion", "tune_recommender")
ROOT = Path(__file__).parent.parent


def make_config(root: Path, **evaluation: object) -> Config:
    return Config(
        inputs={"items": "-", "interactions": "-"},
        lake={"root": str(root)},
        evaluation={"methods": METHODS, **evaluation},
    )


def by_grpo(config: Config) -> Config:
    summarizing = config.summarize_items.model_copy(update={"summarizer": "grpo"})
    return config.model_copy(update={"summarize_items": summarizing})


def test_a_night_is_evaluated_as_it_is(tmp_path: Path) -> None:
    assert list(lakes.lakes(make_config(tmp_path))) == []
    assert lakes.place(make_config(tmp_path), "fit") == make_config(tmp_path)


def test_the_user_split_has_one_lake(tmp_path: Path) -> None:
    (lake,) = lakes.lakes(make_config(tmp_path, protocol="user_split"))
    assert lake.config.lake.root == str(tmp_path) and lake.stages == ("build_cf", "train_sasrec")
    assert lake.config.sasrec.refresh_days == 0
    asked = make_config(tmp_path, protocol="user_split", methods=["mmsrarec"])
    assert [lake.stages for lake in lakes.lakes(asked)] == [NIGHT, TUNING]
    assert next(lakes.lakes(by_grpo(asked))).stages[3:] == ("tune_summarizer", "summarize_items")


def test_what_is_learned_from_validation_users_is_that_of_the_first_lake(tmp_path: Path) -> None:
    asked = make_config(tmp_path, protocol="leave_one_out", methods=["mmsrarec", "popularity"], positions=8)
    asked = by_grpo(asked)
    found = {lake.name: lake for lake in lakes.lakes(asked)}
    tuned = (*NIGHT[:3], "tune_summarizer", *NIGHT[3:])
    assert {name: lake.stages for name, lake in found.items()} == {"fit": tuned, "fit, tuning": TUNING, "test": NIGHT}
    assert [lake.config.lake.learned for lake in found.values()] == [None, None, f"{tmp_path}/fit"]
    test = lakes.place(asked, "test")
    assert test.lake.root == f"{tmp_path}/test" and test.learned("models/x") == f"{tmp_path}/fit/models/x"


@pytest.mark.parametrize("protocol", ["leave_one_out", "time_split"])
def test_two_lakes_and_the_second_trains_as_long_as_was_best_in_the_first(tmp_path: Path, protocol: str) -> None:
    config = make_config(tmp_path, protocol=protocol)
    found = lakes.lakes(config)
    fit = next(found)
    assert (fit.config.lake.root, fit.config.evaluation.part) == (f"{tmp_path}/fit", "fit")
    place = tmp_path / "fit" / "models" / "sasrec"
    place.mkdir(parents=True)
    (place / "sasrec.json").write_text(json.dumps({"facts": {"best_epoch": 7}}))
    test = next(found)
    assert (test.config.lake.root, test.config.evaluation.part) == (f"{tmp_path}/test", "test")
    assert test.config.sasrec.epochs == 7 and fit.config.sasrec.epochs == config.sasrec.epochs
    assert next(found, None) is None
    assert fit.config.sasrec.refresh_days == test.config.sasrec.refresh_days == 0, "no checkpoint of another protocol"
    assert lakes.place(config, "test").lake.root == test.config.lake.root


def test_the_configuration_of_an_evaluation_is_valid_for_every_protocol() -> None:
    for protocol in ("leave_one_out", "user_split", "time_split"):
        config = load(ROOT / "conf" / "evaluate.yaml", [f"evaluation.protocol={protocol}", "lake.root=x"])
        assert config.evaluation.protocol == protocol
    with pytest.raises(ConfigError, match="evaluation.protocol"):
        load(ROOT / "conf" / "evaluate.yaml", ["evaluation.protocol=leave_two_out"])
    with pytest.raises(ConfigError, match="ascend"):
        load(ROOT / "conf" / "evaluate.yaml", ["evaluation.time_quantiles=[0.9, 0.8]"])


HISTORIES = [
    {"user_id": "a", "item_ids": ["x", "y", "z"], "split": "test", "held_out": 2},
    {"user_id": "b", "item_ids": ["x"], "split": "test", "held_out": 3},
    {"user_id": "c", "item_ids": ["x", "y"], "split": "train", "held_out": 0},
    {"user_id": "d", "item_ids": ["x", "y", "w"], "split": "validation", "held_out": None},
]


def test_the_training_part_goes_by_held_out() -> None:
    part = embed.training_part(tables.from_rows("histories", HISTORIES))
    assert part["item_ids"].to_pylist() == [["x"], [], ["x", "y"], ["x", "y"]]


def test_the_index_has_training_users_or_the_training_part_of_all() -> None:
    histories = tables.from_rows("histories", HISTORIES)
    rows = indexed_rows(histories, 5).to_pylist()
    assert [(row["user_id"], row["next_item_id"]) for row in rows] == [("c", "y")]
    rows = indexed_rows(histories, 5, everybody=True).to_pylist()
    assert [(row["user_id"], row["next_item_id"]) for row in rows] == [("c", "y"), ("d", "y")]


def test_a_second_network_is_trained_in_every_lake_by_an_entry_of_its_own(tmp_path: Path) -> None:
    config = make_config(tmp_path, protocol="leave_one_out", methods=["gru4rec", "fusion"])
    found = {}
    for lake in lakes.lakes(config):
        found[lake.name] = lake
        best = tmp_path / "fit" / "models" / lake.config.sasrec.network
        best.mkdir(parents=True, exist_ok=True)
        name = f"{lake.config.sasrec.network}.json"
        (best / name).write_text(json.dumps({"facts": {"best_epoch": 3 if "gru" in name else 5}}))
    assert list(found) == ["fit", "fit, gru4rec", "test", "test, gru4rec"]
    assert found["test"].stages == ("build_cf", "train_sasrec", "index_cf")
    assert found["test, gru4rec"].stages == ("train_sasrec",)
    assert (found["test"].config.sasrec.epochs, found["test, gru4rec"].config.sasrec.epochs) == (5, 3)
    assert (found["test"].run("r"), found["test, gru4rec"].run("r")) == ("r", "r-gru4rec")


def test_the_networks_of_the_fusion_are_trained_once_each_and_only_where_it_is_asked(tmp_path: Path) -> None:
    networks = {"retrieve": {"fusion": {"networks": ["text_sasrec", "gru4rec"]}}}

    def found(**settings: object) -> list[lakes.Lake]:
        config = make_config(tmp_path, protocol="leave_one_out", **settings)
        return list(lakes.lakes(Config(**(config.model_dump() | networks))))

    asked = found(methods=["gru4rec", "fusion"])
    others = ["gru4rec", "text_sasrec"]
    assert [lake.also for lake in asked] == ["", *others, "", *others]
    assert [lake.config.sasrec.name for lake in asked] == ["sasrec", *others] * 2
    assert [lake.config.sasrec.text for lake in asked] == [False, False, True] * 2
    assert all(len(lake.config.networks) == 1 for lake in asked), "each trains its own network only"
    assert [lake.also for lake in found(methods=["sasrec"])] == ["", ""]


def test_histories_from_before_the_column_hold_out_one_item(tmp_path: Path) -> None:
    old = pa.table({"user_id": ["a", "b"], "item_ids": [["x", "y"], ["x"]], "split": ["test", "train"]})
    write_deltalake(str(tmp_path / "histories"), old)
    config = make_config(tmp_path)
    histories = embed.read_histories(config)
    assert np.array_equal(embed.held_out(histories), [1, 0])
    tables.replace(str(tmp_path), "histories", tables.read(str(tmp_path), "histories"))
    assert embed.training_part(embed.read_histories(config))["item_ids"].to_pylist() == [["x"], ["x"]]


def test_the_network_of_similar_users_is_there_before_the_index(tmp_path: Path) -> None:
    config = make_config(tmp_path, protocol="leave_one_out", methods=["sasrec", "fusion"])
    config = Config(**(config.model_dump() | {"retrieve": {"similar_by": "gru4rec"}}))
    found = list(lakes.lakes(config))
    stages = [(lake.also, lake.stages) for lake in found]
    assert stages[:3] == stages[3:] == [("", ("build_cf", "train_sasrec")), ("gru4rec", ("train_sasrec",)),
                                        ("index", ("index_cf",))]  # fmt: skip
    assert [len(lake.config.networks) for lake in found] == [1, 1, 2] * 2
    assert found[2].config.similar_network.sasrec.name == found[1].config.sasrec.name == "gru4rec"
    without_index = make_config(tmp_path, protocol="leave_one_out")
    without_index = Config(**(without_index.model_dump() | {"retrieve": {"similar_by": "gru4rec"}}))
    assert [lake.also for lake in lakes.lakes(without_index)] == ["", ""]
