"""Which items a user is scored on: several sources, one list. Pure functions over item codes and scores."""

from collections import Counter
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
    return filled(chosen, filler, count)


def filled(chosen: Mapping[int, str], filler: Iterable[int], count: int) -> list[tuple[int, str]]:
    """`chosen` (code -> source, at most `count`), and as much of `filler` behind it as it lacks."""
    found = dict(chosen)
    if len(found) < count:
        for code in filler:
            found.setdefault(int(code), FILLER)
            if len(found) == count:
                break
    return list(found.items())


def enough(
    chosen: list[tuple[int, str]], filler: Iterable[int], groups: np.ndarray, limits: np.ndarray, count: int
) -> list[tuple[int, str]]:
    """`chosen`, and as much of `filler` as it lacks for `count` items of which no group has more than its limit.

    groups[code] is the code's group, limits[group] the most that a list may have of it.
    """
    taken: Counter = Counter(groups[[code for code, _ in chosen]].tolist())
    lacking = count - sum(min(number, int(limits[group])) for group, number in taken.items())
    known, added = {code for code, _ in chosen}, []
    for code in filler:
        if lacking <= 0:
            break
        group = int(groups[code])
        if code not in known and taken[group] < limits[group]:
            taken[group] += 1
            lacking -= 1
            added.append((int(code), FILLER))
    return [*chosen, *added]
