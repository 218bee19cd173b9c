"""The stage build_cf: read, judge, then histories, catalog, co-occurrence and transitions, each in one commit.

Rejected rows go to `rejects` first and the error budget is checked before anything is published.
"""

from importlib.metadata import version

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from mmsrarec.config import Config
from mmsrarec.errors import InputError
from mmsrarec.preparation import catalog, cooccurrence, histories, interactions
from mmsrarec.preparation.columns import Columns, check_mapping
from mmsrarec.progress import Progress
from mmsrarec.storage import runs
from mmsrarec.storage.runs import Stage
from mmsrarec.storage.spark import read_input, readable, session, write_table

STEPS = 6


def build_cf(config: Config, run_id: str) -> None:
    """Write catalog, histories, item_cooccurrence and item_transitions."""
    with runs.stage(config, "build_cf", run_id) as stage, Progress("build_cf", STEPS, "steps") as progress:
        stage.versions = {name: version(name) for name in ("pyspark", "delta-spark")}
        spark = session(config)
        items = read_input(spark, config.inputs.items, "inputs.items")
        taken = read_input(spark, config.inputs.interactions, "inputs.interactions")
        check_mapping(config, items, taken)
        with readable("inputs.items or inputs.interactions"):
            catalog_rows = _items(items, config, stage)
            progress.advance(note="items")
            user_rows = _histories(taken, catalog_rows, config, stage)
            progress.advance(note="interactions")
        write_table(user_rows, config, "histories")
        progress.advance(note="histories")
        _write_catalog(catalog_rows, user_rows, config)
        progress.advance(note="catalog")
        _write_neighbors(user_rows, config, stage, progress)
        spark.catalog.clearCache()


def _items(rows: DataFrame, config: Config, stage: Stage) -> DataFrame:
    """The good items. Raises InputError where there is none."""
    columns = Columns(rows, config, "inputs.items")
    checked = catalog.checked(rows, columns, config).persist()
    counts = {
        row["error"]: (row["rows"], row["copies"])
        for row in checked.groupBy("error").agg(F.count("*").alias("rows"), F.sum("copies").alias("copies")).collect()
    }
    stage.rows_in += sum(copies for _, copies in counts.values())
    _reject(checked, {error: rows for error, (rows, _) in counts.items()}, catalog.MESSAGES, stage)
    stage.notes["identical_item_rows_dropped"] = sum(copies - rows for rows, copies in counts.values())
    if not counts:
        raise InputError(f"{columns.source}: the table is empty")
    stage.check_budget()
    if None not in counts:
        raise InputError(f"{columns.source}: no row is valid; the reasons are in {config.table('rejects')}")
    stage.rows_out += counts[None][0]
    return checked.where(F.col("error").isNull())


def _histories(rows: DataFrame, items: DataFrame, config: Config, stage: Stage) -> DataFrame:
    """A history per user. Raises InputError where there is none."""
    columns = Columns(rows, config, "inputs.interactions")
    checked = interactions.checked(rows, columns, items).persist()
    counts = {row["error"]: row["count"] for row in checked.groupBy("error").count().collect()}
    stage.rows_in += sum(counts.values())
    _reject(checked, counts, interactions.MESSAGES, stage)
    if not counts:
        raise InputError(f"{columns.source}: the table is empty")
    stage.check_budget()
    if None not in counts:
        raise InputError(f"{columns.source}: no row is valid; the reasons are in {config.table('rejects')}")
    users = histories.build(checked.where(F.col("error").isNull()), config).persist()
    totals = users.agg(
        F.sum("duplicates").alias("duplicates"),
        F.sum("repeats").alias("repeats"),
        F.sum(F.size("item_ids")).alias("kept"),
    ).first()
    stage.rows_out += totals["kept"]
    stage.notes["duplicate_interactions_dropped"] = totals["duplicates"]
    stage.notes["repeated_interactions_dropped"] = totals["repeats"]
    stage.notes["users"] = {row["split"]: row["count"] for row in users.groupBy("split").count().collect()}
    checked.unpersist()
    return users


def _reject(checked: DataFrame, counts: dict, messages: dict[str, str], stage: Stage) -> None:
    """Put the rows in error into `rejects`."""
    errors = {error: rows for error, rows in counts.items() if error is not None}
    for error, rows in errors.items():
        stage.count_rejected(error, rows)
    if not errors:
        return
    message = F.create_map(*(F.lit(text) for pair in messages.items() for text in pair))[F.col("error")]
    rejected = checked.where(F.col("error").isNotNull()).select(
        F.lit(stage.run_id).alias("run_id"),
        F.lit(stage.name).alias("stage"),
        "key",
        "error",
        message.alias("message"),
        "row",
    )
    write_table(rejected, stage.config, "rejects", mode="append")


def _write_catalog(items: DataFrame, users: DataFrame, config: Config) -> None:
    counts = cooccurrence.interactions(histories.training(users))
    counted = items.join(counts, on="item_id", how="left")
    write_table(counted.withColumn("interactions", F.coalesce("interactions", F.lit(0))), config, "catalog")


def _write_neighbors(users: DataFrame, config: Config, stage: Stage, progress: Progress) -> None:
    """item_cooccurrence and item_transitions, and in the notes what max_history left out."""
    latest = cooccurrence.bounded(histories.training(users), config)
    bounds = latest.agg(F.count_if(F.col("cut") > 0).alias("users"), F.sum("cut").alias("interactions")).first()
    stage.notes["users_bounded"], stage.notes["interactions_bounded"] = bounds["users"], bounds["interactions"]
    pairs = cooccurrence.pairs(latest, config).persist()
    near = cooccurrence.cooccurrence(pairs, cooccurrence.interactions(latest), config)
    write_table(near, config, "item_cooccurrence")
    progress.advance(note="item_cooccurrence")
    write_table(cooccurrence.transitions(pairs, config), config, "item_transitions")
    progress.advance(note="item_transitions")
