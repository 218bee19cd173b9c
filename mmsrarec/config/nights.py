"""Settings of the night around the stages: its price, its gates, its rules, its page."""

from pydantic import Field

from mmsrarec.config.section import Count, Fraction, Positive, Section


class Plan(Section):
    """The price before the run; what is given here stands in the place of what earlier runs have shown."""

    sample: Positive = Field(100, description="items or users whose tokens are counted; the rest is scaled from them")
    answer_tokens: Positive | None = Field(
        None, description="tokens of a first keyword answer; default half of max_tokens"
    )
    items_per_second: float | None = Field(None, gt=0, description="speed of summarize_items; default: the ledger's")
    pairs_per_second: float | None = Field(None, gt=0, description="speed of scoring; default: the ledger's")
    price_per_hour: float | None = Field(None, ge=0, description="money per hour for all machines that a run holds")
    currency: str = Field("EUR", description="name of the money")


class Budget(Section):
    """What a run may spend on its engines, all stages together; null is no limit. It is refused before one starts."""

    tokens: Count | None = Field(None, description="prompt and output tokens")
    hours: float | None = Field(None, ge=0, description="hours of the stages that ask an engine")
    money: float | None = Field(None, ge=0, description="in plan.currency; needs plan.price_per_hour")

    @property
    def limited(self) -> bool:
        return (self.tokens, self.hours, self.money) != (None, None, None)


class Publish(Section):
    """Gates between the staged lists and the readers; comparisons are with the published night before, if any."""

    users_covered: Fraction = Field(0.99, description="least share of the users that have a list")
    lists_full: Fraction = Field(0.95, description="least share of the lists that have recommend.top_k items")
    mean_shift: Fraction = Field(0.1, description="the mean score moves at most this much")
    quantile_shift: Fraction = Field(0.2, description="the scores' 10%, 50% and 90% quantiles move at most this much")
    overlap_min: Fraction = Field(0.1, description="least share of the items that were on the user's list before")
    overlap_max: Fraction = Field(1.0, description="most of that share; below 1 it tells a night that stands still")
    keep_staged: Positive = Field(14, description="latest nights kept in staged_recommendations")


class Rules(Section):
    """What may be listed; decided before any candidate is scored. Files are tables with an item_id or user_id."""

    categories: list[str] = Field([], description="categories that may be listed; none named: all")
    quota: Positive | None = Field(None, description="most items of one category in a list")
    quotas: dict[str, Positive] = Field({}, description="the same for single categories")
    exclude_items: list[str] = Field([], description="items that are never listed")
    exclude_items_file: str | None = Field(None, description="the same as a table with the column item_id")
    exclude_users: list[str] = Field([], description="users who get no list; their data counts, unlike after forget")
    exclude_users_file: str | None = Field(None, description="the same as a table with the column user_id")


class Cache(Section):
    """The table `answers`: what an engine was asked before."""

    keep_days: Positive = Field(
        30, description="an answer that no run asks for in this many days is deleted, at the latest after twice as many"
    )


class Report(Section):
    """The page about a night."""

    out: str | None = Field(None, description="its file, s3:// too; default report.html in the lake")
    users: Count = Field(12, description="users to look at, drawn by run.seed")
    items: Count = Field(12, description="items to look at, drawn by run.seed")
