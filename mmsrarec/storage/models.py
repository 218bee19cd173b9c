"""Where the model's files are: a folder on S3 is fetched once per machine, into the user's cache.

What its listing says (names, sizes, ETags) names the copy, so a changed model is fetched anew and an unchanged one is
not; a copy appears by one rename, whole. Weights come as safetensors, which cannot run anything: pickles, and code, are
left behind unless engine.trust_remote_code says that the model's own code may run.
"""

import fcntl
import hashlib
import json
import os
import shutil
from dataclasses import astuple
from pathlib import Path, PurePosixPath

from mmsrarec import log
from mmsrarec.config import Config
from mmsrarec.errors import ModelError
from mmsrarec.storage import s3
from mmsrarec.storage.files import told
from mmsrarec.storage.s3 import File

# Endings of what a model needs and what runs nothing.
HARMLESS = {".safetensors", ".json", ".jinja", ".txt", ".model", ".tiktoken", ".vocab", ".merges"}
WEIGHTS = ".safetensors"


def place(config: Config) -> str:
    """A folder on this machine, or a hub name. Raises ModelError, StoreError."""
    model = config.model_path
    return str(fetched(model, config.engine.trust_remote_code)) if s3.is_address(model) else model


def cache() -> Path:
    """Where this program keeps what it can make again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mmsrarec" / "models"


def copy_of(address: str, trusted: bool = False) -> tuple[Path, list[File]]:
    """Where this machine has, or will have, its copy of a model's or an adapter's folder on S3, and the files of it."""
    address = address.rstrip("/")
    with told(address):
        wanted = [one for one in s3.listing(address) if _wanted(one.name, trusted)]
    if not any(one.name.endswith(WEIGHTS) for one in wanted) and not (trusted and wanted):
        raise ModelError(
            f"model {address}: no .safetensors there; give the folder of a model whose weights are safetensors (other "
            "formats can run code: only engine.trust_remote_code fetches them)"
        )
    listing = json.dumps([address, *map(astuple, wanted)])
    return cache() / hashlib.sha256(listing.encode()).hexdigest()[:32] / PurePosixPath(address).name, wanted


def fetched(address: str, trusted: bool = False) -> Path:
    """That copy, fetched now if there is none yet."""
    copy, wanted = copy_of(address, trusted)
    if not copy.exists():
        copy.parent.mkdir(parents=True, exist_ok=True)
        with open(copy.with_name("fetching"), "w") as lock:  # of many engines on a machine one fetches
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not copy.exists():
                _fetch(address.rstrip("/"), wanted, copy)
    return copy


def _wanted(name: str, trusted: bool) -> bool:
    """Files directly in the folder, as an engine reads them."""
    path = PurePosixPath(name)
    return len(path.parts) == 1 and name[0] != "." and (trusted or path.suffix in HARMLESS)


def _fetch(address: str, wanted: list[File], copy: Path) -> None:
    size = sum(one.size for one in wanted)
    free = shutil.disk_usage(copy.parent).free
    if size > free:
        raise ModelError(
            f"model {address}: {size:,} bytes, but {copy.parent} has room for {free:,}; set XDG_CACHE_HOME"
        )
    log.say(f"model {address}: fetching {size / 1e9:.1f} GB to {copy}", "model_fetching", bytes=size)
    draft = copy.with_name(f"{copy.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    with told(address):
        for one in wanted:
            s3.download(f"{address}/{one.name}", draft / one.name, one.version)
    os.replace(draft, copy)
