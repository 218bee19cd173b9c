"""The sequence models: what a state may depend on, training, early stopping, going on, the stage."""

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from mmsrarec.collaborative import checkpoint, embed
from mmsrarec.collaborative.embed import Sequences
from mmsrarec.collaborative.network import Network
from mmsrarec.config import Config, Run, Sasrec
from mmsrarec.errors import InputError
from mmsrarec.storage import tables
from mmsrarec.training import batches as batching
from mmsrarec.training import sasrec_trainer as trainer
from mmsrarec.training.bookmark import Bookmark

SETTINGS = Sasrec(dim=32, max_length=8, epochs=3, device="cpu")


@pytest.fixture(params=["sasrec", "gru4rec"])
def model(request: pytest.FixtureRequest) -> Network:
    torch.manual_seed(0)
    model = checkpoint.build(20, SETTINGS.model_copy(update={"network": request.param})).eval()
    for parameter in model.parameters():  # larger than at the start of training, so that differences show
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def sequences(*rows: list[int]) -> Sequences:
    return Sequences(np.array(sum(rows, []), np.int32), np.cumsum([0, *map(len, rows)]))


def histories(rows: list[tuple[str, list[str], str]]) -> pa.Table:
    names = ("user_id", "item_ids", "split")
    return tables.from_rows("histories", [dict(zip(names, row, strict=True)) for row in rows])


def chain_shop(users: int = 60) -> pa.Table:
    """Every item has one successor, so that a sequential model can be nearly perfect."""
    rng = np.random.default_rng(5)
    rows = []
    for user in range(users):
        start, length = rng.integers(20), rng.integers(4, 9)
        split = ("train", "train", "train", "train", "validation", "test")[user % 6]
        rows.append((f"u{user:02}", [f"i{(start + step) % 20:02}" for step in range(length)], split))
    return histories(rows)


def config(folder: object, **settings: object) -> Config:
    return Config(
        inputs={"items": "", "interactions": ""},
        lake={"root": str(folder)},
        sasrec=SETTINGS.model_dump() | settings,
    )


def test_later_items_do_not_change_earlier_states(model: Network) -> None:
    lengths = torch.tensor([5])
    one = model(torch.tensor([[3, 5, 7, 9, 11]]), lengths)
    other = model(torch.tensor([[3, 5, 7, 2, 4]]), lengths)
    assert torch.allclose(one[0, :3], other[0, :3], atol=1e-6)
    assert not torch.allclose(one[0, 3], other[0, 3], atol=1e-2)


def test_padding_and_company_in_the_batch_change_nothing(model: Network) -> None:
    rows = sequences([3, 1, 4], [1, 5, 9, 2, 6, 5, 3], [7])
    together = embed.states(model, rows)
    alone = np.concatenate([embed.states(model, sequences(list(rows[row]))) for row in range(3)])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_a_cut_history_has_the_state_of_its_latest_items(model: Network) -> None:
    long = list(range(15))
    states = embed.states(model, sequences(long, long[-SETTINGS.max_length :], long[-3:]))
    np.testing.assert_allclose(states[0], states[1], atol=1e-5)
    assert np.abs(states[0] - states[2]).max() > 1e-2


def test_order_counts_and_an_empty_history_is_zero(model: Network) -> None:
    states = embed.states(model, sequences([1, 2, 3], [3, 2, 1], []))
    assert np.abs(states[0] - states[1]).max() > 1e-2
    assert not states[2].any()
    assert not embed.unit(states)[2].any()


def test_encode_leaves_unknown_items_out_and_drop_last_keeps_the_rest() -> None:
    lists = pa.chunked_array([[["b", "x", "a"], []], [["c"]]])
    found = embed.encode(lists, pa.array(["a", "b", "c"]))
    assert [list(found[row]) for row in range(3)] == [[1, 0], [], [2]]
    shorter, last = embed.before_last(lists, np.array([True, True, False]))
    assert shorter.to_pylist() == [["b", "x"], [], ["c"]]
    assert last.to_pylist() == ["a"]


def test_training_part_takes_the_held_out_item_out() -> None:
    table = histories([("u", ["a", "b"], "train"), ("v", ["a", "c"], "validation"), ("w", ["b", "d"], "test")])
    assert embed.training_part(table)["item_ids"].to_pylist() == [["a", "b"], ["a"], ["b"]]
    data = trainer.training_data(table)
    assert data.vocabulary.to_pylist() == ["a", "b"]
    assert data.targets.tolist() == [-1]


