"""SASRec (Kang and McAuley 2018): a causal transformer over item ids.

Pre-norm blocks, learned positions, output weights tied to the item embeddings. A position is counted from the END of
the history, so one that was cut at its old end or padded gives the same state.
"""

import torch
from torch import Tensor, nn

from mmsrarec.collaborative.network import EMBEDDING_STD, Network
from mmsrarec.config import Sasrec


class SasRec(Network):
    def __init__(self, vocabulary_size: int, settings: Sasrec, text: Tensor | None = None):
        super().__init__(vocabulary_size, settings, text)
        self.positions = nn.Embedding(settings.max_length, settings.dim)
        nn.init.normal_(self.positions.weight, std=EMBEDDING_STD)
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

    def forward(self, codes: Tensor, lengths: Tensor) -> Tensor:
        length = codes.shape[1]
        from_end = lengths[:, None] - 1 - torch.arange(length, device=codes.device)
        hidden = self.dropout(self.items(codes) + self.positions(from_end.clamp(min=0)))
        mask = nn.Transformer.generate_square_subsequent_mask(length, device=codes.device)
        for block in self.blocks:
            hidden = block(hidden, src_mask=mask, is_causal=True)
        return self.norm(hidden)
