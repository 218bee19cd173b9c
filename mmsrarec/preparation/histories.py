"""Histories: a user's good interactions in the order of time, and the split that says what training may see.

Equal times are ordered by xxhash64(seed, user_id, item_id): a file has no order of its own, and an order by id would
leak it. One shuffle by user serves every step.
"""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from mmsrarec.config import Config

BUCKETS = 1_000_000
MIN_HELD_OUT = 3  # interactions of a user whose last item may be held out


def build(good: DataFrame, config: Config) -> DataFrame:
    """user_id, item_ids, timestamps, split, duplicates and repeats (rows dropped), from user_id, item_id, timestamp.

    A duplicate has the same user, item and time; a repeat is a later take of an item, dropped under
    build_cf.repeats=first.
    """
    users = good.repartition("user_id")
    takes = users.groupBy("user_id", "item_id", "timestamp").agg((F.count("*") - 1).alias("duplicates"))
    if config.build_cf.repeats == "first":
        takes = takes.groupBy("user_id", "item_id").agg(
            F.min("timestamp").alias("timestamp"),
            F.sum("duplicates").alias("duplicates"),
            (F.count("*") - 1).alias("repeats"),
        )
    else:
        takes = takes.withColumn("repeats", F.lit(0))
    tie = F.xxhash64(F.lit(config.run.seed), "user_id", "item_id")
    return (
        takes.groupBy("user_id")
        .agg(
            F.array_sort(F.collect_list(F.struct("timestamp", tie.alias("tie"), "item_id"))).alias("takes"),
            F.sum("duplicates").alias("duplicates"),
            F.sum("repeats").alias("repeats"),
        )
        .select(
            "user_id",
            F.col("takes.item_id").alias("item_ids"),
            F.col("takes.timestamp").alias("timestamps"),
            split(config, F.size("takes")).alias("split"),
            "duplicates",
            "repeats",
        )
    )


def split(config: Config, length: Column) -> Column:
    """train | validation | test by a hash of (seed, user_id); whoever has fewer than three interactions trains."""
    place = F.pmod(F.xxhash64(F.lit(config.run.seed), F.lit("split"), "user_id"), F.lit(BUCKETS))
    test = round(config.build_cf.test_fraction * BUCKETS)
    validation = test + round(config.build_cf.validation_fraction * BUCKETS)
    return (
        F.when(length < MIN_HELD_OUT, "train")
        .when(place < test, "test")
        .when(place < validation, "validation")
        .otherwise("train")
    )


def training(histories: DataFrame) -> DataFrame:
    """user_id and item_ids of what training may see: all of it, less the last item of validation and test users."""
    seen = F.when(F.col("split") == "train", F.col("item_ids"))
    return histories.select(
        "user_id",
        seen.otherwise(F.slice("item_ids", 1, F.greatest(F.size("item_ids") - 1, F.lit(0)))).alias("item_ids"),
    )