def test_every_interaction_but_the_first_is_a_target_once() -> None:
    windows = batching.windowed(sequences(list(range(11)), [4], [5, 6], list(range(10, 14))), 4)
    targets = [list(windows[row][1:]) for row in range(len(windows))]
    assert sorted(sum(targets, [])) == sorted([*range(1, 11), 6, 11, 12, 13])
    assert windows.lengths.max() == 5
    assert list(windows[0]) == [6, 7, 8, 9, 10]


def test_batches_hold_every_row_once() -> None:
    lengths = np.random.default_rng(1).integers(2, 30, 1000)
    batches = list(batching.batches(lengths, 64, np.random.default_rng(2)))
    assert sorted(np.concatenate(batches)) == list(range(1000))
    positions = np.array([lengths[batch].sum() for batch in batches])
    assert positions.max() < 31 * lengths.mean() + 30 and np.median(positions) > 0.9 * positions.max()
    assert np.mean([np.ptp(lengths[batch]) for batch in batches]) < 4


def test_validation_against_a_naive_ranking(model: Network) -> None:
    rows = [[1, 2], [3], [4, 5, 6], [7, 1], [0, 9]]
    data = trainer.TrainingData(pa.array([]), sequences(), sequences(*rows), np.array([5, 0, -1, 7, 12]))
    items = model.item_vectors.detach().numpy()
    gains, hits = [], []
    for row, target in zip(rows, data.targets, strict=True):
        scores = items @ embed.states(model, sequences(row))[0]
        ranked = [code for code in np.argsort(-scores) if code not in row or code == target]
        rank = ranked.index(target) + 1 if target >= 0 else 99
        gains.append(1 / np.log2(rank + 1) if target >= 0 else 0)
        hits.append(rank <= 10 and target >= 0)
    expected = {
        "ndcg": np.mean(gains),
        "ndcg_at_10": np.mean(np.multiply(gains, hits)),
        "hit_rate_at_10": np.mean(hits),
    }
    assert trainer.validate(model, data, np.arange(5)) == pytest.approx(expected)


def test_training_learns_the_order() -> None:
    data = trainer.training_data(chain_shop())
    _, facts = trainer.fit(data, SETTINGS.model_copy(update={"epochs": 40, "patience": 40}), seed=3)
    assert facts["ndcg_at_10"] > 0.8


def test_patience_ends_training_and_the_best_epoch_is_kept(monkeypatch) -> None:
    monkeypatch.setattr(trainer, "PATIENCE", 1)
    data = trainer.training_data(chain_shop())
    model, facts = trainer.fit(data, SETTINGS.model_copy(update={"epochs": 200, "patience": 2}), seed=3)
    assert facts["epochs"] == facts["best_epoch"] + 2 < 200
    assert trainer.validate(model, data, np.arange(len(data.targets)))["ndcg"] == pytest.approx(facts["ndcg"])


def test_a_shop_with_few_steps_an_epoch_is_waited_for(monkeypatch) -> None:
    monkeypatch.setattr(trainer, "PATIENCE", 20)
    data = trainer.training_data(chain_shop())
    steps = math.ceil(len(data.training) / SETTINGS.batch_size)
    _, facts = trainer.fit(data, SETTINGS.model_copy(update={"epochs": 300, "patience": 2}), seed=3)
    assert facts["epochs"] == facts["best_epoch"] + math.ceil(20 / steps) > facts["best_epoch"] + 2


def test_every_held_out_item_of_a_validation_user_is_asked_for() -> None:
    rows = [
        {"user_id": "a", "item_ids": ["v", "w", "x", "y", "z"], "split": "validation", "held_out": 3},
        {"user_id": "b", "item_ids": ["w", "x"], "split": "validation", "held_out": 1},
        {"user_id": "c", "item_ids": ["v", "w", "x", "z", "y"], "split": "train", "held_out": 0},
    ]
    data = trainer.training_data(pa.Table.from_pylist(rows))
    said = [
        ("".join(data.vocabulary.take(pa.array(data.validation[row])).to_pylist()), data.vocabulary[int(code)].as_py())
        for row, code in enumerate(data.targets)
    ]
    assert sorted(said) == [("vw", "x"), ("vwx", "y"), ("vwxy", "z"), ("w", "x")]


class KilledAfter(Bookmark):
    """Saves every epoch, and ends the training after some, as a kill would."""

    def __init__(self, file: object, epochs: int):
        super().__init__(file, "made from this", every=0.0)
        self.left = epochs

    def save(self, state: dict, rng: np.random.Generator) -> None:
        super().save(state, rng)
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


