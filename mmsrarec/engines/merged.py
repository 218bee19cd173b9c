"""A backbone with a LoRA adapter added into its weights, as a folder of this machine that an engine loads like any
other model.

On a CPU vLLM computes an adapter beside the weights token by token, at a twentieth of the speed; merged, an adapter
costs nothing, but takes a copy of the model. Made once per model and adapter, in the user's cache.
"""

import fcntl
import hashlib
import os
import shutil
from pathlib import Path

from mmsrarec import log
from mmsrarec.config import Config
from mmsrarec.engines import adapters
from mmsrarec.engines.template import Template
from mmsrarec.storage import models


def folder(config: Config, adapter: str) -> str:
    """Where the merged model is, made now if it is not there yet."""
    content = Template.of(config).content
    name = hashlib.sha256(f"{content} {adapter} {config.engine.dtype}".encode()).hexdigest()[:32]
    place = models.cache() / f"merged-{name}" / Path(content.partition("@")[0]).name
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        with open(place.with_name("merging"), "w") as lock:  # of many engines on a machine one merges
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not place.exists():
                _merge(config, adapter, place)
    return str(place)


def _merge(config: Config, adapter: str, place: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText

    log.say(f"model {config.model_path}: adding the adapter {adapter} to its weights", "adapter_merging")
    base = models.place(config)
    draft = place.with_name(f"{place.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    model = AutoModelForImageTextToText.from_pretrained(base, trust_remote_code=config.engine.trust_remote_code)
    dtype = torch.float32 if config.engine.dtype == "float32" else model.dtype
    tuned = PeftModel.from_pretrained(model.float(), adapters.local(config, adapter)).merge_and_unload()
    tuned.to(dtype).save_pretrained(draft)
    if os.path.isdir(base):
        for file in Path(base).iterdir():
            if file.is_file() and not (draft / file.name).exists() and ".safetensors" not in file.name:
                shutil.copy(file, draft / file.name)
    else:
        from transformers import AutoProcessor

        AutoProcessor.from_pretrained(base).save_pretrained(draft)
    os.replace(draft, place)
