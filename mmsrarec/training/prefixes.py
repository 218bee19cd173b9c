"""Sequences that begin alike, packed into one: what they share is there, and is computed, once.

A packed sequence is a tree of tokens, in which every sequence is a path from the root. A token sees those before it on
its path, and has the position that it has there: the model says of each path what it says of that sequence alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Packed:
    """tokens and positions [tokens]: what is computed, and its place in its sequence; paths: per sequence the places
    of its tokens in `tokens`, in order."""

    tokens: list[int]
    positions: list[int]
    paths: list[list[int]]

    def seen(self) -> torch.Tensor:
        """bool [tokens, tokens]: which token (row) sees which (column)."""
        found = torch.zeros(len(self.tokens), len(self.tokens), dtype=torch.bool)
        for path in map(torch.tensor, self.paths):
            found[path[:, None], path] |= torch.ones(len(path), len(path), dtype=torch.bool).tril()
        return found


def packed(sequences: Sequence[list[int]]) -> Packed:
    """All of them; in alphabetical order each shares most with the one before it."""
    tokens: list[int] = []
    positions: list[int] = []
    paths: dict[int, list[int]] = {}
    latest: list[int] = []
    path: list[int] = []
    for number in sorted(range(len(sequences)), key=lambda number: sequences[number]):
        shared = alike(latest, own := sequences[number])
        path = path[:shared] + list(range(len(tokens), len(tokens) + len(own) - shared))
        tokens += own[shared:]
        positions += range(shared, len(own))
        latest, paths[number] = own, path
    return Packed(tokens, positions, [paths[number] for number in range(len(sequences))])


def alike(first: list[int], second: list[int]) -> int:
    """How long the prefix is that both have."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((place for place, (one, other) in pairs if one != other), min(len(first), len(second)))
