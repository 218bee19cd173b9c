"""LoRA adapters of the bundled model with weights drawn by a seed, so that they answer otherwise than it does."""

from pathlib import Path

import torch
from peft import PeftModel, get_peft_model
from transformers import AutoModelForImageTextToText

from mmsrarec.config import BUNDLED_MODEL, TuneRecommender
from mmsrarec.training import backbone


def base() -> torch.nn.Module:
    return AutoModelForImageTextToText.from_pretrained(BUNDLED_MODEL, dtype=torch.float32).eval()


def write(folder: Path, seed: int, strength: float = 0.1) -> Path:
    model = base()
    settings = TuneRecommender(lora={"rank": 8, "alpha": 16})
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        tuned = get_peft_model(model, backbone.lora(settings, model))
        for name, weights in tuned.named_parameters():
            if "lora_B" in name:
                weights.normal_(std=strength)
    tuned.save_pretrained(folder)
    return folder


def loaded(folder: Path) -> PeftModel:
    return PeftModel.from_pretrained(base(), folder).eval()
