"""What both sequence models share: the loss against torch's own, the checkpoint, text vectors, the step size."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from mmsrarec.collaborative import checkpoint, embed, text
from mmsrarec.collaborative.embed import Sequences
from mmsrarec.collaborative.text import ItemText
from mmsrarec.config import Config, Sasrec
from mmsrarec.errors import InputError
from mmsrarec.storage import runs, tables
from mmsrarec.training import loss
from mmsrarec.training import sasrec_trainer as trainer

SETTINGS = Sasrec(dim=16, hidden=24, layers=1, max_length=8, epochs=2, device="cpu")
TITLES = ["red woollen socks", "blue woollen socks", "garden chair", "folding garden chairs", "", "lamp"]


def given(network: str, **settings: object) -> Sasrec:
    return SETTINGS.model_copy(update={"network": network, **settings})


def lake(folder: Path, **settings: object) -> Config:
    made = Config(
        inputs={"items": "", "interactions": ""},
        lake={"root": str(folder)},
        sasrec=SETTINGS.model_dump() | settings,
    )
    items = [f"i{number}" for number in range(len(TITLES))]
    rows = [
        {"user_id": f"u{user}", "item_ids": [items[(user + step) % 6] for step in range(4)], "split": split}
        for user, split in enumerate(["train"] * 10 + ["validation", "test"])
    ]
    tables.replace(str(folder), "histories", tables.from_rows("histories", rows))
    write_catalog(folder, TITLES)
    return made


def write_catalog(folder: Path, titles: list[str]) -> None:
    rows = [{"item_id": f"i{number}", "text": title} for number, title in enumerate(titles)]
    tables.replace(str(folder), "catalog", tables.from_rows("catalog", rows[::-1]))


def test_the_loss_is_cross_entropy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss, "LEAST_ROWS", 7)
    monkeypatch.setattr(loss, "CHUNK_BYTES", {"cpu": 0})
    torch.manual_seed(1)
    targets = torch.randint(0, 30, (20,))
    ours = torch.randn(20, 8, dtype=torch.double), torch.randn(30, 8, dtype=torch.double)
    theirs = tuple(tensor.clone().requires_grad_() for tensor in ours)
    ours = tuple(tensor.requires_grad_() for tensor in ours)
    mine = loss.FullCatalogLoss.apply(*ours, targets, torch.double)
    reference = torch.nn.functional.cross_entropy(theirs[0] @ theirs[1].T, targets, reduction="sum")
    (3 * mine).backward()
    (3 * reference).backward()
    assert torch.allclose(mine, reference)
    assert all(torch.allclose(one.grad, other.grad) for one, other in zip(ours, theirs, strict=True))


def test_the_loss_in_bfloat16_is_near_that_in_float32() -> None:
    torch.manual_seed(1)
    states, items, targets = 3 * torch.randn(300, 16), torch.randn(500, 16), torch.randint(0, 500, (300,))
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        leaves = states.clone().requires_grad_(), items.clone().requires_grad_()
        value = loss.FullCatalogLoss.apply(*leaves, targets, dtype)
        value.backward()
        found.append((value.detach(), *(leaf.grad for leaf in leaves)))
    for exact, rough in zip(*found, strict=True):
        assert rough.dtype == torch.float32
        assert (exact - rough).norm() < 0.02 * exact.norm()


def test_a_hopeless_target_leaves_the_loss_a_number() -> None:
    states, items = torch.full((1, 4), 100.0), torch.stack([torch.full((4,), 100.0), torch.full((4,), -100.0)])
    assert torch.isfinite(loss.FullCatalogLoss.apply(states, items, torch.tensor([1]), torch.float32))


def test_chunks_are_even_and_fit_the_cache() -> None:
    assert loss.chunk(656, 8 << 20, "cpu") <= loss.LEAST_ROWS
    assert loss.chunk(1000, (8 << 20) // 300, "cpu") == 250
    assert loss.chunk(5, 1, "cpu") == 5


@pytest.mark.parametrize("network", ["sasrec", "gru4rec"])
@pytest.mark.parametrize("width", [None, 3])
def test_checkpoint_round_trip_with_strange_ids(tmp_path: Path, network: str, width: int | None) -> None:
    vocabulary = pa.array([f'{number} "quoted" / \U0001f600 \n' + "x" * 1000 for number in range(20)])
    vectors = None if width is None else torch.randn(20, width)
    settings, place = given(network, text=width is not None), tmp_path / network
    model = checkpoint.build(20, settings, vectors).eval()
    model_hash = checkpoint.save(place, model, vocabulary, settings, {"epochs": 1})
    loaded = checkpoint.load(place)
    assert loaded.vocabulary.equals(vocabulary) and type(loaded.model) is type(model)
    assert (loaded.model_hash, loaded.facts) == (model_hash, {"epochs": 1})
    asked = Sequences(np.array([1, 2], np.int32), np.array([0, 2]))
    np.testing.assert_array_equal(embed.states(loaded.model, asked), embed.states(model, asked))
    assert torch.equal(loaded.model.item_vectors, model.item_vectors)
    assert {file.name.partition("-")[0] for file in place.iterdir()} == {f"{network}.json", "weights", "vocabulary"}


def test_a_setting_of_the_other_network_trains_nothing_anew() -> None:
    for network, setting in (("sasrec", "hidden"), ("gru4rec", "heads")):
        same = checkpoint.network(given(network)) == checkpoint.network(given(network, **{setting: 4}))
        assert same and checkpoint.network(given(network)) != checkpoint.network(given(network, layers=2))


def test_an_item_is_its_row_and_its_text() -> None:
    vectors = torch.eye(6)
    table = checkpoint.build(6, given("sasrec"), vectors).items
    expected = table.weight[1:] + vectors @ table.projection.weight.T
    assert torch.allclose(table.vectors, expected)
    assert torch.allclose(table(torch.arange(7)), torch.cat([torch.zeros(1, 16), expected]))


def test_texts_alike_have_vectors_near_each_other() -> None:
    vectors = text.latent(TITLES, 3)
    assert vectors.shape == (6, 3) and vectors.dtype == np.float32
    assert vectors[0] @ vectors[1] > 0.7 and vectors[2] @ vectors[3] > 0.7 and abs(vectors[0] @ vectors[2]) < 0.3
    assert not vectors[4].any()
    np.testing.assert_array_equal(vectors, text.latent(TITLES, 3))
    assert text.latent(["", ""], 3).shape == (2, 1) and text.latent(["one"], 8).shape == (1, 1)


def test_given_vectors_stand_in_the_order_of_the_items(tmp_path: Path) -> None:
    place = str(tmp_path / "vectors.parquet")
    pq.write_table(pa.table({"item_id": ["b", "x", "a"], "vector": [[0.0, 2.0], [1.0, 1.0], [3.0, 4.0]]}), place)
    made = lake(tmp_path / "lake", text=True, text_vectors=place)
    found = text.read(made, pa.array(["a", "b", "c"])).vectors(128)
    np.testing.assert_allclose(found, [[0.6, 0.8], [0, 1], [0, 0]], atol=1e-6)
    with pytest.raises(InputError, match="no item_id of it is in the catalog"):
        text.read(made, pa.array(["y"]))
    for table in ({"item_id": ["a", "b"], "vector": [[1.0], [1.0, 2.0]]}, {"item_id": ["a"]}):
        pq.write_table(pa.table(table), place)
        with pytest.raises(InputError, match="a list of as many numbers for every item"):
            text.read(made, pa.array(["a"]))
    pq.write_table(pa.table({"item_id": ["a"], "vector": [[float("nan")]]}), place)
    with pytest.raises(InputError, match="not finite"):
        text.read(made, pa.array(["a"]))


def test_the_stage_trains_what_the_configuration_names(tmp_path: Path) -> None:
    hashes = set()
    for settings in ({}, {"text": True}, {"network": "gru4rec"}, {"network": "gru4rec", "text": True}):
        made = lake(tmp_path, **settings)
        trainer.train_sasrec(made, "run")
        assert not trainer.due(made)
        found = checkpoint.load(checkpoint.folder(made))
        assert (found.model.items.text is not None) == bool(settings.get("text"))
        hashes.add(found.model_hash)
    assert len(hashes) == 4 and {place.name for place in (tmp_path / "models").iterdir()} == {
        "sasrec", "text_sasrec", "gru4rec", "text_gru4rec"
    }  # fmt: skip
    checkpoint.drop_others(made)
    assert [place.name for place in (tmp_path / "models").iterdir()] == ["text_gru4rec"]


def test_the_stage_trains_the_networks_of_the_fusion_behind_the_main_one(tmp_path: Path) -> None:
    alone, several = lake(tmp_path), {"fusion": {"networks": ["text_sasrec", "gru4rec", "gru4rec"]}}
    made = Config(**(alone.model_dump() | {"retrieve": several}))
    trainer.train_sasrec(alone, "alone")
    assert not trainer.due(alone) and trainer.due(made)
    trainer.train_sasrec(made, "several")
    assert not trainer.due(made)
    (row,) = runs.ledger(made, "several")
    assert "skipped" in row["notes"] and "skipped" not in row["notes"]["gru4rec"]
    assert {"sasrec", "text_sasrec", "gru4rec"} <= set(row["versions"])
    for each in made.networks:
        alike = Config(**(each.model_dump() | {"lake": {"root": str(tmp_path / "other")}, "retrieve": {}}))
        for name in ("histories", "catalog"):
            tables.replace(alike.lake.root, name, tables.read(made.lake.root, name))
        trainer.train_sasrec(alike, "run")
        found = checkpoint.load(checkpoint.folder(alike))
        assert found.model_hash == row["versions"][each.sasrec.name], "as if it were the main one"
        assert (found.model.items.text is not None) == each.sasrec.text
    stages = {row["stage"] for row in tables.read(made.lake.root, "training_curves").to_pylist()}
    assert stages == {"train_sasrec", "train_sasrec text_sasrec", "train_sasrec gru4rec"}
    checkpoint.drop_others(made)
    assert len(list((tmp_path / "models").iterdir())) == 3
    checkpoint.drop_others(alone)
    assert [place.name for place in (tmp_path / "models").iterdir()] == ["sasrec"]


def test_another_text_trains_another_network_when_it_is_due(tmp_path: Path) -> None:
    made = lake(tmp_path, text=True, refresh_days=0)
    trainer.train_sasrec(made, "run")
    write_catalog(tmp_path, [*TITLES[:5], "lantern for a garden"])
    assert trainer.due(made)
    without = lake(tmp_path, refresh_days=0)
    trainer.train_sasrec(without, "run")
    write_catalog(tmp_path, TITLES)
    assert not trainer.due(without)


def test_text_tells_where_an_unseen_item_belongs() -> None:
    """Histories keep to the first or the last eight items; 7 and 15 are in none, but read like those beside them."""
    words = "one two three four five six seven eight".split()
    texts = ItemText([f"{kind} {word}" for kind in ("alpha", "omega") for word in words], None)
    rng = np.random.default_rng(3)
    rows = [8 * (number % 2) + rng.integers(0, 7, 4) for number in range(300)]
    codes = Sequences(np.concatenate(rows).astype(np.int32), np.arange(0, 1201, 4))
    none = Sequences(np.zeros(0, np.int32), np.zeros(1, np.int64))
    asked = Sequences(np.array([0, 1, 8, 9], np.int32), np.array([0, 2, 4]))
    nearer = []
    for source in (None, texts):
        data = trainer.TrainingData(pa.nulls(16), codes, none, np.zeros(0, np.int64), source)
        model, _ = trainer.fit(data, given("sasrec", epochs=15, learning_rate=1e-2, text_dim=4), seed=1)
        logits = embed.states(model, asked) @ model.item_vectors.detach().numpy().T
        nearer.append(min(logits[0, 7] - logits[0, 15], logits[1, 15] - logits[1, 7]))
    without, with_text = nearer
    assert abs(without) < 0.1 < 0.2 < with_text


def test_the_step_size_rises_and_falls() -> None:
    settings = given("sasrec", learning_rate=1.0, warmup=0.1, schedule="cosine")
    sizes = [trainer.step_size(settings, done) for done in (0.0, 0.05, 0.1, 0.5, 1.0)]
    assert 0 < sizes[0] < sizes[1] < sizes[2] and sizes[3] == pytest.approx(0.5) and sizes[4] == pytest.approx(0)
    assert trainer.step_size(given("sasrec", learning_rate=1.0), 0.9) == 1.0


def test_layers_decay_and_tables_do_not() -> None:
    for network in ("sasrec", "gru4rec"):
        model = checkpoint.build(20, given(network), torch.eye(20))
        decayed, others = trainer._optimizer(model, given(network, weight_decay=0.1), 10).param_groups
        assert decayed["weight_decay"] == 0.1 and others["weight_decay"] == 0
        held = {id(parameter) for parameter in decayed["params"]}
        assert id(model.items.projection.weight) in held and id(model.items.weight) not in held
        assert len(decayed["params"]) + len(others["params"]) == len(list(model.parameters()))
