"""Who is tested, on which item, against which others. Reads `histories` and `catalog`; knows no method.

Split by user: of a test user the last item is held out and the rest is its history. Two protocols share those users:
sampled ranks the target among `evaluate.negatives` uniform random items (the paper's 1 + 20), full ranks it among the
whole catalog, seen items out. The catalog here is what can be recommended at all: available, and let in by `rules:`
(quotas, which shape a list, are not applied). A test user is left out where no list could name its target: the target
is not in that catalog, or the user had taken it before.
"""

import hashlib
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from mmsrarec.config import Config
from mmsrarec.errors import InputError
from mmsrarec.evaluation.metrics import Ranks, ranks
from mmsrarec.storage import rules, tables

SPLIT = "user-split"
FULL = f"{SPLIT}/full"
USERS = pa.schema([("user_id", pa.string()), ("item_ids", pa.list_(pa.string()))])
CELLS = 8_000_000  # scores held at a time, users x items

Scorer = Callable[[pa.Table], np.ndarray]  # users [user_id, item_ids] -> scores [users, items]


@dataclass(frozen=True)
class TestSet:
    """The questions every method answers; row i of each field is user i.

    items: catalog, sorted; what follows are column numbers in it. users: [user_id, item_ids], the history without the
    target. targets: int [users]. negatives: int [users, negatives], -1 where the catalog has no more. left_out: users
    by the reason why they are not tested.
    """

    __test__ = False  # no test case, though pytest might think so

    items: list[str]
    users: pa.Table
    targets: np.ndarray
    negatives: np.ndarray
    left_out: dict[str, int]

    @cached_property
    def columns(self) -> dict[str, int]:
        return {item: column for column, item in enumerate(self.items)}


@dataclass(frozen=True)
class Outcome:
    """One method's scores of targets [users] and negatives [users, negatives] (NaN: padding), and its full ranks."""

    method: str
    seconds: float
    target: np.ndarray
    negatives: np.ndarray
    full: Ranks


def sampled_name(config: Config) -> str:
    """Name of the sampled protocol in the evaluation table."""
    return f"{SPLIT}/sampled-1+{config.evaluate.negatives}"


def load(config: Config) -> TestSet:
    """The test set of the lake's tables: the same users and negatives whatever the order of the tables' rows.

    It may be empty: a small shop has no test user. Raises InputError where there is no table of histories.
    """
    catalog = tables.read(config.lake.root, "catalog", rules.COLUMNS)
    items = sorted(catalog.filter(rules.load(config).servable(catalog))["item_id"].to_pylist())
    held_out = tables.read(config.lake.root, "histories", ["user_id", "item_ids"], [("split", "=", "test")]).to_pylist()
    if not tables.exists(config.lake.root, "histories"):
        raise InputError(f"{config.table('histories')}: no such table; run build_cf first")
    seed = config.run.seed
    rows = sorted(held_out, key=lambda row: (_number(seed, row["user_id"]), row["user_id"]))
    return _test_set(rows, items, config)


def candidates_table(test: TestSet) -> pa.Table:
    """The sampled protocol's questions, as the table evaluation_candidates."""
    rows = [
        {
            "user_id": user,
            "target_item_id": test.items[target],
            "negative_item_ids": [test.items[column] for column in negatives if column >= 0],
        }
        for user, target, negatives in zip(test.users["user_id"].to_pylist(), test.targets, test.negatives, strict=True)
    ]
    return tables.from_rows("evaluation_candidates", sorted(rows, key=lambda row: row["user_id"]))


def run(method: str, scorer: Scorer, test: TestSet) -> Outcome:
    """Ask a method that scores the whole catalog, a batch of users at a time, under both protocols."""
    started = time.monotonic()
    batch = max(1, CELLS // len(test.items))
    parts = [_rank(scorer, test, slice(first, first + batch)) for first in range(0, len(test.users), batch)]
    target, negatives, above, tied, others = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Outcome(method, time.monotonic() - started, target, negatives, Ranks(above, tied, others))


def _rank(scorer: Scorer, test: TestSet, batch: slice) -> tuple[np.ndarray, ...]:
    """Of some users: scores of targets and negatives, then the fields of Ranks over the full catalog."""
    users = test.users.slice(batch.start, batch.stop - batch.start)
    targets, negatives = test.targets[batch], test.negatives[batch]
    scores = np.array(scorer(users), float)
    rows = np.arange(len(users))
    target = scores[rows, targets]
    sampled = np.where(negatives >= 0, scores[rows[:, None], negatives], np.nan)
    for row, history in enumerate(users["item_ids"].to_pylist()):
        scores[row, [test.columns[item] for item in history if item in test.columns]] = np.nan
    scores[rows, targets] = np.nan
    full = ranks(target, scores)
    return target, sampled, full.above, full.tied, full.others


def _test_set(rows: list[dict], items: list[str], config: Config) -> TestSet:
    columns = {item: column for column, item in enumerate(items)}
    left_out: Counter = Counter()
    users: list[str] = []
    histories, targets, negatives = [], [], []
    for row in rows:
        reason = _unfit(row["item_ids"], columns)
        if reason:
            left_out[reason] += 1
        elif len(users) < config.evaluate.max_users:
            drawn = _negatives(row, columns, config)
            users.append(row["user_id"])
            histories.append(row["item_ids"][:-1])
            targets.append(columns[row["item_ids"][-1]])
            negatives.append(drawn + [-1] * (config.evaluate.negatives - len(drawn)))
    table = pa.table([users, histories], schema=USERS)
    return TestSet(items, table, np.array(targets), np.array(negatives), dict(left_out))


def _unfit(item_ids: list[str], columns: dict[str, int]) -> str | None:
    """Why this user cannot be tested; see the module's docstring."""
    if len(item_ids) < 2:
        return "no_history"
    if item_ids[-1] not in columns:
        return "target_unavailable"
    if item_ids[-1] in item_ids[:-1]:
        return "target_seen_before"
    taken = sum(item in columns for item in set(item_ids))
    return "nothing_to_rank_against" if taken == len(columns) else None


def _negatives(row: dict, columns: dict[str, int], config: Config) -> list[int]:
    """Uniform without replacement from the catalog less the user's whole history, target included."""
    taken = {columns[item] for item in row["item_ids"] if item in columns}
    generator = np.random.default_rng([_number(config.run.seed, row["user_id"]), 1])
    size = min(config.evaluate.negatives + len(taken), len(columns))
    drawn = generator.choice(len(columns), size=size, replace=False)
    return [int(column) for column in drawn if column not in taken][: config.evaluate.negatives]


def _number(seed: int, user_id: str) -> int:
    """A number that depends on the seed and the user alone, so neither other users nor row order move a draw."""
    return int.from_bytes(hashlib.blake2b(f"{seed}:{user_id}".encode(), digest_size=8).digest(), "big")
