"""The engine against a slow readable reference: transformers, one prompt at a time, no cache, in float32.

p of the letters of a choice too: with their ids in the template's context, over the letters alone.

vLLM runs the same prompts batched, with shared prefixes in its cache. In float32 the two must agree to 1e-5 and write
the same text; in the model's own half precision p_yes may be off by HALF_PRECISION.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from mmsrarec.config import BUNDLED_MODEL, Config
from mmsrarec.engines import batch
from mmsrarec.engines.template import Template
from mmsrarec.engines.types import Answer, Group, Request
from mmsrarec.recommendation import prompt
from mmsrarec.storage import runs
from mmsrarec.storage.objects import Pictures, image_hash

FLOAT32, HALF_PRECISION = 1e-5, 2e-2
WORDS = "red orange blue mug lamp bag wool steel oak striped dotted calm wild summer winter travel".split()
SIZES = {"square": (112, 112), "wide": (160, 48), "tall": (40, 130), "small": (30, 30)}


class Reference:
    """Reads the definition of the score off the page: a forward pass, two logits, a softmax over them."""

    def __init__(self, config: Config):
        self.processor = AutoProcessor.from_pretrained(BUNDLED_MODEL)
        self.model = AutoModelForImageTextToText.from_pretrained(BUNDLED_MODEL, dtype=torch.float32).eval()
        template = Template(config.model_path)
        self.yes, self.no = template.yes_no_ids()
        self.letters = template.letter_ids(26)
        self.pictures = Pictures(config)

    def inputs(self, request: Request) -> dict:
        images = [self.pictures.open(request.image)] if request.image else None
        return self.processor(text=[request.prompt], images=images, return_tensors="pt")

    @torch.no_grad()
    def p_yes(self, request: Request) -> float:
        logits = self.model(**self.inputs(request)).logits[0, -1].double()
        return torch.softmax(logits[[self.yes, self.no]], 0)[0].item()

    @torch.no_grad()
    def shares(self, request: Request) -> list[float]:
        logits = self.model(**self.inputs(request)).logits[0, -1].double()
        return torch.softmax(logits[self.letters[: request.letters]], 0).tolist()

    @torch.no_grad()
    def text(self, request: Request) -> str:
        inputs = self.inputs(request)
        written = self.model.generate(**inputs, max_new_tokens=request.max_tokens, do_sample=False)
        return self.processor.batch_decode(written[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)[0]


def settings(root: Path, dtype: str) -> Config:
    inputs = {"items": "-", "interactions": "-", "images": str(root)}
    engine = {"enforce_eager": True, "max_model_len": 512, "kv_cache_gb": 0.25, "dtype": dtype}
    return Config(inputs=inputs, lake={"root": str(root / dtype)}, engine=engine)


def draw_pictures(root: Path) -> None:
    random = np.random.default_rng(3)
    for name, (width, height) in SIZES.items():
        blocks = random.integers(0, 255, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(blocks).resize((width, height), Image.Resampling.NEAREST).save(root / f"{name}.png")


def user_groups(template: Template, hashes: dict[str, str]) -> list[Group]:
    """Users of every length with candidates in words, and with the pictures of the candidates."""
    random = np.random.default_rng(5)
    groups = []
    for user in range(8):
        items = [list(random.choice(WORDS, random.integers(0, 7))) for _ in range(user + 2)]
        shared = prompt.user_text(items[: user + 1], items[user + 1 :])
        asked = []
        for name, hashed in hashes.items():
            text = prompt.candidate_text(list(random.choice(WORDS, 4)), "together some")
            asked.append(Request(template.render(prompt.messages(shared, text)), "yes_no"))
            if user % 4 == 0:
                shown = template.render(prompt.messages(shared, text, with_image=True))
                asked.append(Request(shown, "yes_no", 1, f"{name}.png", hashed))
        groups.append(Group(f"user {user}", tuple(asked)))
    return groups


def choice_groups(template: Template) -> list[Group]:
    """Two prompts of each user, with one letter and with all, and with as many as come."""
    random = np.random.default_rng(6)
    groups = []
    for user, sizes in enumerate([(1, 26), (2, 7), (10, 10), (15, 14)]):
        items = [list(random.choice(WORDS, random.integers(0, 7))) for _ in range(user + 2)]
        shared, asked = prompt.user_text(items[: user + 1], items[user + 1 :], prompt.CHOICE), []
        for size in sizes:
            choices = prompt.choices_text([(list(random.choice(WORDS, 3)), "together some") for _ in range(size)])
            asked.append(Request(template.render(prompt.messages(shared, choices)), "choice", letters=size))
        groups.append(Group(f"chooser {user}", tuple(asked)))
    return groups


def item_groups(template: Template, hashes: dict[str, str]) -> list[Group]:
    """The same question about different pictures, and about texts."""
    groups = []
    for number, (name, hashed) in enumerate(hashes.items()):
        parts = [{"type": "image"}, {"type": "text", "text": "What is this?"}]
        picture = template.render([{"role": "user", "content": parts}])
        text = template.render([{"role": "user", "content": f"Describe: {' '.join(WORDS[number : number + 5])}"}])
        groups.append(Group(name, (Request(picture, "text", 12, f"{name}.png", hashed), Request(text, "text", 12))))
    return groups


@pytest.fixture(
    scope="module",
    params=[("float32", FLOAT32), pytest.param(("auto", HALF_PRECISION), marks=pytest.mark.slow)],
    ids=["float32", "auto"],
)
def compared(request, tmp_path_factory) -> tuple[list[tuple[Request, Answer]], Reference, float]:
    """Requests with the engine's answers, the reference, and the tolerance of the engine's type."""
    dtype, tolerance = request.param
    root = tmp_path_factory.mktemp("reference")
    draw_pictures(root)
    config = settings(root, dtype)
    template, pictures = Template.of(config), Pictures(config)
    hashes = {name: image_hash(pictures.open(f"{name}.png")) for name in SIZES}
    groups = [*user_groups(template, hashes), *choice_groups(template), *item_groups(template, hashes)]
    with runs.stage(config, "reference", runs.new_run_id()) as stage:
        answers = batch.answer(config, stage, groups)
    assert stage.notes["cached_tokens"] > 0  # what is compared has been through the prefix cache
    asked = [one for group in groups for one in group.requests]
    return [(one, answers.get(one.key(template.identity))) for one in asked], Reference(config), tolerance


def test_p_yes_is_the_references(compared):
    pairs, reference, tolerance = compared
    scored = [(request, answer) for request, answer in pairs if request.kind == "yes_no"]
    differences = {bool(request.image): [] for request, _ in scored}
    for request, answer in scored:
        differences[bool(request.image)].append(abs(answer.p_yes - reference.p_yes(request)))
    print({"picture" if image else "text": max(found) for image, found in differences.items()})
    assert len(differences[True]) >= 8 and len(differences[False]) >= 32
    assert max(max(found) for found in differences.values()) <= tolerance


def test_p_of_letters_is_the_references(compared):
    pairs, reference, tolerance = compared
    chosen = [(request, answer) for request, answer in pairs if request.kind == "choice"]
    assert len(chosen) == 8
    differences = []
    for request, answer in chosen:
        found = json.loads(answer.text)
        assert len(found) == request.letters and abs(sum(found) - 1) < 1e-5
        differences.append(np.abs(np.array(found) - reference.shares(request)).max())
        assert (answer.p_yes, answer.output_tokens) == (None, 1)
    print({"letters": max(differences)})
    assert max(differences) <= tolerance


def test_greedy_text_is_the_references(compared):
    pairs, reference, tolerance = compared
    written = [(answer.text, reference.text(request)) for request, answer in pairs if request.kind == "text"]
    same = sum(ours == theirs for ours, theirs in written)
    assert len(written) == 2 * len(SIZES)
    assert same == len(written) if tolerance == FLOAT32 else same >= len(written) / 2, written
