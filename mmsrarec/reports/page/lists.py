"""Figures of the lists of a night, and how many items a user's list shares with the one of the night before."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmsrarec.config import Config
from mmsrarec.reports import story
from mmsrarec.reports.page.tally import BATCH_ROWS, Tally
from mmsrarec.storage import tables

BINS = 1000  # of the scores, which are between 0 and 1
COMPARED_USERS = 20_000  # drawn where there are more: 1 in 300 is then told from 0
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)


@dataclass(frozen=True)
class Lists:
    """`items` is a tally of the items on them, `sources` of what named these as candidates; `scores` are counts in
    BINS equal bins of [0, 1]."""

    run_date: str
    users: int
    rows: int
    items: pa.Table
    sources: dict[str, int]
    scores: np.ndarray
    mean: float

    def quantile(self, share: float) -> float:
        return float(np.searchsorted(self.scores.cumsum(), share * self.scores.sum()) / BINS)


@dataclass(frozen=True)
class Overlap:
    """users[k] is how many of the compared users have k items of their list again; `of` are all that could be."""

    run_date: str
    users: list[int]
    of: int

    @property
    def compared(self) -> int:
        return sum(self.users)

    @property
    def mean(self) -> float:
        return sum(kept * users for kept, users in enumerate(self.users)) / max(self.compared, 1)

    @property
    def unchanged(self) -> float:
        """Share of the lists that have all their items again."""
        return self.users[-1] / max(self.compared, 1)


def measure(config: Config, table: str, run_date: str) -> Lists:
    """One pass over the lists of a date."""
    scores, total, first, items, sources = np.zeros(BINS, np.int64), 0.0, 0, Tally(), Tally()
    columns, chosen = ["rank", "item_id", "source", "score"], [("run_date", "=", run_date)]
    for batch in tables.stream(config.lake.root, table, columns, BATCH_ROWS, chosen):
        found = batch["score"].to_numpy()
        scores += np.bincount(np.clip((found * BINS).astype(int), 0, BINS - 1), minlength=BINS)
        total += float(found.sum())
        first += pc.sum(pc.equal(batch["rank"], 1)).as_py() or 0
        items.add(batch["item_id"])
        sources.add(batch["source"])
    rows = int(scores.sum())
    return Lists(run_date, first, rows, items.table(), sources.counts(), scores, total / max(rows, 1))


def overlap(config: Config, night: story.Night) -> Overlap | None:
    """With the published night before; None on the first."""
    if night.before is None:
        return None
    drawn, of = _drawn(config, night)
    columns = ["user_id", "item_id"]
    pairs = [
        tables.read(config.lake.root, table, columns, [("run_date", "=", date), ("user_id", "in", drawn)])
        for table, date in ((night.table, night.run_date), (story.VISIBLE, night.before))
    ]
    again = pairs[0].join(pairs[1], columns, join_type="left semi")
    kept = again.group_by("user_id").aggregate([("item_id", "count")])["item_id_count"].to_numpy()
    users = np.bincount(kept, minlength=config.recommend.top_k + 1)
    users[0] = len(drawn) - len(kept)
    return Overlap(night.before, users.tolist(), of)


def _drawn(config: Config, night: story.Night) -> tuple[list[str], int]:
    """The users to compare, and how many have a list in both nights."""
    now, before = (
        tables.read(config.lake.root, table, ["user_id"], [("run_date", "=", date), ("rank", "=", 1)])["user_id"]
        for table, date in ((night.table, night.run_date), (story.VISIBLE, night.before))
    )
    both = now.filter(pc.is_in(now, value_set=before.combine_chunks())).combine_chunks()
    if len(both) <= COMPARED_USERS:
        return both.to_pylist(), len(both)
    ordered = both.take(pc.array_sort_indices(both))  # as it stands in the files may be another order every time
    places = np.random.default_rng(config.run.seed).choice(len(both), COMPARED_USERS, replace=False)
    return ordered.take(pa.array(places)).to_pylist(), len(both)
