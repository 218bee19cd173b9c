"""SASRec (Kang and McAuley 2018): a causal transformer over item ids, and its checkpoint folder.

Pre-norm blocks, learned positions, output weights tied to the item embeddings. A position is counted from the END of
the history, so one that was cut at its old end or padded gives the same state. Training is training/sasrec_trainer.py.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mmsrarec.config import Config, Sasrec
from mmsrarec.errors import ConfigError, InputError

PADDING = 0
EMBEDDING_STD = 0.02


class SasRec(nn.Module):
    """Item codes in, states out. Code 0 is padding, code c + 1 is item c of the vocabulary."""

    def __init__(self, vocabulary_size: int, settings: Sasrec):
        super().__init__()
        self.max_length = settings.max_length
        self.items = nn.Embedding(vocabulary_size + 1, settings.dim, padding_idx=PADDING)
        self.positions = nn.Embedding(settings.max_length, settings.dim)
        self.dropout = nn.Dropout(settings.dropout)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                settings.dim,
                settings.heads,
                dim_feedforward=4 * settings.dim,
                dropout=settings.dropout,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(settings.layers)
        )
        self.norm = nn.LayerNorm(settings.dim)
        for table in (self.items, self.positions):
            nn.init.normal_(table.weight, std=EMBEDDING_STD)
        with torch.no_grad():
            self.items.weight[PADDING] = 0

    @property
    def item_vectors(self) -> Tensor:
        """[vocabulary, dim]; logits = state @ item_vectors.T."""
        return self.items.weight[1:]

    def forward(self, codes: Tensor, lengths: Tensor) -> Tensor:
        """States [batch, length, dim] of codes [batch, length], which are padded on the RIGHT, at most max_length long.

        State t has seen codes 0 to t only. Padding needs no mask: it comes after everything that is read. States at
        padding are meaningless.
        """
        length = codes.shape[1]
        from_end = lengths[:, None] - 1 - torch.arange(length, device=codes.device)
        hidden = self.dropout(self.items(codes) + self.positions(from_end.clamp(min=0)))
        mask = nn.Transformer.generate_square_subsequent_mask(length, device=codes.device)
        for block in self.blocks:
            hidden = block(hidden, src_mask=mask, is_causal=True)
        return self.norm(hidden)


@dataclass(frozen=True)
class Checkpoint:
    """A trained network in evaluation mode. vocabulary[c] is the item of code c + 1, ascending by item_id."""

    model: SasRec
    vocabulary: pa.Array
    model_hash: str
    facts: dict


def folder(config: Config) -> Path:
    if "://" in config.lake.root:
        raise ConfigError(f"lake.root is {config.lake.root}, but checkpoints need a local folder")
    return Path(config.lake.root) / "models" / "sasrec"


def save(place: Path, model: SasRec, vocabulary: pa.Array, settings: Sasrec, facts: dict) -> str:
    """Write the checkpoint and return the model hash. A checkpoint is what sasrec.json names: that file is replaced
    last, in one step, so there is always a whole one; the files of the one before go after it."""
    place.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, place / "weights.part")
    model_hash = _hash(place / "weights.part", vocabulary)
    files = {"weights": f"weights-{model_hash}.safetensors", "vocabulary": f"vocabulary-{model_hash}.parquet"}
    os.replace(place / "weights.part", place / files["weights"])
    parquet.write_table(pa.table({"item_id": vocabulary}), place / files["vocabulary"])
    description = {"model_hash": model_hash, "files": files, "network": network(settings), "facts": facts}
    (place / "sasrec.part").write_text(json.dumps(description, indent=2), encoding="utf-8")
    os.replace(place / "sasrec.part", place / "sasrec.json")
    for file in place.iterdir():
        if file.name not in ("sasrec.json", *files.values()):
            file.unlink()
    return model_hash


def network(settings: Sasrec) -> dict:
    """The settings that decide the weights; when to train again does not."""
    return settings.model_dump(mode="json", exclude={"refresh_days"})


def load(place: Path) -> Checkpoint:
    """The checkpoint on the CPU; InputError where there is none."""
    description = describe(place)
    if description is None:
        raise InputError(f"{place}: no SASRec checkpoint; run train_sasrec first")
    files = description["files"]
    vocabulary = parquet.read_table(place / files["vocabulary"])["item_id"].combine_chunks()
    model = SasRec(len(vocabulary), Sasrec(**description["network"]))
    model.load_state_dict(load_file(place / files["weights"]))
    return Checkpoint(model.eval(), vocabulary, description["model_hash"], description["facts"])


def describe(place: Path) -> dict | None:
    """model_hash, files, network and facts of the checkpoint without its weights; None where there is none."""
    file = place / "sasrec.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None


def _hash(weights: Path, vocabulary: pa.Array) -> str:
    digest = hashlib.sha256(weights.read_bytes())
    digest.update(json.dumps(vocabulary.to_pylist()).encode())
    return digest.hexdigest()[:16]
