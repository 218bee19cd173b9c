"""What the gates judge: a staged night measured against histories, catalog, rules and the published night before.

Users are taken in ranges of their ids, so memory stays at one range whatever their number. Judges nothing.
"""

from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from mmsrarec.config import Config
from mmsrarec.errors import InputError
from mmsrarec.progress import Progress
from mmsrarec.recommendation.distribution import Distribution
from mmsrarec.storage import rules, tables
from mmsrarec.storage.spool import Spool

STAGED, VISIBLE = "staged_recommendations", "recommendations"
USERS = 16384  # read at a time
PAIR = ["user_id", "item_id"]


@dataclass
class Figures:
    """`night_before` and what compares with it are None and 0 on the first night.

    expected: users of histories that the rules serve; covered: those of them that have a list. malformed: lists whose
    ranks are not 1, 2, 3 …; seen, repeated, unavailable, excluded: rows. comparable: rows of users who had a list the
    night before; again: those of them that were on it. unchanged: readers see exactly this already.
    """

    run_date: str
    night_before: str | None
    expected: int
    covered: int
    lists: int = 0
    full: int = 0
    malformed: int = 0
    rows: int = 0
    seen: int = 0
    repeated: int = 0
    unavailable: int = 0
    excluded: int = 0
    comparable: int = 0
    again: int = 0
    unchanged: bool = True
    scores: Distribution = field(default_factory=Distribution)
    scores_before: Distribution = field(default_factory=Distribution)


def measure(config: Config, spool: Spool) -> Figures:
    """Of the night of run.date, whose rows go to `spool`, so that what was measured is what will be published.

    Raises InputError where nothing is staged for it.
    """
    root, run_date = config.lake.root, config.run.run_date
    of_date = ("run_date", "=", run_date)
    listed = tables.read(root, STAGED, ["user_id"], [of_date])["user_id"].unique()
    if not len(listed):
        raise InputError(f"{config.table(STAGED)}: no lists of {run_date}; run recommend first")
    serving = rules.load(config)
    served = serving.served(tables.read(root, "histories", ["user_id"]))["user_id"]
    covered = pc.sum(pc.is_in(served, value_set=listed)).as_py() or 0
    before = max((night for night in tables.partitions(root, VISIBLE) if night < run_date), default=None)
    found = Figures(run_date, before, len(served), covered)
    items = _Items.read(root, serving)
    with Progress("publish", len(listed), "users checked") as progress:
        for span in tables.spans("user_id", listed, USERS):
            staged = _ordered(tables.read(root, STAGED, filters=[of_date, *span]))
            spool.write(VISIBLE, staged)
            _lists(found, staged, config.recommend.top_k)
            _barred(found, staged, items, serving, tables.read(root, "histories", ["user_id", "item_ids"], span))
            if before:
                filters = [("run_date", "=", before), *span]
                _compare(found, staged, tables.read(root, VISIBLE, [*PAIR, "score"], filters))
            found.unchanged &= staged.equals(_ordered(tables.read(root, VISIBLE, filters=[of_date, *span])))
            progress.advance(found.lists - progress.done)
    return found


@dataclass(frozen=True)
class _Items:
    """Ids of the items that the shop has, and of those that may be listed."""

    available: pa.Array
    servable: pa.Array

    @classmethod
    def read(cls, root: str, serving: rules.Rules) -> "_Items":
        catalog = tables.read(root, "catalog", rules.COLUMNS)
        masks = rules.available(catalog), serving.servable(catalog)
        return cls(*(catalog["item_id"].filter(mask).combine_chunks() for mask in masks))


def _ordered(rows: pa.Table) -> pa.Table:
    return rows.sort_by([("user_id", "ascending"), ("rank", "ascending")])


def _lists(found: Figures, staged: pa.Table, top_k: int) -> None:
    counted = [("rank", "count"), ("rank", "max"), ("rank", "min"), ("rank", "count_distinct")]
    ranks = staged.group_by("user_id").aggregate(counted)
    length = ranks["rank_count"].to_numpy()
    whole = [ranks[f"rank_{name}"].to_numpy() == length for name in ("max", "count_distinct")]
    found.rows += staged.num_rows
    found.lists += len(length)
    found.full += int((length >= top_k).sum())
    found.malformed += int((~(whole[0] & whole[1] & (ranks["rank_min"].to_numpy() == 1))).sum())
    found.scores.add(staged["score"])


def _barred(found: Figures, staged: pa.Table, items: _Items, serving: rules.Rules, histories: pa.Table) -> None:
    pairs = staged.select(PAIR)
    lists = histories["item_ids"].combine_chunks()
    seen = pa.table([histories["user_id"].combine_chunks().take(pc.list_parent_indices(lists)), lists.flatten()], PAIR)
    available = pc.is_in(pairs["item_id"], value_set=items.available)
    barred = pc.and_not(available, pc.is_in(pairs["item_id"], value_set=items.servable))
    found.seen += pairs.join(seen, PAIR, join_type="left semi").num_rows
    found.repeated += pairs.num_rows - pairs.group_by(PAIR).aggregate([]).num_rows
    found.unavailable += pairs.num_rows - (pc.sum(available).as_py() or 0)
    found.excluded += (pc.sum(barred).as_py() or 0) + pairs.num_rows - serving.served(pairs).num_rows


def _compare(found: Figures, staged: pa.Table, before: pa.Table) -> None:
    pairs = staged.select(PAIR)
    found.comparable += pairs.join(before.select(["user_id"]), "user_id", join_type="left semi").num_rows
    found.again += pairs.join(before.select(PAIR), PAIR, join_type="left semi").num_rows
    found.scores_before.add(before["score"])
