"""Evidence about a (user, candidate) pair as short words for the prompt. Pure; the numbers come from retrieve.py."""

from dataclasses import dataclass

STRENGTHS = ("none", "weak", "some", "strong")
RANKS = (1, 3, 10, 30, 100)


@dataclass(frozen=True)
class Pieces:
    """What is known about one pair: cooccurrence and transition are the sums of retrieve.py (about 0 to 1); content and
    similar_content are cosines in [0, 1] of the candidate's keywords with those of the history and of what similar
    users took next; sasrec_rank from 1, None outside the vocabulary; popularity_percentile is the share of the catalog
    with fewer training interactions, in [0, 1]."""

    cooccurrence: float
    transition: float
    similar_users: int
    content: float
    similar_content: float
    sasrec_rank: int | None
    popularity_percentile: float


def levels(pieces: Pieces) -> str:
    """The pieces in fixed order, comma separated; content in tenths, because it tells most about new items."""
    return ", ".join(
        (
            f"like history {_tenth(pieces.content)}",
            f"like others {_tenth(pieces.similar_content)}",
            f"together {_strength(pieces.cooccurrence, 0.05, 0.15)}",
            f"follows {_strength(pieces.transition, 0.02, 0.08)}",
            f"similar {min(pieces.similar_users, 9)}",
            f"rank {_rank(pieces.sasrec_rank)}",
            f"popular {_third(pieces.popularity_percentile)}",
        )
    )


def _tenth(cosine: float) -> int:
    return min(9, int(10 * cosine + 1e-6))


def _strength(value: float, some: float, strong: float) -> str:
    return STRENGTHS[(value > 0) + (value >= some) + (value >= strong)]


def _rank(rank: int | None) -> str:
    if rank is None:
        return "unknown"
    return next((f"top {edge}" for edge in RANKS if rank <= edge), "low")


def _third(percentile: float) -> str:
    return "low" if percentile < 1 / 3 else "middle" if percentile < 2 / 3 else "high"
