"""Users, candidates and pictures made by chance, for the measurements of this folder: only their sizes matter."""

import json
import random
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from mmsrarec.collaborative.evidence import Pieces, levels
from mmsrarec.config import BUNDLED_MODEL, Config
from mmsrarec.engines.template import Template
from mmsrarec.engines.types import Group, Request
from mmsrarec.recommendation import prompt
from mmsrarec.storage.objects import Pictures, image_hash

WORDS = """red orange yellow green blue purple pink brown black plain striped dotted checked mug lamp bag chair clock
wool steel oak glass cotton leather calm wild modern classic summer winter travel office kitchen garden""".split()
LEVELS = levels(Pieces(0.02, 0.0, 1, 0.4, 0.3, 20, 0.5))
KEYWORDS, HISTORY, SIMILAR = 8, 5, 3


def settings(folder: Path, model: str, **engine) -> Config:
    inputs = {"items": "-", "interactions": "-", "images": str(folder / "pictures")}
    options = {"enforce_eager": True, "kv_cache_gb": 0.5, **engine}
    return Config(inputs=inputs, model=model, lake={"root": str(folder / "lake")}, engine=options)


def larger_backbone(folder: Path) -> str:
    """A Qwen2.5-VL of 90 million parameters that spends 256 tokens on a picture of 448 x 448, as the 7B one does. Its
    weights are random: speed does not depend on them."""
    from transformers import AutoConfig, AutoModelForImageTextToText

    shutil.copytree(BUNDLED_MODEL, folder)
    (folder / "model.safetensors").unlink()
    config = AutoConfig.from_pretrained(folder)
    language, vision = config.text_config, config.vision_config
    language.hidden_size, language.intermediate_size, language.num_hidden_layers = 768, 2048, 12
    language.num_attention_heads, language.num_key_value_heads = 12, 2
    language.layer_types = ["full_attention"] * language.num_hidden_layers
    vision.hidden_size, vision.intermediate_size, vision.num_heads, vision.depth = 384, 1024, 6, 6
    vision.out_hidden_size = language.hidden_size
    AutoModelForImageTextToText.from_config(config).bfloat16().save_pretrained(folder)
    for file in folder.glob("*processor*_config.json"):
        known = json.loads(file.read_text())
        for part in (known, known.get("image_processor", {})):
            if "size" in part:
                part["size"] = {"shortest_edge": 448 * 448, "longest_edge": 448 * 448}
        file.write_text(json.dumps(known))
    return str(folder)


def users(config: Config, count: int, candidates: int) -> list[Group]:
    """One group per user in our layout: the user first, the candidate last, keywords only."""
    template, chance = Template(config.model_path), random.Random(1)
    groups = []
    for user in range(count):
        shared = user_part(chance)
        requests = [
            Request(template.render(prompt.messages(shared, candidate_part(chance))), "yes_no")
            for _ in range(candidates)
        ]
        groups.append(Group(str(user), tuple(requests)))
    return groups


def users_of_the_paper(config: Config, count: int, candidates: int) -> list[Group]:
    """The same with the candidate's picture in every prompt and nothing shared: the candidate comes first."""
    template, chance = Template(config.model_path), random.Random(1)
    pictures = draw_pictures(config, 200)
    groups = []
    for user in range(count):
        shared, requests = user_part(chance), []
        for _ in range(candidates):
            parts = [{"type": "image"}, {"type": "text", "text": f"{candidate_part(chance)}\n{shared}"}]
            messages = [{"role": "system", "content": prompt.SYSTEM}, {"role": "user", "content": parts}]
            requests.append(Request(template.render(messages), "yes_no", 1, *chance.choice(pictures)))
        groups.append(Group(str(user), tuple(requests)))
    return groups


def user_part(chance: random.Random) -> str:
    return prompt.user_text([keywords(chance) for _ in range(HISTORY)], [keywords(chance) for _ in range(SIMILAR)])


def candidate_part(chance: random.Random) -> str:
    return prompt.candidate_text(keywords(chance), LEVELS)


def keywords(chance: random.Random) -> list[str]:
    return chance.sample(WORDS, KEYWORDS)


def draw_pictures(config: Config, count: int) -> list[tuple[str, str]]:
    """Pictures of 448 x 448 in the configured folder: address and image_hash of each."""
    folder = Path(config.inputs.images)
    folder.mkdir(parents=True, exist_ok=True)
    noise, opened = np.random.default_rng(1), Pictures(config)
    for number in range(count):
        blocks = noise.integers(0, 255, (7, 7, 3), dtype=np.uint8)
        Image.fromarray(blocks).resize((448, 448), Image.Resampling.NEAREST).save(folder / f"{number}.png")
    return [(f"{number}.png", image_hash(opened.open(f"{number}.png"))) for number in range(count)]
