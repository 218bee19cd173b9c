"""Examples of the four instruction types: what is asked and answered, and that the sampling of negatives is undone."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from mmsrarec.config import BUNDLED_MODEL, Config, TuneRecommender
from mmsrarec.engines.template import Template
from mmsrarec.errors import ModelError
from mmsrarec.recommendation import prompt
from mmsrarec.recommendation.examples import Example, Question, Writer
from mmsrarec.recommendation.scoring import Shown
from mmsrarec.recommendation.task import Candidate, Task
from mmsrarec.training import recommender_sft as sft

MIX = {"pointwise": 1.0, "choice": 0.5, "next_keywords": 0.3, "preference": 0.2}
CANDIDATES = [
    Candidate("hard-1", ["red", "mug"], "together some"),
    Candidate("target", ["blue", "mug"], "together strong"),
    Candidate("random", ["green", "lamp"], "together none"),
    Candidate("hard-2", [], None),
]
QUESTION = Question(
    Task("u1", [["blue", "bag"], ["red", "mug"], ["blue", "oak"]], [["wool"]], CANDIDATES),
    "target",
    {"hard-1": 0.5, "hard-2": 0.5, "target": 0.5, "random": 0.001},
)


@pytest.fixture(scope="module")
def template() -> Template:
    return Template(str(BUNDLED_MODEL))


def examples(
    template: Template, question: Question = QUESTION, room: int = 800, shown: Shown | None = None, **mix: float
) -> dict[str, list[Example]]:
    found: dict[str, list[Example]] = {}
    for example in Writer(template, room, mix or MIX, ("yes", "no"), 3, 17, shown or {}).examples(question):
        found.setdefault(example.instruction, []).append(example)
    return found


def collated(groups: list[sft.Rows], folder: Path | None = None) -> dict:
    inputs = {"items": "-", "interactions": "-", "images": folder and str(folder)}
    return sft.Collator(Config(inputs=inputs, lake={"root": "-"}), pad=0)([{"batch": groups}])


def tokenized(template: Template, question: Question = QUESTION, **more: Any) -> sft.Rows:
    return sft.tokenized([one for every in examples(template, question, **more).values() for one in every], template)


def test_every_instruction_asks_about_the_same_user_and_has_its_answer(template: Template) -> None:
    found = examples(template)
    assert [one.answer for one in found["pointwise"]] == ["no", "yes", "no", "no"]
    (choice,), (following,), (preference,) = (found[name] for name in ("choice", "next_keywords", "preference"))
    line = next(line for line in choice.prompt.splitlines() if line.startswith(f"{choice.answer}. "))
    assert "blue, mug" in line and "together strong" in line
    assert sum(line[:2] in ("A.", "B.", "C.") for line in choice.prompt.splitlines()) == 3
    assert following.answer == "blue, mug" and prompt.NEXT in following.prompt and "together" not in following.prompt
    assert preference.answer.split(", ")[:2] == ["blue", "mug"], "first what history and target share"
    assert "wool" not in preference.prompt and "wool" in following.prompt, "a preference is from the history alone"
    assert all("blue, bag" in one.prompt for every in found.values() for one in every)


def test_the_mix_says_what_an_instruction_weighs_however_many_examples_it_has(template: Template) -> None:
    found = examples(template)
    assert {name: sum(one.weight for one in every) for name, every in found.items()} == pytest.approx(MIX)
    assert list(examples(template, pointwise=1.0)) == ["pointwise"]


def test_an_offset_is_how_much_rarer_an_items_kind_was_drawn(template: Template) -> None:
    assert [one.offset for one in examples(template)["pointwise"]] == pytest.approx([0, 0, np.log(500), 0])


def test_an_item_without_keywords_teaches_no_keywords(template: Template) -> None:
    nameless = Question(QUESTION.task, "hard-2", QUESTION.rates)
    assert "next_keywords" not in examples(template, nameless)
    empty = Task("u2", [[], []], [], CANDIDATES)
    assert "preference" not in examples(template, Question(empty, "target", QUESTION.rates))


def test_no_prompt_is_longer_than_the_model_reads(template: Template) -> None:
    whole = examples(template)
    long = Task("u3", QUESTION.task.history * 40, [["wool"]], CANDIDATES)
    found = examples(template, Question(long, "target", QUESTION.rates), room=200)
    assert found.keys() == whole.keys()
    for one in (one for every in found.values() for one in every):
        assert 100 < len(template.token_ids(one.prompt)) <= 200, one.instruction
        assert "\n1. " in one.prompt and "blue, oak" in one.prompt, "the latest of the history stay"
    shown = {name: found[name][0].prompt.count("blue, oak") for name in ("pointwise", "next_keywords", "preference")}
    assert 1 < min(shown.values()) == max(shown.values()), "a history is cut once, or nothing could be shared"


def test_what_is_learned_does_not_depend_on_how_negatives_were_drawn() -> None:
    """Two kinds of items, taken by 1 in 2 and by 1 in 100; of the second kind's negatives only a tenth is kept. The
    log-odds that the loss leads to are those of all items, up to one constant, and without the offset they are not."""

    def learned(offset: float) -> float:
        """Log-odds of the second kind less those of the first, by which the order of lists is decided."""
        free = torch.zeros(2, requires_grad=True)
        kinds = torch.tensor([0] * 200 + [1] * 109)  # 100 yes and 100 no; 10 yes, and 99 of 990 no
        labels = torch.tensor([1] * 100 + [0] * 100 + [1] * 10 + [0] * 99)
        optimizer = torch.optim.LBFGS([free], max_iter=200)

        def model(**_: Any) -> Any:
            return SimpleNamespace(logits=torch.stack([torch.zeros(309), free[kinds]], dim=1)[:, None])

        each = torch.arange(309)
        batch = {"groups": each, "places": 0 * each, "labels": labels, "sequences": each, "offsets": offset * kinds}

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            loss = sft.answer_losses(model, batch, yes=1).mean()
            loss.backward()
            return loss

        optimizer.step(closure)
        return (free[1] - free[0]).item()

    true = np.log(10 / 990)
    assert learned(np.log(10)) == pytest.approx(true, abs=0.01)
    assert abs(learned(0.0) - true) > 2


def test_batches_hold_what_they_may_and_every_example_once_an_epoch(template: Template) -> None:
    rows = tokenized(template)
    for share, groups in ((True, 3), (False, 3 * len(rows))):
        settings = TuneRecommender(batch_tokens=500, epochs=2, share_prefixes=share)
        together = list(sft.grouped([rows] * 3, settings))
        assert len(together) == groups
        batches = list(sft.batched(together, settings, np.random.default_rng(1)))
        assert sum(len(group) for batch in batches for group in batch) == 2 * 3 * len(rows)
        widest = [max(map(sft.length, batch)) * len(batch) for batch in batches]
        assert all(width <= 500 or len(batch) == 1 for width, batch in zip(widest, batches, strict=True))


def test_what_is_taught_of_an_example_is_its_answer(template: Template) -> None:
    rows = tokenized(template)
    for groups in ([rows, rows[:2]], [[row] for row in rows]):
        batch, sequences = collated(groups), [row for group in groups for row in group]
        for number, row in enumerate(sequences):
            own = batch["sequences"] == number
            assert batch["labels"][own].tolist() == row["tokens"][-row["answer"] :]
            first, group = batch["places"][own][0], batch["groups"][own][0]
            assert batch["input_ids"][group, first] == row["tokens"][-row["answer"] - 1], "told at the token before it"
        if batch["attention_mask"].ndim == 2:
            assert batch["attention_mask"].sum(1).tolist() == [len(row["tokens"]) for row in rows]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_examples_that_share_their_prefix_teach_what_they_teach_alone(template: Template, attention: str) -> None:
    """Loss and gradient of every example of two questions, one with a longer history: packed, and one by one."""
    more = Question(Task("u2", QUESTION.task.history * 3, [["oak"]], CANDIDATES), "hard-1", QUESTION.rates)
    questions = [tokenized(template), tokenized(template, more)]
    rows = [row for question in questions for row in question]
    settings = TuneRecommender()
    assert sum(map(sft.length, sft.grouped(questions, settings))) < sum(len(row["tokens"]) for row in rows) / 2
    model = AutoModelForImageTextToText.from_pretrained(
        BUNDLED_MODEL, dtype=torch.float32, attn_implementation=attention
    )
    (yes, _), found = template.yes_no_ids(), []
    for groups in (questions, [[row] for row in rows]):
        batch = collated(groups)
        read = {name: batch[name] for name in batch if name not in ("weights", "instructions")}
        losses = sft.answer_losses(model, read, yes)
        model.zero_grad()
        (losses * batch["weights"]).sum().backward()
        found.append((losses.detach(), model.model.language_model.layers[0].mlp.up_proj.weight.grad.clone()))
    torch.testing.assert_close(*(losses for losses, _ in found), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(*(gradient for _, gradient in found), rtol=1e-3, atol=1e-5)
    sft.require_same(model, sft.Collator(Config(inputs={"items": "-", "interactions": "-"}), pad=0), rows, yes)
    alone = model(torch.tensor([rows[0]["tokens"]])).logits[0, -2]
    raised = alone.detach().clone()
    raised[yes] += rows[0]["offset"]
    assert found[0][0][0] == pytest.approx(-raised.log_softmax(0)[rows[0]["tokens"][-1]].item(), abs=1e-4)


def test_a_model_that_reads_shared_prefixes_wrongly_is_refused(template: Template) -> None:
    """One whose layers see what was there before, whatever the mask says."""
    model = AutoModelForImageTextToText.from_pretrained(BUNDLED_MODEL, dtype=torch.float32)
    language = model.model.language_model
    plain = language.forward
    language.forward = lambda *args, attention_mask=None, **more: plain(*args, **more)
    with pytest.raises(ModelError, match="share_prefixes=false"):
        collator = sft.Collator(Config(inputs={"items": "-", "interactions": "-"}), pad=0)
        sft.require_same(model, collator, tokenized(template), template.yes_no_ids()[0])


@pytest.fixture
def shown(tmp_path: Path) -> Shown:
    """Pictures of three of the four candidates, of other sizes, and one of them can no longer be opened."""
    for name, size in (("target", (112, 56)), ("random", (40, 130))):
        pixels = np.random.default_rng(len(name)).integers(0, 255, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    return {name: (f"{name}.png", "hash") for name in ("target", "random", "hard-2")}


def test_a_candidate_is_taught_with_the_picture_that_scoring_shows(
    template: Template, shown: Shown, tmp_path: Path
) -> None:
    rows = tokenized(template, shown=shown)
    assert [row["instruction"] for row in rows if row["image"]] == ["pointwise"] * 3
    groups = list(sft.grouped([rows], TuneRecommender()))
    batches = list(sft.batched(groups, TuneRecommender(), np.random.default_rng(1), picture=64))
    assert sorted(len(batch) for batch in batches) == [1, 3], "the texts are one group"
    (batch,) = (batch for batch in batches if batch[0][0]["image"])
    read, batch = collated(batch, tmp_path), [row for (row,) in batch]
    model = AutoModelForImageTextToText.from_pretrained(BUNDLED_MODEL, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(BUNDLED_MODEL)
    names = "groups", "places", "labels", "sequences", "weights", "offsets", "instructions"
    told = {name: read.pop(name) for name in names}
    with torch.no_grad():
        found = model(**read).logits[told["groups"], told["places"]]
    for number, row in enumerate(batch):
        assert template.tokenizer.decode(told["labels"][number]) == ("yes" if row["image"] == "target.png" else "no")
        if row["image"] == "hard-2.png":
            assert told["weights"][number] == 0
            continue
        assert told["weights"][number] == pytest.approx(row["weight"]) and row["weight"] > 0
        asked = row["text"].removesuffix("yes").removesuffix("no")
        picture = Image.open(tmp_path / row["image"])
        alone = processor(text=[asked], images=[picture], return_tensors="pt")
        with torch.no_grad():
            torch.testing.assert_close(found[number], model(**alone).logits[0, -1], rtol=1e-4, atol=1e-4)
