"""SASRec (Kang and McAuley 2018): a causal transformer over item ids, and its checkpoint folder.

Pre-norm blocks, learned positions, output weights tied to the item embeddings. A position is counted from the END of
the history, so one that was cut at its old end or padded gives the same state. Training is training/sasrec_trainer.py.
"""

import hashlib
import json
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as saved
from torch import Tensor, nn

from mmsrarec.config import Config, Sasrec
from mmsrarec.errors import InputError
from mmsrarec.storage import files

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


def folder(config: Config) -> str:
    return config.table("models/sasrec")


def save(place: str | Path, model: SasRec, vocabulary: pa.Array, settings: Sasrec, facts: dict) -> str:
    """Write the checkpoint and return the model hash. A checkpoint is what sasrec.json names: that file is replaced
    last, in one step, so there is always a whole one; the files of the one before go after it."""
    weights = saved({name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()})
    model_hash = _hash(weights, vocabulary)
    names = {"weights": f"weights-{model_hash}.safetensors", "vocabulary": f"vocabulary-{model_hash}.parquet"}
    items = BytesIO()
    parquet.write_table(pa.table({"item_id": vocabulary}), items)
    description = {"model_hash": model_hash, "files": names, "network": network(settings), "facts": facts}
    files.write(f"{place}/{names['weights']}", weights)
    files.write(f"{place}/{names['vocabulary']}", items.getvalue())
    files.write(f"{place}/sasrec.json", json.dumps(description, indent=2).encode())
    for file in files.listing(place):
        if file.name not in ("sasrec.json", *names.values()):
            files.delete(f"{place}/{file.name}")
    return model_hash


def network(settings: Sasrec) -> dict:
    """The settings that decide the weights; when to train again does not."""
    return settings.model_dump(mode="json", exclude={"refresh_days"})


def load(place: str | Path) -> Checkpoint:
    """The checkpoint on the CPU; InputError where there is none."""
    description = describe(place)
    if description is None:
        raise InputError(f"{place}: no SASRec checkpoint; run train_sasrec first")
    weights, items = (files.content(f"{place}/{description['files'][part]}") for part in ("weights", "vocabulary"))
    vocabulary = parquet.read_table(pa.BufferReader(items))["item_id"].combine_chunks()
    model = SasRec(len(vocabulary), Sasrec(**description["network"]))
    model.load_state_dict(load_tensors(weights))
    return Checkpoint(model.eval(), vocabulary, description["model_hash"], description["facts"])


def describe(place: str | Path) -> dict | None:
    """model_hash, files, network and facts of the checkpoint without its weights; None where there is none."""
    found = files.read(f"{place}/sasrec.json")
    return json.loads(found) if found else None


def _hash(weights: bytes, vocabulary: pa.Array) -> str:
    digest = hashlib.sha256(weights)
    digest.update(json.dumps(vocabulary.to_pylist()).encode())
    return digest.hexdigest()[:16]
