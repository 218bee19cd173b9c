"""vLLM as the engine: exact p(yes) / (p(yes) + p(no)), or p of each letter, in one prefill, and greedy text. The only
file that knows vLLM.

Nothing is imported from vLLM until an engine is built, because its settings come from the environment at import. On a
CPU the engine runs in the caller's process (one third of the start-up time, and both cores compute); on GPUs vLLM's own
processes overlap scheduling with computing.
"""

import fcntl
import json
import math
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import psutil

from mmsrarec import log
from mmsrarec.config import Config
from mmsrarec.engines import adapters, collector, merged
from mmsrarec.engines.template import Template
from mmsrarec.engines.types import LETTERS, Answer, Request
from mmsrarec.errors import ModelError, shortened
from mmsrarec.storage import models, s3
from mmsrarec.storage.objects import PictureError, Pictures
from mmsrarec.storage.scratch import common

CPU_BLOCK_SIZE = 32  # vLLM's own default on a CPU is 128, longer than many a shared prefix
PICTURES_AT_ONCE = 128  # requests with a picture in flight; each holds its pixels until it is answered
ENVIRONMENT = {"VLLM_LOGGING_LEVEL": "WARNING", "VLLM_NO_USAGE_STATS": "1", "TOKENIZERS_PARALLELISM": "false"}

MEMORY = "take a smaller model, a lower engine.max_model_len, more GPUs by engine.tensor_parallel_size"
REMEDIES = (  # by what vLLM says
    ("out of memory", MEMORY),
    ("Free memory on device|less than desired", "something else uses this GPU, or lower engine.gpu_memory_utilization"),
    (
        "KV cache|cache blocks",
        f"{MEMORY}, or more memory by engine.gpu_memory_utilization (GPU), engine.kv_cache_gb (CPU)",
    ),
    (
        "model weights",
        "its folder needs *.safetensors beside config.json (pickled weights can run code: engine.extra.load_format)",
    ),
    ("not supported for now|no vLLM implementation|trust_remote_code", "take a multimodal model that vLLM serves"),
    ("max_model_len|max_position_embeddings", "lower engine.max_model_len"),
    ("dtype|bfloat16|float16", "set engine.dtype"),
    ("root cause above", "the cause is in the log file"),
)


