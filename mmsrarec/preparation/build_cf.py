"""The stage build_cf: read, judge, then histories, catalog, co-occurrence and transitions, each in one commit.

Rejected rows go to `rejects` first and the error budget is checked before anything is published.
"""

from importlib.metadata import version

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from mmsrarec.config import Config
from mmsrarec.errors import InputError
from mmsrarec.preparation import catalog, cooccurrence, histories, interactions
from mmsrarec.preparation.columns import Columns
from mmsrarec.progress import Progress
from mmsrarec.storage import inputs, runs
from mmsrarec.storage.runs import Stage
from mmsrarec.storage.spark import alive, input_version, read_input, read_table, readable, session, write_table

STEPS = 6


def build_cf(config: Config, run_id: str) -> None:
    """Write catalog, histories, item_cooccurrence and item_transitions."""
    with runs.stage(config, "build_cf", run_id) as stage, stage.progress(STEPS, "steps") as progress:
        stage.versions = {name: version(name) for name in ("pyspark", "delta-spark")}
        with alive():
            spark = session(config)
            try:
                _build(spark, stage, progress)
            finally:
                spark.catalog.clearCache()


def _build(spark: SparkSession, stage: Stage, progress: Progress) -> None:
    config = stage.config
    item_rows = read_input(spark, config, "items")
    taken_rows = read_input(spark, config, "interactions")
    inputs.check_mapping(config, item_rows.columns, taken_rows.columns)
    for name in ("items", "interactions"):
        stage.tables_read[f"inputs.{name}"] = input_version(spark, getattr(config.inputs, name))
    items = _items(item_rows, config, stage)
    progress.advance(note="items")
    users = _histories(taken_rows, items, config, stage)
    progress.advance(note="interactions")
    write_table(users, config, "histories")
    progress.advance(note="histories")
    _write_catalog(items, users, config)
    progress.advance(note="catalog")
    _write_neighbors(users, config, stage, progress)


def _items(rows: DataFrame, config: Config, stage: Stage) -> DataFrame:
    """The good items, each once."""
    columns = Columns(rows, config, "items")
    checked = catalog.checked(rows, columns, config).persist()
    good, identical = _judge(checked, inputs.ITEM_ERRORS, columns.source, stage)
    stage.rows_out += good
    stage.notes["identical_item_rows_dropped"] = identical
    return checked.where(F.col("error").isNull())


def _histories(rows: DataFrame, items: DataFrame, config: Config, stage: Stage) -> DataFrame:
    """A history per user."""
    columns = Columns(rows, config, "interactions")
    kept = interactions.remembered(rows, columns, read_table(rows.sparkSession, config, "forgotten"))
    checked = interactions.checked(kept, columns, items).persist()
    _judge(checked, inputs.INTERACTION_ERRORS, columns.source, stage)
    users = histories.build(checked.where(F.col("error").isNull()), config).persist()
    per_split = users.groupBy("split").agg(
        F.count("*").alias("users"),
        F.sum(F.size("item_ids")).alias("kept"),
        F.sum("duplicates").alias("duplicates"),
        F.sum("repeats").alias("repeats"),
    )
    found = per_split.collect()
    checked.unpersist()
    stage.rows_out += sum(row["kept"] for row in found)
    stage.notes["duplicate_interactions_dropped"] = sum(row["duplicates"] for row in found)
    stage.notes["repeated_interactions_dropped"] = sum(row["repeats"] for row in found)
    stage.notes["users"] = {row["split"]: row["users"] for row in found}
    return users


def _judge(checked: DataFrame, messages: dict[str, str], source: str, stage: Stage) -> tuple[int, int]:
    """Put the rows in error into `rejects`; how many are good, and how many identical ones were dropped.

    Raises InputError where none is good, BudgetError where too many are not.
    """
    per_error = checked.groupBy("error").agg(F.count("*").alias("rows"), F.sum("copies").alias("copies"))
    with readable(source):
        counts = {row["error"]: (row["rows"], row["copies"]) for row in per_error.collect()}
    if not counts:
        raise InputError(f"{source}: the table is empty")
    stage.rows_in += sum(copies for _, copies in counts.values())
    identical = sum(copies - rows for rows, copies in counts.values())
    good, _ = counts.pop(None, (0, 0))
    for error, (rows, _) in counts.items():
        stage.count_rejected(error, rows)
    if counts:
        _write_rejects(checked.where(F.col("error").isNotNull()), messages, stage)
    stage.check_budget()
    if not good:
        raise InputError(f"{source}: no row is valid; the reasons are in {stage.config.table('rejects')}")
    return good, identical


def _write_rejects(rejected: DataFrame, messages: dict[str, str], stage: Stage) -> None:
    message = F.create_map(*(F.lit(text) for pair in messages.items() for text in pair))[F.col("error")]
    rows = rejected.select(
        F.lit(stage.run_id).alias("run_id"),
        F.lit(stage.name).alias("stage"),
        "key",
        "error",
        message.alias("message"),
        "row",
    )
    write_table(rows, stage.config, "rejects", mode="append")


def _write_catalog(items: DataFrame, users: DataFrame, config: Config) -> None:
    counts = cooccurrence.interactions(histories.training(users))
    counted = items.join(counts, on="item_id", how="left")
    write_table(counted.withColumn("interactions", F.coalesce("interactions", F.lit(0))), config, "catalog")


def _write_neighbors(users: DataFrame, config: Config, stage: Stage, progress: Progress) -> None:
    """item_cooccurrence and item_transitions, and in the notes what max_history left out."""
    latest = cooccurrence.bounded(histories.training(users), config)
    bounds = latest.agg(F.count_if(F.col("cut") > 0).alias("users"), F.sum("cut").alias("interactions")).collect()[0]
    stage.notes["users_bounded"], stage.notes["interactions_bounded"] = bounds["users"], bounds["interactions"]
    pairs = cooccurrence.pairs(latest, config).persist()
    near = cooccurrence.cooccurrence(pairs, cooccurrence.interactions(latest), config)
    write_table(near, config, "item_cooccurrence")
    progress.advance(note="item_cooccurrence")
    write_table(cooccurrence.transitions(pairs, config), config, "item_transitions")
    progress.advance(note="item_transitions")