def test_a_training_that_was_killed_ends_in_the_same_weights(tmp_path: object) -> None:
    data, settings = trainer.training_data(chain_shop()), SETTINGS.model_copy(update={"epochs": 6})
    whole, course = [], []
    undisturbed, facts = trainer.fit(data, settings, 3, course=whole)
    assert [point[:2] for point in whole[:3]] == [(1, "loss"), (1, "ndcg_at_10"), (1, "hit_rate_at_10")]
    for epochs in (2, 1):
        with pytest.raises(KeyboardInterrupt):
            trainer.fit(data, settings, 3, KilledAfter(tmp_path / "training.pt", epochs))
    resumed, found = trainer.fit(data, settings, 3, Bookmark(tmp_path / "training.pt", "made from this"), course)
    assert found == facts and course == whole and course[-3][0] == 6
    for name, tensor in undisturbed.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name
    other = Bookmark(tmp_path / "training.pt", "made from something else")
    assert other.load(np.random.default_rng()) is None


def test_new_interactions_train_another_when_it_is_due(tmp_path: object, capsys: object) -> None:
    def trained(date: str, shop: pa.Table, **settings: object) -> str:
        lake = config(tmp_path, **settings).model_copy(update={"run": Run(date=date)})
        tables.replace(lake.lake.root, "histories", shop)
        trainer.train_sasrec(lake, f"run of {date}")
        return checkpoint.describe(checkpoint.folder(lake))["model_hash"]

    shop, more = chain_shop(), chain_shop(users=66)
    first = trained("2026-03-01", shop)
    assert trained("2026-03-07", more) == first
    assert "trained on 2026-03-01" in capsys.readouterr().err
    assert trained("2026-03-07", more, refresh_days=0) != first
    tables.replace(str(tmp_path), "histories", shop)
    first = trained("2026-03-08", shop, refresh_days=0)
    assert trained("2026-03-15", more) != first
    renamed = pa.table({**dict(zip(shop.column_names, shop.columns, strict=True)), "item_ids": other_items(shop)})
    assert trained("2026-03-16", renamed) != trained("2026-03-15", more)


def other_items(shop: pa.Table) -> pa.Array:
    return pa.array([[f"new-{item}" for item in row] for row in shop["item_ids"].to_pylist()])


def test_stage_is_deterministic_and_skips_what_has_not_changed(tmp_path: object, capsys: object) -> None:
    hashes, weights = [], []
    for lake in ("one", "other"):
        settings = config(tmp_path / lake)
        tables.replace(settings.lake.root, "histories", chain_shop())
        trainer.train_sasrec(settings, "run")
        hashes.append(checkpoint.describe(checkpoint.folder(settings))["model_hash"])
        weights.append(Path(checkpoint.folder(settings), f"weights-{hashes[-1]}.safetensors").read_bytes())
    assert hashes[0] == hashes[1]
    assert weights[0] == weights[1]
    tables.replace(settings.lake.root, "histories", chain_shop().sort_by([("user_id", "descending")]))
    trainer.train_sasrec(settings, "again")
    assert "nothing has changed" in capsys.readouterr().err
    trainer.train_sasrec(config(tmp_path / "other", learning_rate=0.01), "third")
    assert checkpoint.describe(checkpoint.folder(settings))["model_hash"] != hashes[0]
    left = sorted(path.name.partition("-")[0] for path in Path(checkpoint.folder(settings)).iterdir())
    assert left == ["sasrec.json", "vocabulary", "weights"]
    curves = tables.read(settings.lake.root, "training_curves").to_pylist()
    assert {row["run_id"] for row in curves} == {"run", "third"} and {row["stage"] for row in curves} == {
        "train_sasrec"
    }
    assert {row["name"] for row in curves} == {"loss", "ndcg_at_10", "hit_rate_at_10"}


def test_what_is_missing_is_said(tmp_path: object) -> None:
    with pytest.raises(InputError, match="run build_cf first"):
        trainer.train_sasrec(config(tmp_path), "run")
    with pytest.raises(InputError, match="run train_sasrec first"):
        checkpoint.load(tmp_path / "models" / "sasrec")
    tables.replace(str(tmp_path), "histories", histories([("u", ["a"], "train"), ("v", ["a", "b"], "test")]))
    with pytest.raises(InputError, match="two training items"):
        trainer.train_sasrec(config(tmp_path), "run")
