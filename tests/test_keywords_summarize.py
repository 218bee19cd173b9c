"""What is asked about an item, and what its row says where answers are missing. Answers are put in by hand: the engine
itself is asked in test_recommend_stages.py."""

import pytest

from mmsrarec.config import BUNDLED_MODEL, Config
from mmsrarec.engines.answers import Answers
from mmsrarec.engines.template import Template
from mmsrarec.engines.types import Answer
from mmsrarec.keywords import prompt
from mmsrarec.keywords.summarize import Plan, requests, rows_of
from mmsrarec.storage import runs, tables


def settings(folder, **sections) -> Config:
    return Config(inputs={"items": "-", "interactions": "-"}, lake={"root": str(folder)}, **sections)


@pytest.fixture(scope="module")
def template() -> Template:
    return Template(str(BUNDLED_MODEL))


def test_picture_and_text_are_asked_for_separately(tmp_path, template):
    image, text = requests(settings(tmp_path), template, "A red mug", "a.png", "hash")
    assert (image.image, image.image_hash, image.kind, image.max_tokens) == ("a.png", "hash", "text", 48)
    assert "A red mug" not in image.prompt and "<item>A red mug</item>" in text.prompt and text.image is None


@pytest.mark.parametrize(
    "text, image_hash, switches, asked",
    [
        ("mug", None, {}, (False, True)),
        (" \n", "hash", {}, (True, False)),
        (None, None, {}, (False, False)),
        ("mug", "hash", {"use_images": False}, (False, True)),
        ("mug", "hash", {"use_text": False}, (True, False)),
    ],
)
def test_a_missing_modality_is_not_asked(tmp_path, template, text, image_hash, switches, asked):
    found = requests(settings(tmp_path, summarize_items=switches), template, text, "a.png", image_hash)
    assert tuple(request is not None for request in found) == asked


@pytest.mark.parametrize("text", ["word " * 5000, "日本語の説明文。" * 500, "🫖" * 3000, "x" * 3000])
def test_a_text_of_any_script_fits_the_model(tmp_path, template, text):
    config = settings(tmp_path, engine={"max_model_len": 256}, summarize_items={"max_text_chars": 2000})
    _, request = requests(config, template, text, None, None)
    tokens = len(template.tokenizer(request.prompt)["input_ids"])
    assert 256 - 48 - 40 < tokens <= 256 - 48
    assert text[:20] in request.prompt and request.prompt.count("</item>") == 2


def test_rows_where_answers_are_missing(tmp_path):
    given = {
        "image": Answer("image", "text", text="Red, mug, red"),
        "text": Answer("text", "text", text="tea, mug"),
        "nothing": Answer("nothing", "text", text="<|im_end|>, !!"),
        "refused": Answer("refused", "text", error="too long"),
    }
    answers = Answers()
    answers.ask([*given, "lost"])
    answers.put(given.values())
    plans = [
        Plan("both", "image", "text", None),
        Plan("picture refused", "refused", "text", None),
        Plan("text refused", "image", "refused", None),
        Plan("all refused", "refused", "refused", None),
        Plan("lost", None, "lost", "missing"),
        Plan("no keyword", None, "nothing", "missing"),
    ]
    with runs.stage(settings(tmp_path), "summarize_items", "r") as stage:
        stage.versions["model"] = "m"
        rows = {row["item_id"]: row for row in rows_of(settings(tmp_path), stage, plans, answers)}
    assert rows["both"]["keywords"] == ["red", "mug", "tea"] and rows["both"]["image_ok"]
    shown = {item_id: (row["keywords"], row["image_ok"], row["image_note"]) for item_id, row in rows.items()}
    assert shown["picture refused"] == (["tea", "mug"], False, "engine_error")
    assert shown["text refused"] == (["red", "mug"], True, None)
    assert shown["no keyword"] == ([], False, "missing")
    rejects = {row["key"]: row for row in tables.read(str(tmp_path), "rejects").to_pylist()}
    assert set(rejects) == {"all refused", "lost"} and rejects.keys().isdisjoint(rows)
    assert "too long" in rejects["all refused"]["message"] and rejects["lost"]["error"] == "engine_error"
    assert stage.notes["without_keywords"] == 1 and stage.notes["text_errors"] == 1
    assert stage.notes["pictures"] == {"engine_error": 1, "missing": 1}
    assert rows["both"]["prompt_version"] == prompt.PROMPT_VERSION
