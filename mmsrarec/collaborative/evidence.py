"""Evidence about a (user, candidate) pair as short words for the prompt. Pure; the numbers come from retrieve.py."""

STRENGTHS = ("none", "weak", "some", "strong")


def levels(
    cooccurrence: float, transition: float, similar_users: int, sasrec_rank: int | None, popularity_percentile: float
) -> str:
    """The five pieces in fixed order, comma separated.

    cooccurrence and transition are the sums of retrieve.py (about 0 to 1), popularity_percentile is the share of the
    catalog with fewer training interactions than the candidate, in [0, 1].
    """
    return ", ".join(
        (
            f"together {_strength(cooccurrence, 0.05, 0.15)}",
            f"follows {_strength(transition, 0.02, 0.08)}",
            f"similar {min(similar_users, 5)}",
            f"rank {_rank(sasrec_rank)}",
            f"popular {_third(popularity_percentile)}",
        )
    )


def _strength(value: float, some: float, strong: float) -> str:
    return STRENGTHS[(value > 0) + (value >= some) + (value >= strong)]


def _rank(rank: int | None) -> str:
    if rank is None:
        return "unknown"
    return next((f"top {edge}" for edge in (5, 20, 100) if rank <= edge), "low")


def _third(percentile: float) -> str:
    return "low" if percentile < 1 / 3 else "middle" if percentile < 2 / 3 else "high"
