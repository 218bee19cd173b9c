"""Cross-entropy over the full catalog, exact in its shape and cheap: no negatives are sampled, and no matrix of
positions x catalog is ever whole in memory.

A catalog of tens of thousands makes this nearly all of the training's work, so its three matrix products run in
bfloat16 where the processor multiplies it natively (sums, states, gradients and the optimizer stay float32).
"""

from typing import Any

import torch
from torch import Tensor

CHUNK_BYTES = {"cpu": 8 << 20, "cuda": 1 << 29}  # logits in memory at a time: what a processor's cache holds
LEAST_ROWS = 64  # below, adding up the items' gradients would cost more than the products


class FullCatalogLoss(torch.autograd.Function):
    """Sum of cross-entropy of states [n, dim] @ items [vocabulary, dim].T against targets [n], products in `dtype`.

    Gradients are made chunk by chunk on the way forward. With e = exp(logits - greatest), s its sum: the gradient of a
    state is e @ items / s - items[target], that of the items e.T @ (states / s) less the states at their targets.
    """

    @staticmethod
    def forward(context: Any, states: Tensor, items: Tensor, targets: Tensor, dtype: torch.dtype) -> Tensor:
        states_gradient, items_gradient = torch.empty_like(states), torch.zeros_like(items)
        fewer, fewer_items = states.to(dtype), items.to(dtype)
        wanted = items[targets]
        total = -(states * wanted).sum()
        rows = min(len(states), max(LEAST_ROWS, CHUNK_BYTES[items.device.type] // (len(items) * dtype.itemsize)))
        logits, pull = fewer.new_empty(rows, len(items)), torch.empty_like(fewer_items)  # memory that is used again
        for start in range(0, len(states), rows):
            part = slice(start, start + rows)
            weights = torch.mm(fewer[part], fewer_items.T, out=logits[: len(states) - start])
            greatest = weights.amax(1, keepdim=True)
            weights.sub_(greatest).exp_()
            sums = weights.sum(1, keepdim=True, dtype=states.dtype)
            total += (sums.log() + greatest).sum()
            states_gradient[part] = (weights @ fewer_items).to(states.dtype).div_(sums)
            items_gradient += torch.mm(weights.T, (states[part] / sums).to(dtype), out=pull)
        context.save_for_backward(states_gradient.sub_(wanted), items_gradient.index_add_(0, targets, states, alpha=-1))
        return total

    @staticmethod
    def backward(context: Any, scale: Tensor) -> tuple[Tensor, Tensor, None, None]:
        states_gradient, items_gradient = context.saved_tensors
        return states_gradient * scale, items_gradient * scale, None, None


def precision(name: str, device: torch.device) -> torch.dtype:
    """Of the products, by sasrec.precision; auto: bfloat16 where the hardware multiplies it."""
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if name == "bfloat16" or (name == "auto" and native) else torch.float32
