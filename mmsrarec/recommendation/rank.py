"""From scored candidates to a user's list, and the reasons that go with it. Pure.

Order: p_yes (or its blend with the pre-ranker's score) rounded to 6 decimals, then SASRec's score, then item_id, so
that an engine's last bits never decide. A
candidate that the engine could not score stands behind all that it could: it fills a list up and takes nobody's place.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

DECIMALS = 6


@dataclass(frozen=True)
class Scored:
    """A candidate with what is known of it; p_yes is None where the engine gave no answer, and `blended` where p_yes
    alone decides."""

    item_id: str
    p_yes: float | None
    cf_score: float | None
    source: str
    keywords: list[str]
    category: str | None = None
    blended: float | None = None

    @property
    def score(self) -> float:
        """What orders the list; 0 for a candidate without an answer."""
        if self.p_yes is None:
            return 0.0
        return round(self.p_yes if self.blended is None else self.blended, DECIMALS)


def top(
    candidates: Iterable[Scored],
    seen: Collection[str],
    available: Collection[str],
    k: int,
    limit: Callable[[str | None], int] | None = None,
) -> list[Scored]:
    """The best k distinct candidates that are available and not seen, best first; no category beyond its limit."""
    allowed = {c.item_id: c for c in candidates if c.item_id in available and c.item_id not in seen}
    taken: Counter = Counter()
    listed: list[Scored] = []
    for candidate in sorted(allowed.values(), key=_order):
        if len(listed) == k:
            break
        if limit is None or taken[candidate.category] < limit(candidate.category):
            taken[candidate.category] += 1
            listed.append(candidate)
    return listed


def because(keywords: list[str], context: list[list[str]], limit: int) -> list[str]:
    """The item's keywords that items of `context` (history, similar users' items) have too; most shared first.

    Empty where nothing is shared: no reason is better than a made-up one. Ties keep the item's own order.
    """
    counts = Counter(keyword for item in context for keyword in set(item))
    return sorted((keyword for keyword in dict.fromkeys(keywords) if counts[keyword]), key=lambda k: -counts[k])[:limit]


def _order(candidate: Scored) -> tuple:
    cf_score = float("-inf") if candidate.cf_score is None else candidate.cf_score
    return candidate.p_yes is None, -candidate.score, -cf_score, candidate.item_id