class VLLMEngine:
    """Implements types.Engine. `calls` counts the requests that vLLM itself was given; `processes` are its own ones:
    where one of them dies, vLLM waits for it without end."""

    def __init__(self, config: Config):
        self._template = Template.of(config)
        self._yes, self._no = self._template.yes_no_ids()
        self._config = config
        os.environ.update(environment(config))
        with collector.paused():
            from vllm import LLM, SamplingParams
            from vllm.exceptions import VLLMServerError
            from vllm.lora.request import LoRARequest

        self._sampling, self._fatal, self._lora = SamplingParams, VLLMServerError, LoRARequest
        self._start, self.calls = LLM, 0
        self._adapters: dict[str, Any] = {}
        self._llms: dict[str | None, Any] = {}  # by adapter where they are merged, else one for all
        before = set(psutil.Process().children(recursive=True))
        if not config.merges:
            self._llm = self._started(None)
        self.processes = set(psutil.Process().children(recursive=True)) - before

    def answer(self, requests: Sequence[Request], keys: Sequence[str]) -> list[Answer]:
        """One answer per request, in order."""
        answers: dict[int, Answer] = {}
        for places in self._apart(requests):
            if self._config.merges:
                self._llm = self._started(requests[places[0]].adapter)
            own, named = [requests[place] for place in places], [keys[place] for place in places]
            for start, end in _portions(own):
                answers |= zip(places[start:end], self._answer(own[start:end], named[start:end]), strict=True)
        return [answers[place] for place in range(len(requests))]

    def _apart(self, requests: Sequence[Request]) -> list[list[int]]:
        """Places of the requests that may be asked together. On a CPU vLLM lets an adapter answer what asks for none,
        where both are in a batch."""
        if self._config.adapters and not self._config.engine.num_gpus:
            return _by_adapter(requests)
        return [list(range(len(requests)))]

    def _started(self, adapter: str | None) -> Any:
        """The model, with an adapter in its weights; started where it is not running yet."""
        if adapter not in self._llms:
            try:
                with alone(self._config), collector.paused():
                    more = {"model": merged.folder(self._config, adapter)} if adapter else {}
                    self._llms[adapter] = self._start(**engine_arguments(self._config) | more)
            except Exception as error:  # vLLM's own, torch's, transformers': there is no common one
                raise ModelError(f"model {self._config.model_path}: {refusal(error)}") from error
        return self._llms[adapter]

    def _answer(self, requests: Sequence[Request], keys: Sequence[str]) -> list[Answer]:
        refused: dict[int, str] = {}
        with ThreadPoolExecutor(4) as threads:
            for number, (request, image) in enumerate(zip(requests, threads.map(self._open, requests), strict=True)):
                try:
                    if isinstance(image, PictureError):
                        raise image
                    asked = [_prompt(request, image)], self._parameters(request)
                    self._llm.enqueue(*asked, use_tqdm=False, lora_request=self._adapter(request))
                    self.calls += 1
                except self._fatal:
                    raise
                except Exception as error:  # the request's fault: too long, or a picture that the processor refuses
                    refused[number] = " ".join(str(error).split())[:500]
        outputs = iter(self._llm.wait_for_completion(use_tqdm=False))
        return [
            Answer(key, request.kind, error=refused[number]) if number in refused else self._read(request, key, outputs)
            for number, (request, key) in enumerate(zip(requests, keys, strict=True))
        ]

    @cached_property
    def _pictures(self) -> Pictures:
        return Pictures(self._config)

    def _open(self, request: Request) -> Any:
        try:
            return self._pictures.open(request.image) if request.image else None
        except PictureError as error:
            return error

    def _adapter(self, request: Request) -> Any:
        """vLLM's own name for the request's LoRA adapter, if it is not in the weights; its files are fetched once."""
        if self._config.merges:
            return None
        if request.adapter and request.adapter not in self._adapters:
            folder = adapters.local(self._config, request.adapter)
            self._adapters[request.adapter] = self._lora(request.adapter, len(self._adapters) + 1, folder)
        return self._adapters.get(request.adapter) if request.adapter else None

    @cached_property
    def _letters(self) -> list[int]:
        return self._template.letter_ids(len(LETTERS))

    def _parameters(self, request: Request) -> Any:
        if request.kind == "text":
            return self._sampling(max_tokens=request.max_tokens, temperature=0.0)
        # Raw log-probabilities of exactly these tokens, whatever the sampled one is.
        ids = [self._yes, self._no] if request.kind == "yes_no" else self._letters[: request.letters]
        return self._sampling(max_tokens=1, temperature=0.0, detokenize=False, logprob_token_ids=ids)

    def _read(self, request: Request, key: str, outputs: Iterator) -> Answer:
        output = next(outputs)
        completion = output.outputs[0]
        counts = len(output.prompt_token_ids), output.num_cached_tokens or 0, len(completion.token_ids)
        if request.kind == "text":
            return Answer(key, "text", completion.text, None, *counts)
        found = completion.logprobs[0]
        ids = [self._no, self._yes] if request.kind == "yes_no" else self._letters[: request.letters]
        logs = [found[token].logprob for token in ids]
        if any(map(math.isnan, logs)):
            return Answer(key, request.kind, error="the model's logits are not numbers; try another engine.dtype")
        if request.kind == "choice":
            return Answer(key, "choice", json.dumps(_shares(logs)), None, *counts)
        return Answer(key, "yes_no", None, 1 / (1 + math.exp(min(logs[0] - logs[1], 700.0))), *counts)


def _shares(logs: Sequence[float]) -> list[float]:
    """Probabilities of one sum, to the seven digits of float32."""
    raised = [math.exp(log - max(logs)) for log in logs]
    return [float(f"{one / sum(raised):.7g}") for one in raised]


