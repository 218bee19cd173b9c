"""Which items a user is scored on: several sources, one list. Pure functions over item codes and scores."""

from collections.abc import Iterable, Mapping

import numpy as np

SOURCES = ("sasrec", "similar_users", "cooccurrence", "content", "similar_content", "new")
FILLER = "popular"


def top(codes: np.ndarray, scores: np.ndarray, count: int) -> np.ndarray:
    """The `count` codes with the highest scores, best first, ties by code."""
    if count < 1:
        return codes[:0]
    if count < len(codes):
        least = np.partition(scores, len(scores) - count)[len(scores) - count]
        codes, scores = codes[scores >= least], scores[scores >= least]
    return codes[np.lexsort((codes, -scores))[:count]]


def interleave(lists: Mapping[str, np.ndarray], filler: Iterable[int], count: int) -> list[tuple[int, str]]:
    """At most `count` distinct (code, source), each list in its order and stretched over the same length.

    So every source has a share in proportion to its length, however short the result is. An item that several sources
    name belongs to the first of them in the result. `filler` fills up what is missing; it must hold no barred item.
    """
    places = [
        ((position + 0.5) / len(codes), SOURCES.index(source), int(code), source)
        for source, codes in lists.items()
        for position, code in enumerate(codes)
    ]
    chosen: dict[int, str] = {}
    for _, _, code, source in sorted(places):
        if len(chosen) == count:
            break
        chosen.setdefault(code, source)
    if len(chosen) < count:
        for code in filler:
            chosen.setdefault(int(code), FILLER)
            if len(chosen) == count:
                break
    return list(chosen.items())
