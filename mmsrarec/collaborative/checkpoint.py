"""The checkpoint folder of a trained network, by its name: models/sasrec, models/gru4rec, or with `text_` before it, in
the lake; one format for all.

A checkpoint is what its description names (sasrec.json in models/sasrec): that file is replaced last, in one step, so
there is always a whole one. Training is training/sasrec_trainer.py.
"""

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
from safetensors.torch import load_file, save_file
from torch import Tensor

from mmsrarec.collaborative.gru4rec import Gru4Rec
from mmsrarec.collaborative.network import Network
from mmsrarec.collaborative.sasrec import SasRec
from mmsrarec.config import Config, Sasrec
from mmsrarec.errors import ConfigError, InputError

NETWORKS: dict[str, type[Network]] = {"sasrec": SasRec, "gru4rec": Gru4Rec}
# Settings that do not decide the weights: when to train again; where text vectors lie; what only the other network has.
BESIDE = {"refresh_days", "text_vectors"}
OTHERS = {"sasrec": {"hidden"}, "gru4rec": {"heads"}}


@dataclass(frozen=True)
class Checkpoint:
    """A trained network in evaluation mode. vocabulary[c] is the item of code c + 1, ascending by item_id."""

    model: Network
    vocabulary: pa.Array
    model_hash: str
    facts: dict


def build(vocabulary_size: int, settings: Sasrec, text: Tensor | None = None) -> Network:
    """The untrained network that sasrec.network names; `text` is [vocabulary_size, width], a fixed vector per item."""
    return NETWORKS[settings.network](vocabulary_size, settings, text)


def folder(config: Config) -> Path:
    if "://" in config.lake.root:
        raise ConfigError(f"lake.root is {config.lake.root}, but checkpoints need a local folder")
    return Path(config.lake.root) / "models" / config.sasrec.name


def save(place: Path, model: Network, vocabulary: pa.Array, settings: Sasrec, facts: dict) -> str:
    """Write the checkpoint and return the model hash; the files of the one before go last."""
    place.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, place / "weights.part")
    model_hash = _hash(place / "weights.part", vocabulary)
    files = {"weights": f"weights-{model_hash}.safetensors", "vocabulary": f"vocabulary-{model_hash}.parquet"}
    os.replace(place / "weights.part", place / files["weights"])
    parquet.write_table(pa.table({"item_id": vocabulary}), place / files["vocabulary"])
    content = {"model_hash": model_hash, "files": files, "network": network(settings), "facts": facts}
    draft, description = place / "description.part", _description(place)
    draft.write_text(json.dumps(content, indent=2), encoding="utf-8")
    os.replace(draft, description)
    for file in place.iterdir():
        if file.name not in (description.name, *files.values()):
            file.unlink()
    return model_hash


def network(settings: Sasrec) -> dict:
    """The settings that decide the weights."""
    return settings.model_dump(mode="json", exclude=BESIDE | OTHERS[settings.network])


def load(place: Path) -> Checkpoint:
    """The checkpoint on the CPU; InputError where there is none."""
    description = describe(place)
    if description is None:
        raise InputError(f"{place}: no {place.name} checkpoint; run train_sasrec first")
    files = description["files"]
    vocabulary = parquet.read_table(place / files["vocabulary"])["item_id"].combine_chunks()
    weights = load_file(place / files["weights"])
    text = weights.get("items.text")
    model = build(len(vocabulary), Sasrec(**description["network"]), None if text is None else text[1:])
    model.load_state_dict(weights)
    return Checkpoint(model.eval(), vocabulary, description["model_hash"], description["facts"])


def drop_others(config: Config) -> None:
    """Remove what networks left that the configuration does not name: no later night would train them anew."""
    every = {f"{text}{network}" for network in NETWORKS for text in ("", "text_")}
    for other in every - {each.sasrec.name for each in config.networks}:
        shutil.rmtree(folder(config).parent / other, ignore_errors=True)


def describe(place: Path) -> dict | None:
    """model_hash, files, network and facts of the checkpoint without its weights; None where there is none."""
    file = _description(place)
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None


def _description(place: Path) -> Path:
    return place / f"{place.name}.json"


def _hash(weights: Path, vocabulary: pa.Array) -> str:
    digest = hashlib.sha256(weights.read_bytes())
    digest.update(json.dumps(vocabulary.to_pylist()).encode())
    return digest.hexdigest()[:16]
