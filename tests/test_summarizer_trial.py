"""When an adapter of the summarizer is taken: the verdict from figures, and real adapters before a real engine."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
import tuning_lake
from peft import get_peft_model

from mmsrarec.config import Config
from mmsrarec.engines import adapters
from mmsrarec.engines.template import Template
from mmsrarec.keywords.alarms import Alarm
from mmsrarec.keywords.rewards import Rewards
from mmsrarec.storage import runs, tables
from mmsrarec.training import backbone, curve, summarizer_data, summarizer_stage, summarizer_trial
from mmsrarec.training.summarizer_data import Taken

QUIET = [Alarm("favored_keyword", "items with the keyword 'box'", 0.1, 0.1, False)]


def paid(totals: list[float]) -> list[list[Rewards]]:
    return [[Rewards(total, total, total, total)] for total in totals]


def verdict(tmp_path: Path, better: float, downstream: float, signs: list[Alarm] = QUIET, users: int = 20):
    rng = np.random.default_rng(1)
    base, noise = rng.normal(0.3, 0.2, 40), rng.normal(0, 0.01, 40)
    auc, beside = rng.uniform(0.4, 0.9, users), rng.normal(0, 0.01, users)
    told = paid((base + better + noise).tolist()), paid(base.tolist())
    return summarizer_trial.verdict(tuning_lake.settled(tmp_path), told, (auc + downstream + beside, auc), signs)


def test_a_better_adapter_is_taken(tmp_path: Path) -> None:
    found = verdict(tmp_path, 0.1, 0.0)
    assert found.taken and found.reward.low > 0 and found.reward.count == 40
    assert found.reward.difference == pytest.approx(found.reward.tuned - found.reward.untuned)
    assert json.loads(json.dumps(found.facts()))["alarms"]["favored_keyword"]["rings"] is False


def test_an_adapter_without_a_gain_is_not_taken(tmp_path: Path) -> None:
    for better in (0.0, -0.1):
        found = verdict(tmp_path, better, 0.1)
        assert not found.taken and "held-out items" in found.why and found.why.startswith("the untuned backbone serves")


def test_an_adapter_that_tells_less_of_the_next_item_is_not_taken(tmp_path: Path) -> None:
    found = verdict(tmp_path, 0.1, -0.1)
    assert not found.taken and found.downstream.high < 0 and "next items" in found.why
    assert verdict(tmp_path, 0.1, -0.0005).taken  # within its interval


def test_an_alarm_bars_an_adapter(tmp_path: Path) -> None:
    alarm = Alarm("favored_keyword", "items with the keyword 'box'", 0.9, 0.1, True)
    found = verdict(tmp_path, 0.1, 0.1, [*QUIET, alarm])
    assert not found.taken and "items with the keyword 'box': 0.90, untuned 0.10" in found.why


def test_without_validation_users_the_reward_decides(tmp_path: Path) -> None:
    found = verdict(tmp_path, 0.1, 0.0, users=1)
    assert found.taken and found.downstream is None and "no validation users" in found.why


def test_the_next_item_is_told_by_keywords_that_the_history_shares() -> None:
    words = {"h": ["red", "mug"], "t": ["red", "lamp"], "n1": ["steel", "desk"], "n2": ["oak", "bag"], "e": []}
    keywords = pa.table({"item_id": list(words), "keywords": pa.array(words.values(), pa.list_(pa.string()))})
    users = [
        Taken("a: told", ["h"], "t", ["n1", "n2"]),
        Taken("b: wrong", ["h"], "n1", ["t", "n2"]),
        Taken("c: silent", ["e", "unknown"], "t", ["n1", "n2"]),
        Taken("d: unknown target", ["h"], "unknown", ["t", "n1"]),
    ]
    assert summarizer_trial.told(keywords, users).tolist() == [1.0, 0.25, 0.5, 0.25]
    again = [*users, Taken("b: wrong", ["h"], "t", ["n1", "n2"])]  # a user is one, however often asked
    assert summarizer_trial.told(keywords, again).tolist() == [1.0, 0.625, 0.5, 0.25]
    assert summarizer_trial.told(keywords, []).tolist() == []


def test_check_users_never_took_their_negatives(tmp_path: Path) -> None:
    config = tuning_lake.write(tmp_path)
    _, held_out = summarizer_data.drawn(config, Template.of(config))
    users = summarizer_data.taken(config, [item.item_id for item in held_out])
    histories = {row["user_id"]: row for row in tables.read(config.lake.root, "histories").to_pylist()}
    assert 0 < len(users) <= 6
    for user in users:
        row = histories[user.user_id]
        assert row["split"] == "validation" and row["item_ids"][-1] == user.target
        assert row["item_ids"][-1 - len(user.history) : -1] == user.history and len(user.history) <= 5
        assert user.negatives and not set(user.negatives) & set(row["item_ids"])


def write_adapter(config: Config, folder: Path, size: float, seed: int = 0) -> Path:
    """An adapter whose matrices are random and so large."""
    torch.manual_seed(seed)
    model = backbone.load(config, config.tune_summarizer)
    tuned = get_peft_model(model, backbone.lora(config.tune_summarizer, model))
    for name, weight in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=size)
    tuned.save_pretrained(folder)
    return folder


def test_a_given_adapter_serves_as_it_is(tmp_path: Path) -> None:
    config = tuning_lake.write(tmp_path)
    folder = write_adapter(config, tmp_path / "given", 0.01)
    given = tuning_lake.settled(tmp_path, adapter=str(folder))
    summarizer_stage.tune_summarizer(given, "run")
    found = adapters.serving(given, "summarizer")
    assert found.name and (Path(adapters.local(given, found.name)) / "adapter_model.safetensors").exists()
    row = runs.ledger(given, "run")[0]
    assert row["status"] == "completed" and row["versions"]["adapter"] == found.name


def test_nothing_is_done_where_the_untuned_model_is_wanted(tmp_path: Path) -> None:
    config = tuning_lake.settled(tmp_path)
    untuned = config.model_copy(
        update={"summarize_items": config.summarize_items.model_copy(update={"summarizer": "untuned"})}
    )
    summarizer_stage.tune_summarizer(untuned, "run")
    assert "not grpo" in runs.ledger(untuned, "run")[0]["notes"]["skipped"]
    assert adapters.serving(untuned, "summarizer").name is None


def test_a_catalog_that_is_too_small_is_said_and_the_night_goes_on(tmp_path: Path) -> None:
    config = tuning_lake.write(tmp_path, items=4, users=4, prompts=50)
    summarizer_stage.tune_summarizer(config, "run")
    found = adapters.serving(config, "summarizer")
    assert found.name is None and "too few" in found.why
    assert runs.ledger(config, "run")[0]["notes"]["why"] == found.why


def test_an_adapter_serves_until_its_days_are_over(tmp_path: Path) -> None:
    for days, date, kept in ((None, "2027-01-01", True), (7, "2026-03-05", True), (7, "2026-03-20", False)):
        config = tuning_lake.settled(tmp_path, refresh_days=days).model_copy(
            update={"run": tuning_lake.settled(tmp_path).run.model_copy(update={"date": date})}
        )
        adapters.save(config, "summarizer", None, "for a test", {"tuned_on": "2026-03-01"})
        assert (adapters.kept(config, "summarizer") is not None) == kept


def test_the_course_of_a_training_has_each_reward_by_itself() -> None:
    logged = [(1, "rewards/information/mean", 0.5), (1, "clip_ratio/low_min", 0.0), (1, "reward", 0.4)]
    found: list[curve.Point] = summarizer_stage.curves(logged)
    assert found == [(1, "reward_information", 0.5), (1, "reward", 0.4)]


@pytest.mark.slow
def test_a_hopeless_adapter_is_not_taken_and_leaves_nothing(tmp_path: Path) -> None:
    """Random matrices of this size make the model write noise; the engine itself is asked with them."""
    config = tuning_lake.write(tmp_path)
    home = write_adapter(config, tmp_path / "hopeless", 1.0)
    _, held_out = summarizer_data.drawn(config, Template.of(config))
    with runs.stage(config, "tune_summarizer", "run") as stage:
        found = summarizer_stage._tried(config, stage, home, held_out, {"tuned_on": "2026-03-01"})
    assert found.name is None and found.facts["reward"]["difference"] < 0
    assert adapters.serving(config, "summarizer") == found
    assert not list(Path(config.table("models/adapters")).rglob("*.safetensors"))
    assert any(alarm["rings"] for alarm in found.facts["alarms"].values())
