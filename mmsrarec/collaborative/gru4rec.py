"""GRU4Rec (Hidasi et al. 2016; Tan et al. 2016): a recurrent network over item ids, trained on every position.

Its state is brought back to the width of the item vectors, which are tied as in SASRec. Of a long history it reads the
latest max_length items, starting from nothing.
"""

from torch import Tensor, nn

from mmsrarec.collaborative.network import Network
from mmsrarec.config import Sasrec


class Gru4Rec(Network):
    def __init__(self, vocabulary_size: int, settings: Sasrec, text: Tensor | None = None):
        super().__init__(vocabulary_size, settings, text)
        between = settings.dropout if settings.layers > 1 else 0.0
        self.recurrent = nn.GRU(settings.dim, settings.hidden, settings.layers, batch_first=True, dropout=between)
        self.narrow = nn.Linear(settings.hidden, settings.dim)

    def forward(self, codes: Tensor, lengths: Tensor) -> Tensor:
        hidden, _ = self.recurrent(self.dropout(self.items(codes)))
        return self.norm(self.narrow(self.dropout(hidden)))
