"""Interactions: every row gets an error or none. Cleaning and judging only; histories.py orders what is good.

A timestamp may be a number (seconds, milliseconds, microseconds or nanoseconds since 1970, told apart by magnitude), a
date, a time, or such as text. A position in the user's history (0, 1, 2 …) passes as so many seconds.
"""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import DateType, NumericType, StringType, TimestampNTZType, TimestampType

from mmsrarec.errors import InputError
from mmsrarec.preparation.columns import Columns, quoted, row_json, whole
from mmsrarec.storage.inputs import DAY, MAGNITUDES, MAX_ID_CHARS, NUMBER, TIME


def checked(rows: DataFrame, columns: Columns, items: DataFrame) -> DataFrame:
    """user_id, item_id, timestamp (microseconds), error (null where the row is good), copies; key and row for rejects.

    `items` has the valid item_id, each once.
    """
    clean = rows.select(
        columns.identifier("user_id").alias("user_id"),
        columns.identifier("item_id").alias("item_id"),
        microseconds(columns).alias("timestamp"),
        has_timestamp(columns).alias("has_timestamp"),
        whole(rows).alias("input"),
    )
    known = items.select("item_id", F.lit(True).alias("known"))
    judged = clean.join(known, on="item_id", how="left").withColumn("error", _error())
    bad = F.col("error").isNotNull()
    return judged.select(
        "user_id",
        "item_id",
        "timestamp",
        "error",
        F.lit(1).alias("copies"),
        F.when(bad, rejects_key("user_id", "item_id")).alias("key"),
        F.when(bad, row_json("input")).alias("row"),
    )


def remembered(rows: DataFrame, columns: Columns, forgotten: DataFrame) -> DataFrame:
    """The rows without those of users who asked to be forgotten: SHA-256 of their user_id is in `forgotten`."""
    hashes = F.broadcast(forgotten.select(F.col("user_hash").alias("_forgotten_hash")))
    return rows.join(hashes, F.sha2(columns.identifier("user_id"), 256) == F.col("_forgotten_hash"), "left_anti")


def rejects_key(*names: str) -> Column:
    """user_id/item_id, cut; an absent part stays empty."""
    return F.concat_ws("/", *(F.substring(F.coalesce(name, F.lit("")), 1, MAX_ID_CHARS) for name in names))


def has_timestamp(columns: Columns) -> Column:
    """False where the timestamp is null, NaN or empty."""
    value = quoted(columns.require("timestamp"))
    return value.isNotNull() & (F.trim(value.cast("string")) != "") & (value.cast("string") != "NaN")


def microseconds(columns: Columns) -> Column:
    """The timestamp in microseconds since 1970 UTC; null where it says nothing of the kind."""
    name = columns.require("timestamp")
    kind, value = columns.types[name], quoted(name)
    if isinstance(kind, DateType | TimestampNTZType | TimestampType):
        return F.unix_micros(value.cast("timestamp"))
    if isinstance(kind, StringType):
        text = F.trim(value)
        number = F.when(text.rlike(NUMBER), text).try_cast("decimal(38,9)")
        time = F.when(text.rlike(TIME), text).try_cast("timestamp")
        return F.coalesce(_from_number(number), F.unix_micros(time))
    if isinstance(kind, NumericType):
        return _from_number(value.try_cast("decimal(38,9)"))
    raise InputError(
        f"{columns.source}: column {name} (timestamp) holds {kind.simpleString()}, expected a number, a date, a time, "
        "or text that is one"
    )


def _from_number(value: Column) -> Column:
    scaled = F.floor(value / F.lit(1000))
    for bound, factor in reversed(MAGNITUDES):
        scaled = F.when(value < F.lit(int(bound)), F.floor(value * F.lit(int(factor)))).otherwise(scaled)
    return F.when(value >= 0, scaled).try_cast("bigint")


def _error() -> Column:
    """The first thing that is wrong with a row, in the order of INTERACTION_ERRORS."""
    tomorrow = F.unix_micros(F.current_timestamp()) + F.lit(DAY)
    longest = F.greatest(F.length("user_id"), F.length("item_id"))
    return (
        F.when(F.col("user_id").isNull(), "null_user_id")
        .when(F.col("item_id").isNull(), "null_item_id")
        .when(longest > MAX_ID_CHARS, "id_too_long")
        .when(F.col("known").isNull(), "unknown_item")
        .when(~F.col("has_timestamp"), "null_timestamp")
        .when(F.col("timestamp").isNull() | (F.col("timestamp") < 0), "bad_timestamp")
        .when(F.col("timestamp") > tomorrow, "future_timestamp")
    )
