"""The small backbone without its weights: Qwen2.5-VL's architecture and processor at about five million parameters,
with a byte-level tokenizer of its own (any text can be written; common English words are one token each)."""

import copy
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2TokenizerFast,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

from mmsrarec.collaborative.evidence import Pieces, levels
from mmsrarec.demo import worlds
from mmsrarec.keywords import prompt as keywords_prompt
from mmsrarec.recommendation import prompt as pointwise_prompt

VOCABULARY = 4096
MAX_POSITIONS = 2048
IMAGE_PIXELS = (56 * 56, 112 * 112)  # fewest and most; 112 x 112 pixels are 16 tokens
SPECIAL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>",
    "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] }}"
    "{% elif part['type'] in ('image', 'image_url') %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif part['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_processor(seed: int = 0) -> Qwen2_5_VLProcessor:
    """Tokenizer trained on English words by their frequency and on our own prompts; Qwen2-VL's picture processing."""
    tokenizer = Tokenizer(models.BPE())
    # Qwen2's own: whoever loads the folder builds them anew, whatever was saved.
    ready = Qwen2TokenizerFast().backend_tokenizer
    tokenizer.normalizer, tokenizer.pre_tokenizer = ready.normalizer, ready.pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[AddedToken(token, special=True) for token in SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_tokenizer_lines(seed), trainer)
    fast = Qwen2TokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        bos_token=None,
        unk_token=None,
        model_max_length=MAX_POSITIONS,
        extra_special_tokens=list(SPECIAL[1:]),
    )
    pixels = {"shortest_edge": IMAGE_PIXELS[0], "longest_edge": IMAGE_PIXELS[1]}
    pictures = Qwen2VLImageProcessor(size=pixels, patch_size=14, merge_size=2, temporal_patch_size=2)
    videos = Qwen2VLVideoProcessor(size=pixels, patch_size=14, merge_size=2, temporal_patch_size=2)
    fast.chat_template = CHAT_TEMPLATE
    processor = Qwen2_5_VLProcessor(pictures, fast, videos, chat_template=CHAT_TEMPLATE)
    with tempfile.TemporaryDirectory() as folder:  # the lessons see the tokens that an engine will see
        processor.save_pretrained(folder)
        return Qwen2_5_VLProcessor.from_pretrained(folder)


def make_model(processor: Qwen2_5_VLProcessor, seed: int = 0) -> Qwen2_5_VLForConditionalGeneration:
    """Random weights, float32, tied embeddings."""
    torch.manual_seed(seed)
    ids = processor.tokenizer.convert_tokens_to_ids
    text = {
        "vocab_size": VOCABULARY,
        "hidden_size": 192,
        "intermediate_size": 512,
        "num_hidden_layers": 4,
        "num_attention_heads": 3,
        "num_key_value_heads": 1,
        "max_position_embeddings": MAX_POSITIONS,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [8, 12, 12]},
        "tie_word_embeddings": True,
        "bos_token_id": ids("<|endoftext|>"),
        "eos_token_id": ids("<|im_end|>"),
        "pad_token_id": ids("<|endoftext|>"),
    }
    vision = {
        "depth": 3,
        "hidden_size": 128,
        "out_hidden_size": 192,
        "intermediate_size": 384,
        "num_heads": 2,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "window_size": 112,
        "fullatt_block_indexes": [0, 1, 2],
    }
    config = Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        tie_word_embeddings=True,
        image_token_id=ids("<|image_pad|>"),
        video_token_id=ids("<|video_pad|>"),
        vision_start_token_id=ids("<|vision_start|>"),
        vision_end_token_id=ids("<|vision_end|>"),
        eos_token_id=ids("<|im_end|>"),
        pad_token_id=ids("<|endoftext|>"),
    )
    model = Qwen2_5_VLForConditionalGeneration(config).float()
    _scale(model)
    return model


@torch.no_grad()
def _scale(model: Qwen2_5_VLForConditionalGeneration) -> None:
    """Initial weights by fan-in; the library's constant 0.02 suits wide layers and leaves attention flat in these."""
    depth = {"visual": 2 * model.config.vision_config.depth, "language": 2 * model.config.text_config.num_hidden_layers}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and not name.endswith("lm_head"):
            part = depth["visual" if "visual" in name else "language"]
            last = name.endswith(("o_proj", "down_proj", "attn.proj"))
            module.weight.normal_(std=module.in_features**-0.5 * (part**-0.5 if last else 1))
        elif isinstance(module, torch.nn.Embedding):
            module.weight.normal_(std=module.embedding_dim**-0.5)


def save(model: Qwen2_5_VLForConditionalGeneration, processor: Qwen2_5_VLProcessor, folder: Path) -> None:
    """Write the backbone in bfloat16, as any folder that transformers and vLLM load."""
    half = copy.deepcopy(model).to(torch.bfloat16)
    half.generation_config.do_sample = False
    half.save_pretrained(folder)
    processor.save_pretrained(folder)


def _tokenizer_lines(seed: int) -> list[str]:
    rng, np_rng = random.Random(seed), np.random.default_rng(seed)
    weights = worlds.FREQUENCIES**0.8
    sample = np_rng.choice(len(worlds.WORDS), size=600_000, p=weights / weights.sum())
    words = [worlds.WORDS[index] for index in sample]
    words = [word.capitalize() if rng.random() < 0.15 else word for word in words]
    lines = [" ".join(words[start : start + 20]) for start in range(0, len(words), 20)]
    for _ in range(3000):
        item = worlds.random_item(rng)
        lines += [worlds.shop_text(item, rng), "a: " + ", ".join(item.image_keywords + item.text_keywords)]
        lines += [", ".join(item.image_keywords), ", ".join(item.text_keywords)]
    lines += [line for _ in range(700) for line in _pointwise(rng)]
    fixed = (keywords_prompt.SYSTEM, keywords_prompt.IMAGE_QUESTION, keywords_prompt.TEXT_QUESTION)
    lines += [*fixed, pointwise_prompt.SYSTEM, "system", "user", "assistant", "yes", "no"] * 2000
    return lines


def _pointwise(rng: random.Random) -> Iterator[str]:
    """A user and candidates as the pointwise prompt shows them, at random."""
    known = [[*item.image_keywords, *item.text_keywords] for item in (worlds.random_item(rng) for _ in range(8))]
    yield pointwise_prompt.user_text(known[:5], known[5:])
    for item in known:
        shares = [rng.random() ** 2 for _ in range(5)]
        rank = rng.choice([None, rng.randint(1, 200)])
        pieces = Pieces(shares[0], shares[1], rng.randint(0, 5), shares[2], shares[3], rank, rng.random())
        yield pointwise_prompt.candidate_text(item, levels(pieces))
