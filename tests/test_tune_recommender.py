"""tune_recommender on real Ray Train, TRL, PEFT and the bundled model: two workers teach one adapter, which the engine
serves; what is there stays; and a run that was killed goes on from its last checkpoint.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import fused_lake
import numpy as np
import pyarrow as pa
import pytest

from mmsrarec.collaborative import embed
from mmsrarec.config import Config
from mmsrarec.engines import adapters, batch
from mmsrarec.engines.answers import Answers
from mmsrarec.errors import InputError
from mmsrarec.recommendation import blend
from mmsrarec.storage import files, runs, tables
from mmsrarec.training import lessons, validation
from mmsrarec.training.fusion_stage import train_fusion
from mmsrarec.training.recommender_stage import tune_recommender

ENGINE = {"enforce_eager": True, "max_model_len": 512, "kv_cache_gb": 0.25}


def settings(folder: Path, **tuning: object) -> Config:
    config = fused_lake.settings(folder)
    values = config.model_dump(mode="json") | {
        "engine": ENGINE,
        "recommend": {"training": "multi_task", "top_k": 5},
        "tune_recommender": {
            "users": 70,
            "held_out": 0.6,
            "workers": 2,
            "lora": {"rank": 8},
            "batch_tokens": 2048,
            "accumulation": 1,
            "save_every": 2,
            "hard_negatives": 2,
            "random_negatives": 1,
            **tuning,
        },
    }
    return Config.model_validate(values)


def lake(folder: Path, **tuning: object) -> Config:
    """Tables, networks and a fusion that knows nothing but its fixed weights."""
    config = settings(folder, **tuning)
    fused_lake.write_lake(config, fused_lake.shop_histories())
    train_fusion(config, runs.new_run_id())
    return config


def curve(config: Config, run_id: str) -> dict[str, dict[int, float]]:
    rows = tables.read(config.lake.root, "training_curves", filters=[("run_id", "=", run_id)]).to_pylist()
    found: dict[str, dict[int, float]] = {}
    for row in rows:
        found.setdefault(row["name"], {})[row["step"]] = row["value"]
    return found


@pytest.fixture(scope="module")
def tuned(tmp_path_factory) -> tuple[Config, str]:
    config = lake(tmp_path_factory.mktemp("tuned"))
    for given_up in ("/checkpoint_1/weights", ".parquet"):
        files.write(config.table(f"models/tuning/recommender-of-others{given_up}"), b"not wanted any more")
    run_id = runs.new_run_id()
    tune_recommender(config, run_id)
    return config, run_id


def test_an_adapter_is_taught_by_two_workers(tuned) -> None:
    config, run_id = tuned
    card = adapters.serving(config, "recommender")
    assert card.name and card.why == "tuned"
    folder = Path(adapters.place(config, card.name))
    assert json.loads((folder / adapters.SETTINGS).read_text())["r"] == 8
    assert card.facts["examples_pointwise"] > card.facts["examples_choice"] > 0
    told = curve(config, run_id)
    assert min(told["loss"]) == 1 and len(told["loss"]) >= card.facts["batches"] // 2 - 1, "each worker has its part"
    assert set(told) >= {"loss_pointwise", "loss_choice", "loss_next_keywords", "loss_preference"}
    (row,) = [row for row in runs.ledger(config, run_id) if row["stage"] == "tune_recommender"]
    assert row["versions"]["adapter"] == card.name


def test_what_was_tuned_stays_while_settings_do(tuned, capsys) -> None:
    config, _ = tuned
    before, run_id = adapters.serving(config, "recommender"), runs.new_run_id()
    tune_recommender(config, run_id)
    (row,) = [row for row in runs.ledger(config, run_id) if row["stage"] == "tune_recommender"]
    assert row["notes"]["skipped"] and adapters.serving(config, "recommender") == before
    assert not list(Path(config.table("models/tuning")).glob("*")), "nothing is left of runs that are done or given up"


def test_nobody_teaches_and_checks(tuned) -> None:
    config, _ = tuned
    teach, check = lessons.split(config)
    users = set(teach.users["user_id"].to_pylist()), set(check.users["user_id"].to_pylist())
    assert not users[0] & users[1] and all(users)
    assert validation.checking(config, pa.table({"user_id": users[1]})).all()


def test_few_who_teach_leave_all_to_check(tuned) -> None:
    config, _ = tuned
    everybody = [set(part.users["user_id"].to_pylist()) for part in lessons.split(config)]
    for most, sizes in (({"users": 25}, (25, len(everybody[1]))), ({"check_users": 9}, (len(everybody[0]), 9))):
        few = config.model_copy(update={"tune_recommender": config.tune_recommender.model_copy(update=most)})
        found = [set(part.users["user_id"].to_pylist()) for part in lessons.split(few)]
        assert tuple(map(len, found)) == sizes and sizes != tuple(map(len, everybody))
        assert all(part <= whole for part, whole in zip(found, everybody, strict=True))


def test_every_held_out_item_teaches_and_checks(tuned) -> None:
    from mmsrarec.collaborative.retrieve import Retriever

    config, _ = tuned
    _, check = lessons.split(config)
    earlier = embed.before_last(check.users["item_ids"], np.ones(len(check.users), bool))
    twice = pa.concat_tables([check.users, check.users.set_column(1, "item_ids", earlier[0])])
    asked = lessons.Users(twice, pa.concat_arrays([check.targets, earlier[1]]))
    with Retriever(config) as retriever:
        taught = [question.target for question in lessons.lessons(config, retriever, asked)]
        parts = list(lessons.checks(config, retriever, asked, 1000))
        assert sum(len(part.targets) for part in lessons.checks(config, retriever, asked, 21)) == 21
    assert sorted(taught) == sorted(asked.targets.to_pylist()) and len(parts) == 2
    assert parts[0].known.keywords is parts[1].known.keywords, "read once, however many questions a user is asked"
    assert [len(set(part.known.users["user_id"].to_pylist())) for part in parts] == [len(p.targets) for p in parts]
    assert set(parts[0].targets.items()) <= _pairs(check)


def _pairs(asked: lessons.Users) -> set[tuple[str, str]]:
    return set(zip(asked.users["user_id"].to_pylist(), asked.targets.to_pylist(), strict=True))


def test_a_lesson_has_its_target_and_negatives_of_both_kinds(tuned) -> None:
    from mmsrarec.collaborative.retrieve import Retriever

    config, _ = tuned
    teach, _ = lessons.split(config)
    with Retriever(config) as retriever:
        asked = list(lessons.lessons(config, retriever, teach))
    assert len(asked) == len(teach.users)
    seen = dict(zip(*(teach.users[name].to_pylist() for name in ("user_id", "item_ids")), strict=True))
    for question in asked:
        items = [candidate.item_id for candidate in question.task.candidates]
        assert items.count(question.target) == 1 and len(items) == len(set(items)) <= 4
        assert not set(items) & set(seen[question.task.user_id]) and set(question.rates) == set(items)
    kinds = {rate for question in asked for rate in question.rates.values()}
    assert max(kinds) / min(kinds) > 3, "items from all of the catalog are drawn more rarely than candidates"


@pytest.mark.slow
def test_the_blend_is_learned_by_those_who_were_not_taught_about_and_the_adapter_stays(tuned) -> None:
    config, _ = tuned
    before, run_id = adapters.serving(config, "recommender"), runs.new_run_id()
    config = config.model_copy(update={"recommend": config.recommend.model_copy(update={"blend": True})})
    with pytest.raises(InputError, match="run tune_recommender first"):
        blend.serving(config)
    train_fusion(config, run_id)
    tune_recommender(config, run_id)
    (row,) = [row for row in runs.ledger(config, run_id) if row["stage"] == "tune_recommender"]
    assert row["notes"]["checked"]["lists"] >= 20 and blend.serving(config) is not None
    assert adapters.serving(config, "recommender").name == before.name


def test_where_the_model_answers_nothing_the_prior_alone_orders(tuned, monkeypatch, capsys) -> None:
    config, run_id = tuned[0], runs.new_run_id()
    wanted = config.recommend.model_copy(update={"blend": True, "scoring": "choice"})
    config = config.model_copy(update={"recommend": wanted})
    monkeypatch.setattr(batch, "answer", lambda *_: Answers())
    train_fusion(config, run_id)
    tune_recommender(config, run_id)
    learned = blend.serving(config)
    assert learned is not None and (learned.p_yes, learned.prior) == (0.0, 1.0)
    assert "the model answered about 0" in "".join(capsys.readouterr())


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_tune_recommender import settings
from mmsrarec.training.fusion_stage import train_fusion
from mmsrarec.training.recommender_stage import tune_recommender
tune_recommender(settings(Path({folder!r}), save_every=1), "killed")
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_from_its_last_checkpoint(tmp_path) -> None:
    config = lake(tmp_path, save_every=1)
    code = KILLED.format(tests=str(Path(__file__).parent), folder=str(tmp_path))
    process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stderr=subprocess.DEVNULL)
    patience = time.monotonic() + 300
    try:
        while not list(Path(config.table("models/tuning")).glob("*/checkpoint_*/checkpoint/trainer_state.json")):
            assert process.poll() is None and time.monotonic() < patience, "it ended before its first checkpoint"
            time.sleep(0.1)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        subprocess.run(["pkill", "-9", "-f", str(tmp_path)], check=False)
        process.wait()
    states = Path(config.table("models/tuning")).glob("*/checkpoint_*/checkpoint/trainer_state.json")
    before = max((json.loads(state.read_text()) for state in states), key=lambda state: state["global_step"])
    config = config.model_copy(update={"run": config.run.model_copy(update={"lease": 1, "wait": 60})})
    tune_recommender(config, "after")
    told = curve(config, "after")["loss"]
    assert len(told) == before["max_steps"] > before["global_step"]
    logged = {row["step"]: row["loss"] for row in before["log_history"] if "loss" in row}
    assert logged and all(told[step] == loss for step, loss in logged.items()), "its steps were not taken again"
    assert adapters.serving(config, "recommender").name
