"""What every sequence model is: item codes in, a state after each position out, and a vector per item.

A state's product with the item vectors is the logit of what comes next; everybody downstream (embed.py, index.py,
retrieve.py, the trainer) knows this much of a network and no more. sasrec.py and gru4rec.py are the two there are.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from mmsrarec.config import Sasrec

PADDING = 0
EMBEDDING_STD = 0.02


class ItemTable(nn.Embedding):
    """Learned vectors by code; with fixed text vectors [vocabulary, width] their learned projection is added, so that
    items that few have taken lie near those that read alike. Code 0 is padding, code c + 1 item c of the vocabulary."""

    text: Tensor | None

    def __init__(self, vocabulary_size: int, dim: int, text: Tensor | None = None):
        super().__init__(vocabulary_size + 1, dim, padding_idx=PADDING)
        nn.init.normal_(self.weight, std=EMBEDDING_STD)
        with torch.no_grad():
            self.weight[PADDING] = 0
        self.register_buffer("text", None if text is None else nn.functional.pad(text, (0, 0, 1, 0)))
        if text is not None:
            self.projection = nn.Linear(text.shape[1], dim, bias=False)
            nn.init.normal_(self.projection.weight, std=EMBEDDING_STD)

    def forward(self, codes: Tensor) -> Tensor:
        found = super().forward(codes)
        return found if self.text is None else found + self.projection(self.text[codes])

    @property
    def vectors(self) -> Tensor:
        """[vocabulary, dim], padding left out."""
        known = self.weight[1:]
        return known if self.text is None else known + self.projection(self.text[1:])


class Network(nn.Module, ABC):
    """A sequence model over the items of a vocabulary, its item vectors tied: the same going in and coming out."""

    def __init__(self, vocabulary_size: int, settings: Sasrec, text: Tensor | None = None):
        super().__init__()
        self.max_length = settings.max_length
        self.items = ItemTable(vocabulary_size, settings.dim, text)
        self.dropout = nn.Dropout(settings.dropout)
        self.norm = nn.LayerNorm(settings.dim)

    @property
    def item_vectors(self) -> Tensor:
        """[vocabulary, dim]; logits = state @ item_vectors.T."""
        return self.items.vectors

    @abstractmethod
    def forward(self, codes: Tensor, lengths: Tensor) -> Tensor:
        """States [batch, length, dim] of codes [batch, length], which are padded on the RIGHT, at most max_length long.

        State t has seen codes 0 to t only. Padding needs no mask: it comes after everything that is read. States at
        padding are meaningless.
        """
