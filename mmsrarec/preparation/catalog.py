"""Items: every row gets an error or none, and the good ones become the catalog. Pictures are not opened here."""

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql.types import BooleanType, NumericType, StringType

from mmsrarec.config import Config
from mmsrarec.errors import InputError
from mmsrarec.preparation.columns import Columns, quoted, row_json, whole
from mmsrarec.storage.inputs import FALSE, MAX_ID_CHARS, MAX_TEXT_CHARS, NUMBER, TRUE

CONTENT = ("title", "text", "image", "category", "available")


def checked(rows: DataFrame, columns: Columns, config: Config) -> DataFrame:
    """The columns of the catalog, error (null where the row is good), copies, key and row (for rejects).

    Identical rows count as one. Of rows that differ under one item_id the one that is available, has the longest text
    and a picture is kept (then the first in the order of the content); the others are duplicate_item_id.
    """
    _require_content(columns, config)
    clean = rows.select(
        columns.identifier("item_id").alias("item_id"),
        F.substring(columns.text("title"), 1, MAX_TEXT_CHARS).alias("title"),
        F.substring(_text(columns, config), 1, MAX_TEXT_CHARS).alias("text"),
        _address(columns).alias("image"),
        F.substring(columns.text("category"), 1, MAX_TEXT_CHARS).alias("category"),
        _available(columns).alias("available"),
        whole(rows).alias("input"),
    )
    return _without_duplicates(clean.withColumn("row", row_json("input")).withColumn("error", _error()))


def _without_duplicates(clean: DataFrame) -> DataFrame:
    distinct = clean.groupBy("item_id", *CONTENT, "error").agg(F.min("row").alias("row"), F.count("*").alias("copies"))
    best = (F.desc("available"), F.desc(F.length("text")), F.desc(F.col("image").isNotNull()))
    content = [F.asc(name) for name in ("title", "text", "image", "category")]
    # Rows in error stay apart, so that none of them pushes out a good one, and null ids do not meet in one window.
    place = F.row_number().over(Window.partitionBy("item_id", "error").orderBy(*best, *content))
    error = F.when(F.col("error").isNull() & (place > 1), "duplicate_item_id").otherwise(F.col("error"))
    return distinct.withColumn("error", error).select(
        "item_id",
        *CONTENT,
        "error",
        "copies",
        F.substring(F.coalesce("item_id", F.lit("")), 1, MAX_ID_CHARS).alias("key"),
        F.when(F.col("error").isNotNull(), F.col("row")).alias("row"),
    )


def _require_content(columns: Columns, config: Config) -> None:
    if "text" in config.inputs.model_fields_set:
        for name in config.inputs.text:
            columns.require(name)
    if not any(columns.theirs(name) for name in [*config.inputs.text, "image"]):
        columns.require("title")


def _text(columns: Columns, config: Config) -> Column:
    return F.nullif(F.concat_ws(". ", *(columns.text(name) for name in config.inputs.text)), F.lit(""))


def _address(columns: Columns) -> Column:
    """Where the picture is; bytes are not taken for one."""
    name = columns.theirs("image")
    if name and not isinstance(columns.types[name], StringType):
        raise InputError(
            f"{columns.source}: column {name} (image) holds {columns.types[name].simpleString()}, expected the address "
            "of a picture as text (a path, s3:// or https://)"
        )
    return columns.text("image")


def _available(columns: Columns) -> Column:
    """True, false, or null where it cannot be told; absent or empty means true."""
    name = columns.theirs("available")
    if name is None:
        return F.lit(True)
    kind, value = columns.types[name], quoted(name)
    if isinstance(kind, BooleanType):
        return F.coalesce(value, F.lit(True))
    if isinstance(kind, NumericType):
        return F.coalesce(F.isnan(value.cast("double")) | (value > 0), F.lit(True))
    if isinstance(kind, StringType):
        text = F.lower(F.trim(value))
        stock = F.when(text.rlike(NUMBER), text).try_cast("double") > 0
        blank = text.isNull() | (text == "")
        return F.when(blank | text.isin(*TRUE), True).when(text.isin(*FALSE), False).otherwise(stock)
    raise InputError(f"{columns.source}: column {name} (available) holds {kind.simpleString()}, expected true or false")


def _error() -> Column:
    return (
        F.when(F.col("item_id").isNull(), "null_item_id")
        .when(F.length("item_id") > MAX_ID_CHARS, "id_too_long")
        .when(F.col("available").isNull(), "bad_available")
    )
