"""Item co-occurrence and transitions from training histories. Expressions only; nothing comes to the driver.

A pair is two different items of a history at distance d = 1 … window; it weighs decay^(d-1). A history makes at most
max_history * window pairs, so an item that everybody took costs what its interactions cost, not their square.

    cooccurrence(i, j) = weight(i before j or j before i) / sqrt(n_i n_j), n = training interactions that make pairs
    transition(i -> j) = weight(i before j) / weight(i before anything)

With each item once in a history both lie in [0, 1]. Weights are summed as integers, so that no order of summing shows.
"""

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from mmsrarec.config import Config

UNIT = 10**9  # a pair at distance 1


def bounded(training: DataFrame, config: Config) -> DataFrame:
    """user_id, item_ids: the latest max_history items of each history, and `cut`: how many were left out."""
    most = config.build_cf.max_history
    size = F.size("item_ids")
    latest = F.slice("item_ids", F.greatest(size - most + 1, F.lit(1)), F.lit(most))
    return training.select("user_id", latest.alias("item_ids"), F.greatest(size - most, F.lit(0)).alias("cut"))


def interactions(histories: DataFrame) -> DataFrame:
    """item_id and in how many places of the histories it stands."""
    places = histories.select(F.explode("item_ids").alias("item_id"))
    return places.groupBy("item_id").agg(F.count("*").alias("interactions"))


def pairs(histories: DataFrame, config: Config) -> DataFrame:
    """One row per unordered pair: low < high, counts and weights of low before high (forward) and the other way.

    `histories` has item_ids. Both tables below come from this one aggregation.
    """
    window, decay = config.build_cf.window, config.build_cf.decay
    weights = {distance: round(decay ** (distance - 1) * UNIT) for distance in range(1, window + 1)}
    found = F.concat(*(_at(F.col("item_ids"), distance, weight) for distance, weight in weights.items() if weight))
    directed = histories.select(F.inline(found)).where(F.col("before") != F.col("after"))
    forward = F.col("before") < F.col("after")
    return directed.groupBy(F.least("before", "after").alias("low"), F.greatest("before", "after").alias("high")).agg(
        F.count_if(forward).alias("forward_count"),
        F.sum(F.when(forward, F.col("weight")).otherwise(0)).alias("forward_weight"),
        F.count_if(~forward).alias("backward_count"),
        F.sum(F.when(forward, 0).otherwise(F.col("weight"))).alias("backward_weight"),
    )


def _at(items: Column, distance: int, weight: int) -> Column:
    """All pairs of a history at one distance, as structs (before, after, weight)."""
    length = F.greatest(F.size(items) - distance, F.lit(0))
    zipped = F.arrays_zip(
        F.slice(items, F.lit(1), length).alias("before"), F.slice(items, F.lit(distance + 1), length).alias("after")
    )
    return F.transform(
        zipped,
        lambda pair: F.struct(
            pair["before"].alias("before"), pair["after"].alias("after"), F.lit(weight).cast("bigint").alias("weight")
        ),
    )


def cooccurrence(pairs: DataFrame, interactions: DataFrame, config: Config) -> DataFrame:
    """The item_cooccurrence table. `interactions` has item_id and its number of interactions."""
    low = interactions.select(F.col("item_id").alias("low"), F.col("interactions").alias("low_interactions"))
    high = interactions.select(F.col("item_id").alias("high"), F.col("interactions").alias("high_interactions"))
    weight = (F.col("forward_weight") + F.col("backward_weight")) / UNIT
    scored = (
        pairs.join(low, on="low", how="inner")
        .join(high, on="high", how="inner")
        .select(
            "low",
            "high",
            (F.col("forward_count") + F.col("backward_count")).alias("count"),
            (weight / F.sqrt(F.col("low_interactions").cast("double") * F.col("high_interactions"))).alias("score"),
        )
    )
    both = scored.select(
        F.inline(
            F.array(
                F.struct(F.col("low").alias("item_id"), F.col("high").alias("neighbor_id"), "count", "score"),
                F.struct(F.col("high").alias("item_id"), F.col("low").alias("neighbor_id"), "count", "score"),
            )
        )
    )
    return _top(both, "neighbor_id", config.build_cf.top_n)


def transitions(pairs: DataFrame, config: Config) -> DataFrame:
    """The item_transitions table."""
    directed = pairs.select(
        F.inline(
            F.array(
                _directed("low", "high", "forward"),
                _directed("high", "low", "backward"),
            )
        )
    ).where(F.col("count") > 0)
    totals = directed.groupBy("item_id").agg(F.sum("score").alias("total"))
    return (
        _top(directed, "next_item_id", config.build_cf.top_n)
        .join(totals, on="item_id", how="inner")
        .select("item_id", "next_item_id", "count", (F.col("score") / F.col("total")).alias("score"), "rank")
    )


def _directed(before: str, after: str, side: str) -> Column:
    return F.struct(
        F.col(before).alias("item_id"),
        F.col(after).alias("next_item_id"),
        F.col(f"{side}_count").alias("count"),
        F.col(f"{side}_weight").alias("score"),
    )


def _top(scored: DataFrame, neighbor: str, most: int) -> DataFrame:
    """The `most` highest scores of each item, ranked from 1; equal scores in the order of the neighbor's id."""
    order = Window.partitionBy("item_id").orderBy(F.desc("score"), F.asc(neighbor))
    ranked = scored.withColumn("rank", F.row_number().over(order)).where(F.col("rank") <= most)
    return ranked.select("item_id", neighbor, "count", "score", "rank")
