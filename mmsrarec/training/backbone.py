"""The backbone for its trainers: its weights, and where the LoRA adapter goes: the language model's layers alone, since
engines serve no adapter of the picture's."""

from functools import cache
from tempfile import mkdtemp
from typing import Any

import torch
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

from mmsrarec.config import Config, Tuning
from mmsrarec.errors import ConfigError, ModelError
from mmsrarec.storage import models, s3
from mmsrarec.storage.scratch import Scratch


def load(config: Config, settings: Tuning, model: str | None = None) -> Any:
    """The model that `config` names, or another one, in the number format of the training."""
    return _loaded(AutoModelForImageTextToText, config, settings, model or models.place(config))


def processor(config: Config) -> Any:
    """The model's own, padding and cutting on the left."""
    name, trusted = models.place(config), config.engine.trust_remote_code
    return AutoProcessor.from_pretrained(name, trust_remote_code=trusted, padding_side="left", truncation_side="left")


def language_model(config: Config, settings: Tuning, address: str) -> tuple[Any, Any]:
    """A model of texts alone, where training computes, and its tokenizer; a folder, here or on S3, or a hub name."""
    name = str(models.fetched(address, config.engine.trust_remote_code)) if s3.is_address(address) else address
    found = _loaded(AutoModelForCausalLM, config, settings, name).eval().requires_grad_(False)
    tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=config.engine.trust_remote_code)
    return placed(found, settings), tokenizer


def placed(model: Any, settings: Tuning) -> Any:
    """The model where the workers compute."""
    return model.to("cuda" if settings.num_gpus else "cpu")


def _loaded(kind: Any, config: Config, settings: Tuning, name: str) -> Any:
    chosen = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    dtype = chosen.get(settings.dtype, torch.bfloat16 if settings.num_gpus else torch.float32)
    try:
        return kind.from_pretrained(name, dtype=dtype, trust_remote_code=config.engine.trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"model {name}: cannot be loaded for training ({' '.join(str(error).split())[:500]})"
        ) from None


def lora(settings: Tuning, model: Any) -> LoraConfig:
    """The adapter's settings for this model, by the full names of its layers. ConfigError where none is called so."""
    names = targets(settings.lora.targets, model)
    if not names:
        raise ConfigError(f"lora.targets: the language model has no layers called {', '.join(settings.lora.targets)}")
    return LoraConfig(
        r=settings.lora.rank,
        lora_alpha=settings.lora.alpha,
        lora_dropout=settings.lora.dropout,
        target_modules=names,
        task_type="CAUSAL_LM",
    )


def targets(wanted: list[str], model: Any) -> list[str]:
    """Full names of the linear layers of the language model that are called so."""
    language = {id(module) for module in model.get_decoder().modules()}
    return [
        name
        for name, module in model.named_modules()
        if id(module) in language and isinstance(module, torch.nn.Linear) and name.rpartition(".")[2] in wanted
    ]


def arguments(config: Config, settings: Tuning) -> dict[str, Any]:
    """What every trainer of Hugging Face's is told; its own folder of checkpoints goes with its process."""
    return {
        "output_dir": mkdtemp(dir=_scratch().path),
        "learning_rate": settings.learning_rate,
        "warmup_steps": settings.warmup,
        "lr_scheduler_type": "cosine",
        "gradient_accumulation_steps": settings.accumulation,
        "gradient_checkpointing": settings.gradient_checkpointing,
        "max_grad_norm": 1.0,
        "save_strategy": "steps",
        "save_steps": settings.save_every,
        "save_total_limit": 1,
        "logging_steps": 1,
        "logging_first_step": True,
        "report_to": "none",
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "bf16": settings.dtype == "bfloat16" or (settings.dtype == "auto" and bool(settings.num_gpus)),
        "use_cpu": not settings.num_gpus,
        "seed": config.run.seed,
        "data_seed": config.run.seed,
        "dataloader_num_workers": 0,
    }


@cache
def _scratch() -> Scratch:
    return Scratch("tuning")
