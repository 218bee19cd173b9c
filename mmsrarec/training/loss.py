"""Cross-entropy over the full catalog, exact in its shape and cheap: no negatives are sampled, and no matrix of
positions x catalog is ever whole in memory.

A catalog of tens of thousands makes this nearly all of the training's work, so its three matrix products run in
bfloat16 where the processor multiplies it natively (sums, states, gradients and the optimizer stay float32).
"""

import math
from typing import Any

import torch
from torch import Tensor

CHUNK_BYTES = {"cpu": 8 << 20, "cuda": 1 << 29}  # logits in memory at a time: what a processor's cache holds
SMALLEST = 1e-37  # chance of a target, that its logarithm is a number
LEAST_ROWS = 64  # below, adding up the items' gradients would cost more than the products


class FullCatalogLoss(torch.autograd.Function):
    """Sum of cross-entropy of states [n, dim] @ items [vocabulary, dim].T against targets [n], products in `dtype`.

    Gradients are made chunk by chunk on the way forward: with p the softmax of a chunk's logits, that of its states is
    p @ items less the targets' items, that of the items p.T @ states less the states at their targets. p is rounded to
    `dtype`; what is taken off is not.
    """

    @staticmethod
    def forward(context: Any, states: Tensor, items: Tensor, targets: Tensor, dtype: torch.dtype) -> Tensor:
        states_gradient, items_gradient = torch.empty_like(states), torch.zeros_like(items)
        fewer, fewer_items = states.to(dtype), items.to(dtype)
        rows = chunk(len(states), len(items) * dtype.itemsize, items.device.type)
        logits, shares = (fewer.new_empty(rows, len(items)) for _ in range(2))  # memory that is used again
        pull, total = torch.empty_like(fewer_items), states.new_zeros(())
        for start in range(0, len(states), rows):
            part, left = slice(start, start + rows), len(states) - start
            torch.mm(fewer[part], fewer_items.T, out=logits[:left])
            chances = torch.softmax(logits[:left], 1, out=shares[:left])
            total -= chances.gather(1, targets[part, None]).to(states.dtype).clamp_(min=SMALLEST).log_().sum()
            states_gradient[part] = chances @ fewer_items
            items_gradient += torch.mm(chances.T, fewer[part], out=pull)
        states_gradient -= items[targets]
        context.save_for_backward(states_gradient, items_gradient.index_add_(0, targets, states, alpha=-1))
        return total

    @staticmethod
    def backward(context: Any, scale: Tensor) -> tuple[Tensor, Tensor, None, None]:
        states_gradient, items_gradient = context.saved_tensors
        return states_gradient * scale, items_gradient * scale, None, None


def chunk(count: int, row_bytes: int, device: str) -> int:
    """Positions at a time: as many as fit CHUNK_BYTES, evenly, so that no small rest costs as much as a whole chunk."""
    most = max(LEAST_ROWS, CHUNK_BYTES[device] // row_bytes)
    return math.ceil(count / max(1, math.ceil(count / most)))


def precision(name: str, device: torch.device) -> torch.dtype:
    """Of the products, by sasrec.precision; auto: bfloat16 where the hardware multiplies it."""
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if name == "bfloat16" or (name == "auto" and native) else torch.float32
