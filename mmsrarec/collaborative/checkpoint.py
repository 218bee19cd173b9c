"""The checkpoint folder of a trained network, by its name: models/sasrec, models/gru4rec, or with `text_` before it, in
the lake; one format for all.

A checkpoint is what its description names (sasrec.json in models/sasrec): that file is replaced last, in one step, so
there is always a whole one. Training is training/sasrec_trainer.py.
"""

import hashlib
import json
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.parquet as parquet
from safetensors.torch import load as load_tensors
from safetensors.torch import save as saved
from torch import Tensor

from mmsrarec.collaborative.gru4rec import Gru4Rec
from mmsrarec.collaborative.network import Network
from mmsrarec.collaborative.sasrec import SasRec
from mmsrarec.config import Config, Sasrec
from mmsrarec.errors import InputError
from mmsrarec.storage import files

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


def folder(config: Config) -> str:
    return config.table(f"models/{config.sasrec.name}")


def save(place: str | Path, model: Network, vocabulary: pa.Array, settings: Sasrec, facts: dict) -> str:
    """Write the checkpoint and return the model hash; the files of the one before go last."""
    weights = saved({name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()})
    model_hash = _hash(weights, vocabulary)
    names = {"weights": f"weights-{model_hash}.safetensors", "vocabulary": f"vocabulary-{model_hash}.parquet"}
    items = BytesIO()
    parquet.write_table(pa.table({"item_id": vocabulary}), items)
    content = {"model_hash": model_hash, "files": names, "network": network(settings), "facts": facts}
    files.write(f"{place}/{names['weights']}", weights)
    files.write(f"{place}/{names['vocabulary']}", items.getvalue())
    files.write(f"{place}/{_description(place)}", json.dumps(content, indent=2).encode())
    for file in files.listing(place):
        if file.name not in (_description(place), *names.values()):
            files.delete(f"{place}/{file.name}")
    return model_hash


def network(settings: Sasrec) -> dict:
    """The settings that decide the weights."""
    return settings.model_dump(mode="json", exclude=BESIDE | OTHERS[settings.network])


def load(place: str | Path) -> Checkpoint:
    """The checkpoint on the CPU; InputError where there is none."""
    description = describe(place)
    if description is None:
        raise InputError(f"{place}: no {PurePosixPath(place).name} checkpoint; run train_sasrec first")
    content, items = (files.content(f"{place}/{description['files'][part]}") for part in ("weights", "vocabulary"))
    vocabulary = parquet.read_table(pa.BufferReader(items))["item_id"].combine_chunks()
    weights = load_tensors(content)
    text = weights.get("items.text")
    model = build(len(vocabulary), Sasrec(**description["network"]), None if text is None else text[1:])
    model.load_state_dict(weights)
    return Checkpoint(model.eval(), vocabulary, description["model_hash"], description["facts"])


def drop_others(config: Config) -> None:
    """Remove what networks left that the configuration does not name: no later night would train them anew."""
    every = {f"{text}{network}" for network in NETWORKS for text in ("", "text_")}
    for other in every - {each.sasrec.name for each in config.networks}:
        files.delete_folder(config.table(f"models/{other}"))


def describe(place: str | Path) -> dict | None:
    """model_hash, files, network and facts of the checkpoint without its weights; None where there is none."""
    found = files.read(f"{place}/{_description(place)}")
    return json.loads(found) if found else None


def _description(place: str | Path) -> str:
    return f"{PurePosixPath(place).name}.json"


def _hash(weights: bytes, vocabulary: pa.Array) -> str:
    digest = hashlib.sha256(weights)
    digest.update(json.dumps(vocabulary.to_pylist()).encode())
    return digest.hexdigest()[:16]
