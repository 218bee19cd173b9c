"""Learning the fusion: a conditional logit over whole pools. Pure; the stage is fusion_stage.py.

A question is a user whose next item is known and in its pool; the rest of the pool are the alternatives, none left
out: sampled negatives would bias it. The context must not have counted what is asked (fusion_stage.py sees to it).
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from mmsrarec.collaborative.fusion import CHUNK, LEVELS, QUANTILES, REACH, Fusion, nobody
from mmsrarec.collaborative.pieces.asked import NOBODY

PENALTY = 1e-2  # on the squared weights, of the mean loss per question
STEPS = 100
SAMPLED = 10  # places per question, at least, from which means, knots and edges are taken,
ENOUGH = 20_000  # and in all: with a few hundred questions ten each would leave the fusion to the draw


def answers(pool: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Place of each target [users] in its pool [users, width], -1 where the pool misses it."""
    found = (pool == targets[:, None]) & (targets != NOBODY)[:, None]
    return np.where(found.any(axis=1), found.argmax(axis=1), -1)


def fit(pieces: Sequence[str], values: np.ndarray, answered: np.ndarray, seed: int) -> Fusion:
    """From values [questions, width, pieces] and the place [questions] of what was taken; -1 teaches nothing."""
    known = answered >= 0
    return weighted(described(pieces, values[known], answered[known], seed), values, answered)


def weighted(fusion: Fusion, values: np.ndarray, answered: np.ndarray) -> Fusion:
    """The same columns and levels with weights that these questions teach."""
    values, answered = values[answered >= 0], answered[answered >= 0]
    features = torch.from_numpy(fusion.features(values))
    barred = torch.from_numpy(nobody(values))
    weights, loss = _solved(features, barred, torch.from_numpy(answered))
    facts = {"learned": True, "questions": len(answered), "loss": loss, "even": _even(barred)}
    return replace(fusion, weights=tuple(weights.tolist()), facts=facts)


def described(pieces: Sequence[str], values: np.ndarray, answered: np.ndarray, seed: int) -> Fusion:
    """A fusion without weights: means, scales and knots of the pools, edges of a sample that has as many answers as
    others, drawn with the seed."""
    rng = np.random.default_rng(seed)
    rows = np.arange(len(answered))
    width = (~nobody(values)).sum(axis=1)
    each = max(SAMPLED, -(-ENOUGH // max(len(rows), 1)))
    drawn = (rng.random((len(rows), each)) * width[:, None]).astype(np.int64)
    sample = values[rows[:, None], drawn].reshape(-1, values.shape[2])
    taken = np.repeat(values[rows, answered], each // SAMPLED, axis=0)
    others = values[rows[:, None], drawn[:, : each // SAMPLED]].reshape(-1, values.shape[2])
    balanced = np.concatenate([taken, others])
    means, scales, knots, edges = [], [], [], []
    for number in range(values.shape[2]):
        known = sample[:, number][~np.isnan(sample[:, number])].astype(np.float64)
        known = known if len(known) else np.zeros(1)
        mean, scale = float(known.mean()), float(known.std())
        scale = scale if scale > 1e-9 else 1.0
        standard = np.clip((np.quantile(known, QUANTILES) - mean) / scale, -REACH, REACH)
        both = balanced[:, number][~np.isnan(balanced[:, number])]
        # Values that occur: pieces that count have few, and an edge beside one would be on either side of it by chance.
        inner = np.quantile(both if len(both) else np.zeros(1), np.arange(1, LEVELS) / LEVELS, method="lower")
        means.append(round(mean, 9))
        scales.append(round(scale, 9))
        knots.append(tuple(standard.round(6).tolist()))
        edges.append(tuple(inner.astype(float).tolist()))
    return Fusion(tuple(pieces), tuple(means), tuple(scales), tuple(knots), (), tuple(edges))


def _solved(features: torch.Tensor, barred: torch.Tensor, answered: torch.Tensor) -> tuple[np.ndarray, float]:
    """Weights that minimize the mean negative log-likelihood with the penalty, and that mean alone."""
    weights = torch.zeros(features.shape[-1], requires_grad=True)
    solver = torch.optim.LBFGS([weights], max_iter=STEPS, history_size=20, line_search_fn="strong_wolfe")
    told = [0.0]

    def closure() -> torch.Tensor:
        solver.zero_grad()
        total = 0.0
        for start in range(0, len(answered), CHUNK):
            part = slice(start, start + CHUNK)
            scores = (features[part] @ weights).masked_fill(barred[part], -torch.inf)
            loss = torch.nn.functional.cross_entropy(scores, answered[part], reduction="sum") / len(answered)
            loss.backward()
            total += loss.item()
        penalty = PENALTY * weights.square().sum()
        penalty.backward()
        told[0] = total
        return torch.tensor(total) + penalty.detach()

    solver.step(closure)
    return weights.detach().numpy().astype(np.float64).round(7), round(told[0], 6)


def _even(barred: torch.Tensor) -> float:
    """The loss of knowing nothing."""
    return round(float(torch.log((~barred).sum(dim=1).float()).mean()), 6)
