"""Sequences that share what they begin with: nothing is lost, nothing is there twice, and nothing sees another's."""

import numpy as np

from mmsrarec.training.prefixes import packed


def test_each_path_is_its_sequence_and_sees_it_alone() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        sequences = [rng.integers(3, size=rng.integers(1, 12)).tolist() for _ in range(8)]
        sequences.append(sequences[0])  # one that is there twice
        tree = packed(sequences)
        seen = tree.seen()
        for sequence, path in zip(sequences, tree.paths, strict=True):
            assert [tree.tokens[place] for place in path] == sequence
            assert [tree.positions[place] for place in path] == list(range(len(sequence)))
            for position, place in enumerate(path):
                assert set(seen[place].nonzero().flatten().tolist()) == set(path[: position + 1])
        prefixes = {tuple(sequence[:end]) for sequence in sequences for end in range(1, len(sequence) + 1)}
        assert len(tree.tokens) == len(prefixes), "every prefix is computed once"
