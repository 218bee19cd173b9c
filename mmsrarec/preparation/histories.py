"""Histories: a user's good interactions in the order of time. What training may see of them says cuts.py.

Equal times are ordered by xxhash64(seed, user_id, item_id): a file has no order of its own, and an order by id would
leak it. One shuffle by user serves every step.
"""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from mmsrarec.config import Config


def build(good: DataFrame, config: Config) -> DataFrame:
    """user_id, item_ids, timestamps, duplicates and repeats (rows dropped), from user_id, item_id, timestamp.

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
            "duplicates",
            "repeats",
        )
    )


def training(histories: DataFrame) -> DataFrame:
    """user_id and item_ids of what training may see: all of it, less what is held out."""
    seen = F.greatest(F.size("item_ids") - F.col("held_out"), F.lit(0)).cast("int")
    return histories.select("user_id", F.slice("item_ids", F.lit(1), seen).alias("item_ids"))
