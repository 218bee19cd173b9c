"""Tokens of staged requests: as the model's own tokenizer and processor have them, before any engine sees them."""

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from mmsrarec.config import BUNDLED_MODEL, Config
from mmsrarec.engines import staging
from mmsrarec.engines.answers import Answers
from mmsrarec.engines.template import Template
from mmsrarec.engines.types import Group, Request
from mmsrarec.engines.workload import Workload, measure

WORDS = "red orange blue mug lamp bag wool steel oak striped dotted calm wild summer winter travel".split()


@pytest.fixture(scope="module")
def template() -> Template:
    return Template(str(BUNDLED_MODEL))


def settings(folder: Path, **sections) -> Config:
    inputs = {"items": "-", "interactions": "-", "images": str(folder)}
    return Config(inputs=inputs, lake={"root": str(folder / "lake")}, **sections)


def staged(config: Config, folder: Path, groups: list[Group]) -> list[str]:
    folder.mkdir()
    answers = Answers()
    staging.stage(config, groups, answers, folder / "asked.parquet")
    return staging.stage_new(config, answers, folder / "asked.parquet", folder)[0]


def users(template: Template, count: int, candidates: int = 8) -> list[Group]:
    """User `n` has a history of 3 to 12 items; its candidates stand at the end."""
    groups = []
    for n in range(count):
        history = " ".join(f"{WORDS[(n + place) % 16]} {WORDS[(n * place) % 16]}," for place in range(3 + n % 10))
        asked = [f"{history} user {n}. Candidate: {WORDS[c]} {WORDS[n % 16]}" for c in range(candidates)]
        prompts = [template.render([{"role": "user", "content": text}]) for text in asked]
        groups.append(Group(f"user {n}", tuple(Request(prompt, "yes_no") for prompt in prompts)))
    return groups


def pictures(template: Template, folder: Path) -> Group:
    question = [{"type": "image"}, {"type": "text", "text": "What is this?"}]
    prompt = template.render([{"role": "user", "content": question}])
    for name, size in (("large", (448, 448)), ("small", (56, 56))):
        Image.new("RGB", size, "red").save(folder / f"{name}.png")
    return Group("p", tuple(Request(prompt, "text", 48, f"{name}.png", name) for name in ("large", "small", "gone")))


def test_a_sample_of_all_is_exact(tmp_path: Path, template: Template) -> None:
    config = settings(tmp_path, engine={"batch_rows": 4})
    groups = users(template, 10)
    work = measure(config, template, staged(config, tmp_path / "staged", groups), answer_tokens=6)
    tokens = [len(template.tokenizer(one.prompt)["input_ids"]) for group in groups for one in group.requests]
    assert (work.groups, work.requests, work.pictures, work.output_tokens) == (10, 80, 0, 80)
    assert abs(work.prompt_tokens - sum(tokens)) <= 1 and work.tokens == work.prompt_tokens + 80


def test_a_sample_is_near(tmp_path: Path, template: Template) -> None:
    groups = users(template, 200)
    config = settings(tmp_path, plan={"sample": 25})
    files = staged(config, tmp_path / "staged", groups)
    some = measure(config, template, files, 6)
    everything = measure(config.model_copy(update={"plan": config.plan.model_copy(update={"sample": 200})}), template,
                         files, 6)  # fmt: skip
    assert (some.requests, some.groups) == (everything.requests, everything.groups) == (1600, 200)
    assert some.prompt_tokens == pytest.approx(everything.prompt_tokens, rel=0.03)
    assert some == measure(config, template, files, 6), "the same sample every time"


def test_pictures_take_the_tokens_of_the_processor(tmp_path: Path, template: Template) -> None:
    from transformers import AutoProcessor

    group = pictures(template, tmp_path)
    config = settings(tmp_path)
    work = measure(config, template, staged(config, tmp_path / "staged", [group]), answer_tokens=5.5)
    processor = AutoProcessor.from_pretrained(BUNDLED_MODEL)
    expected = 0
    for request in group.requests[:2]:
        shown = Image.open(tmp_path / request.image)
        expected += len(processor(text=[request.prompt], images=[shown])["input_ids"][0])
    assert (work.requests, work.pictures, work.output_tokens) == (3, 3, round(3 * 5.5))
    assert work.prompt_tokens == expected, "a picture that cannot be opened is refused and costs nothing"


def test_prefixes_are_spared_in_whole_blocks(tmp_path: Path, template: Template) -> None:
    (group,) = users(template, 1, candidates=4)
    config = settings(tmp_path, engine={"block_size": 16})
    work = measure(config, template, staged(config, tmp_path / "staged", [group]), 6)
    ids = [template.tokenizer(request.prompt)["input_ids"] for request in group.requests]
    shared = next(n for n, place in enumerate(zip(*ids, strict=False)) if len(set(place)) > 1)
    assert shared >= 16 and work.cached_tokens == 3 * (shared // 16 * 16)


def test_the_same_question_about_two_pictures_shares_nothing_after_it(tmp_path: Path, template: Template) -> None:
    group = pictures(template, tmp_path)
    config = settings(tmp_path, engine={"block_size": 1})
    large, small = group.requests[:2]
    twice = measure(config, template, staged(config, tmp_path / "a", [Group("p", (large, small))]), 6)
    ids = template.token_ids(small.prompt, Image.open(tmp_path / "small.png"), "small")
    assert twice.cached_tokens == ids.index("small")
    again = replace(small, max_tokens=47)  # the same picture in another request
    same = measure(config, template, staged(config, tmp_path / "b", [Group("p", (small, again))]), 6)
    assert same.cached_tokens == len(ids) - 1


def test_work_is_scaled(template: Template) -> None:
    assert Workload(2, 10, 1, 100, 40, 10).times(2.5) == Workload(5, 25, 2, 250, 100, 25)