@contextmanager
def alone(config: Config) -> Iterator[None]:
    """Engines that share a GPU start one after the other: at its start each measures what is free, and would take what
    another one is taking for a need of its own, so that no room were left for its KV cache."""
    if not 0 < config.engine.num_gpus < 1:
        yield
        return
    common().mkdir(parents=True, exist_ok=True)
    with open(common() / f"engine-starts-on-gpu-{os.environ.get('CUDA_VISIBLE_DEVICES', '')}", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)  # a process of vLLM's own may have inherited it


def refusal(error: Exception) -> str:
    """Why vLLM does not start, and what to do about it."""
    said = shortened(str(error).split("Value error, ")[-1], 1000)
    remedy = next((remedy for words, remedy in REMEDIES if re.search(words, said)), "see the engine's settings")
    return f"vLLM cannot serve it ({shortened(said.split('. ')[0].split(' [type=')[0])}); {remedy}"


def engine_arguments(config: Config) -> dict:
    """Arguments of vllm.LLM; what `engine.extra` says wins."""
    engine = config.engine
    arguments = {
        "model": models.place(config),
        "dtype": engine.dtype,
        "seed": config.run.seed,
        "max_model_len": engine.max_model_len,
        "max_num_seqs": engine.max_num_seqs,
        "tensor_parallel_size": engine.tensor_parallel_size,
        "enforce_eager": _eager(config),
        "trust_remote_code": engine.trust_remote_code,
        "load_format": "safetensors",  # pickled weights can run code
        "enable_prefix_caching": True,
        "limit_mm_per_prompt": {"image": 1},
        "mm_processor_cache_gb": 1,
        "hf_overrides": {"head_dtype": "float32"},
    }
    if engine.block_size or not engine.num_gpus:
        arguments["block_size"] = engine.block_size or CPU_BLOCK_SIZE
    if engine.num_gpus:
        arguments["gpu_memory_utilization"] = engine.gpu_memory_utilization
    else:
        arguments["kv_cache_memory_bytes"] = int(engine.kv_cache_gb * 2**30)
    if config.adapters and not config.merges:
        arguments |= {"enable_lora": True, "max_loras": 2, "max_lora_rank": adapters.largest_rank(config)}
    return arguments | engine.extra


def _eager(config: Config) -> bool:
    """On a CPU vLLM compiles the model with the machine's C++ compiler; without one it runs uncompiled."""
    if config.engine.enforce_eager is not None:
        return config.engine.enforce_eager
    return not config.engine.num_gpus and not (os.environ.get("CXX") or shutil.which("g++"))


def environment(config: Config) -> dict[str, str]:
    """What vLLM is to find in the environment; what the user has set there stays."""
    values = dict(ENVIRONMENT)
    if log.diverted():
        values["VLLM_LOGGING_LEVEL"] = "INFO"
    if os.path.isdir(config.model_path) or s3.is_address(config.model_path):
        values["HF_HUB_OFFLINE"] = "1"
    if not config.engine.num_gpus:
        values["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    return {name: os.environ.get(name, value) for name, value in values.items()}


def _prompt(request: Request, image: Any) -> dict:
    if image is None:
        return {"prompt": request.prompt}
    # The hash stands for the pixels in vLLM's caches, so it must be the picture's own, never an item's id.
    uuids = {"multi_modal_uuids": {"image": [request.image_hash]}} if request.image_hash else {}
    return {"prompt": request.prompt, "multi_modal_data": {"image": [image]}, **uuids}


def _by_adapter(requests: Sequence[Request]) -> list[list[int]]:
    """Places of the requests of each adapter."""
    found: dict[str | None, list[int]] = {}
    for place, request in enumerate(requests):
        found.setdefault(request.adapter, []).append(place)
    return list(found.values())


def _portions(requests: Sequence[Request]) -> Iterator[tuple[int, int]]:
    """Ranges with at most PICTURES_AT_ONCE pictures each."""
    start = pictures = 0
    for number, request in enumerate(requests):
        if request.image and pictures == PICTURES_AT_ONCE:
            yield start, number
            start, pictures = number, 0
        pictures += bool(request.image)
    if start < len(requests):
        yield start, len(requests)
