"""The teacher of the yes/no lessons: a logistic regression over counts of what a prompt shows.

What a shopper takes next is mostly chance, and a small model learns nothing from chance. The teacher sees many shops at
once, counts how often a candidate's keywords stand in the history and in what similar users took, and learns how these
counts and the evidence go with the fit that the shop's maker knows. Its probability is the answer of a lesson, and its
counts are an aid at the candidate's own words; both follow from the prompt alone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mmsrarec.collaborative.evidence import RANKS

RECENCY = 0.65  # weight of an item against the one after it
LEVELS = (
    "together weak", "together some", "together strong", "follows weak", "follows some", "follows strong",
    *(f"rank top {edge}," for edge in RANKS), "rank low", "rank unknown", "popular middle", "popular high",
)  # fmt: skip


def shares(history: Sequence[Sequence[str]], similar: Sequence[Sequence[str]], keyword: str) -> tuple[float, float]:
    """How much of the history (later items count more) and of the similar users' items has the keyword; 0 to 1."""
    weights = RECENCY ** np.arange(len(history))[::-1]
    own = sum(weight for weight, item in zip(weights, history, strict=True) if keyword in item)
    others = sum(keyword in item for item in similar)
    return float(own / weights.sum()) if len(history) else 0.0, others / len(similar) if similar else 0.0


def counts(
    history: Sequence[Sequence[str]], similar: Sequence[Sequence[str]], keywords: Sequence[str], levels: str
) -> list[float]:
    """Features of one candidate."""
    known = [shares(history, similar, keyword) for keyword in keywords]
    last = history[-1] if history else []
    return [
        sum(own for own, _ in known),
        sum(others for _, others in known),
        sum(max(pair) for pair in known),
        sum(own * others for own, others in known),
        sum(own > 0.5 for own, _ in known),
        sum(keyword in last for keyword in keywords),
        float(len(keywords)) / 6,
        float(bool(similar)),
        float(bool(levels)),
        *(float(level in levels) for level in LEVELS),
        *(_digit(levels, name) for name in ("like history ", "like others ", "similar ")),
    ]


def _digit(levels: str, name: str) -> float:
    place = levels.find(name)
    return int(levels[place + len(name)]) / 10 if place >= 0 else 0.0


@dataclass(frozen=True)
class Teacher:
    """p = sigmoid(weights . standardized counts + bias)."""

    mean: torch.Tensor
    spread: torch.Tensor
    weights: torch.Tensor
    bias: torch.Tensor

    def __call__(self, features: Sequence[Sequence[float]], sharpness: float = 1.0) -> list[float]:
        """p per candidate; `sharpness` multiplies the logits."""
        standardized = (torch.tensor(features) - self.mean) / self.spread
        return torch.sigmoid(sharpness * (standardized @ self.weights + self.bias)).tolist()


def fit(features: Iterable[Sequence[float]], fits: Iterable[float]) -> Teacher:
    """Least cross-entropy against the fits, by LBFGS; the data decide, there is no seed."""
    inputs, targets = torch.tensor(list(features)), torch.tensor(list(fits))
    mean, spread = inputs.mean(0), inputs.std(0) + 1e-3
    inputs = (inputs - mean) / spread
    weights, bias = torch.zeros(inputs.shape[1], requires_grad=True), torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights, bias], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        logits = inputs @ weights + bias
        value = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets) + 1e-4 * weights.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    return Teacher(mean, spread, weights.detach(), bias.detach())
