"""Settings of the evaluation: what is held out of the histories, who is asked, and which methods answer."""

from typing import Literal

from pydantic import Field, model_validator

from mmsrarec.config.section import Fraction, Positive, Section

Method = Literal[
    "popularity",
    "recent_popularity",
    "item_cooccurrence",
    "item_knn",
    "ease",
    "tfidf",
    "sasrec",
    "gru4rec",
    "fusion",
    "boosting",
    "mmsrarec",
]


class Evaluation(Section):
    """Metrics on held-out items."""

    protocol: Literal["user_split", "leave_one_out", "time_split"] | None = Field(
        None,
        description="how histories are cut in lakes that are made for it; null: evaluate the night's lake as it is",
    )
    part: Literal["fit", "test"] | None = Field(
        None, description="which lake of a protocol with two this is; evaluate sets it, nobody else needs to"
    )
    positions: Positive = Field(1, description="held-out items of a user at most, each predicted from all before it")
    time_quantiles: tuple[Fraction, Fraction] = Field(
        (0.8, 0.9), description="time_split: shares of the interactions before its two cut times"
    )
    methods: list[Method] = Field(
        ["popularity", "item_cooccurrence", "sasrec", "mmsrarec"],
        description="who answers",
    )
    baseline: Method = Field("sasrec", description="method that ratios are to; none are told where it is no method")
    ks: list[Positive] = Field([5, 10], description="lengths of list that HR, NDCG and MRR are told for")
    negatives: Positive = Field(20, description="sampled negatives per user (the paper's 1 + 20)")
    max_users: Positive = Field(1000, description="test users drawn at most")
    tuning_users: Positive = Field(2000, description="validation users drawn at most to tune baselines on")
    bootstrap: Positive = Field(1000, description="resamples behind an interval")
    slices: bool = Field(
        False, description="also by history length, the target's popularity, cold items and users, and gap in time"
    )

    @model_validator(mode="after")
    def _cuts_ascend(self) -> "Evaluation":
        if self.time_quantiles[0] >= self.time_quantiles[1]:
            raise ValueError("time_quantiles must ascend: the first cut is before the second")
        return self
