"""What of the histories a lake keeps, and how much of that is held out from all learning, by the protocol.

    the night, user_split   whole histories; of validation and test users (a hash) the last items are held out
    leave_one_out           test: whole histories, everybody's last items held out
                            fit: without those; the last ones of what is left are held out
    time_split              test: whole histories, all from the second cut time on held out
                            fit: what is before the second cut time; all from the first on held out

So what is learned for `test` may know what was asked in `fit`, and nothing in `fit` has seen what is asked in `test`.
"""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from mmsrarec.config import Config

BUCKETS = 1_000_000
MIN_HELD_OUT = 3  # interactions of a user some of whose last items may be held out; two always train
ROLES = {"fit": "validation", "test": "test"}


def cut(histories: DataFrame, config: Config) -> DataFrame:
    """The histories as this lake has them, with split and held_out; `histories` are persisted."""
    part = config.evaluation.part or "test"
    if config.evaluation.protocol == "leave_one_out":
        kept, held_out = _by_position(config, part)
        role = F.lit(ROLES[part])
    elif config.evaluation.protocol == "time_split":
        kept, held_out = _by_time(times(histories, config), part)
        role = F.lit(ROLES[part])
    else:
        role, kept = _role(config), F.size("item_ids")
        held_out = F.when(role == "train", 0).otherwise(_askable(kept, config))
    rows = histories.withColumns({"kept": kept.cast("int"), "held_out": held_out.cast("bigint")})
    shortened = {name: F.slice(name, F.lit(1), F.col("kept")) for name in ("item_ids", "timestamps")}
    split = F.when(F.col("held_out") > 0, role).otherwise("train")
    return rows.where(F.col("kept") > 0).withColumns({**shortened, "split": split}).drop("kept")


def times(histories: DataFrame, config: Config) -> tuple[int, int]:
    """The two cut times, in microseconds: `evaluation.time_quantiles` of the interactions lie before them."""
    taken = histories.select(F.explode("timestamps").alias("timestamp"))
    found = taken.agg(F.percentile("timestamp", list(config.evaluation.time_quantiles)).alias("cuts"))
    first, second = found.collect()[0]["cuts"] or (0, 0)
    return int(first), int(second)


def _role(config: Config) -> Column:
    """train | validation | test by a hash of (seed, user_id)."""
    place = F.pmod(F.xxhash64(F.lit(config.run.seed), F.lit("split"), "user_id"), F.lit(BUCKETS))
    test = round(config.build_cf.test_fraction * BUCKETS)
    validation = test + round(config.build_cf.validation_fraction * BUCKETS)
    return F.when(place < test, "test").when(place < validation, "validation").otherwise("train")


def _askable(length: Column, config: Config) -> Column:
    """How many of the last items of a history may be held out; whoever has fewer than three only trains."""
    most = F.least(F.lit(config.evaluation.positions), length - (MIN_HELD_OUT - 1))
    return F.when(length < MIN_HELD_OUT, 0).otherwise(most)


def _by_position(config: Config, part: str) -> tuple[Column, Column]:
    """Items kept, and how many of them are held out."""
    whole = F.size("item_ids")
    last = _askable(whole, config)
    return (whole, last) if part == "test" else (whole - last, _askable(whole - last, config))


def _by_time(cuts: tuple[int, int], part: str) -> tuple[Column, Column]:
    """The same by two cut times; an interaction at a cut time comes after it."""
    first, second = (_before(cut) for cut in cuts)
    whole, known = (F.size("item_ids"), second) if part == "test" else (second, first)
    return whole, whole - known


def _before(cut: int) -> Column:
    return F.size(F.filter("timestamps", lambda time: time < F.lit(cut)))
