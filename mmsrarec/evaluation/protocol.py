"""Who is tested, on which item, against which others. Reads `histories` and `catalog`; knows no method.

A question is a user, the history before a held-out item, and that item, the target. Of a user with several held-out
items each is a question of its own, in turn: the history grows. How much is held out, and of whom, `histories` says
(build_cf cut it by `evaluation.protocol`). Every question is put twice: sampled ranks the target among
`evaluation.negatives` uniform random items (the paper's 1 + 20), full ranks it among the whole catalog, seen items out.
The catalog here is what can be recommended at all: available, and let in by `rules:` (quotas, which shape a list, are
not applied). A question is left out where no list could name its target: the target is not in that catalog, or the user
had taken it before.
"""

import hashlib
from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmsrarec.collaborative import embed
from mmsrarec.collaborative.moments import timed
from mmsrarec.config import Config
from mmsrarec.errors import InputError
from mmsrarec.storage import rules, tables

NIGHT = "user_split"  # the cut of a lake that was made for no protocol
USERS = pa.schema([("user_id", pa.string()), ("item_ids", pa.list_(pa.string()))])
SECOND = 1_000_000  # of timestamps


@dataclass(frozen=True)
class TestSet:
    """The questions every method answers; row i of each field is question i, a user's questions stand together.

    items: catalog, sorted; what follows are column numbers in it. users: [user_id, item_ids], the history before the
    target. targets: int [questions]. negatives: int [questions, negatives], -1 where the catalog has no more. left_out:
    questions by the reason why they are not asked. gaps: seconds since the event before, NaN where there is no clock.
    """

    __test__ = False  # no test case, though pytest might think so

    items: list[str]
    users: pa.Table
    targets: np.ndarray
    negatives: np.ndarray
    left_out: dict[str, int]
    gaps: np.ndarray | None = None

    @cached_property
    def columns(self) -> dict[str, int]:
        return {item: column for column, item in enumerate(self.items)}

    @cached_property
    def owner(self) -> np.ndarray:
        """The number of each question's user, from 0 in the order of the rows."""
        return self.users["user_id"].combine_chunks().dictionary_encode().indices.to_numpy()

    @cached_property
    def lengths(self) -> np.ndarray:
        """Of the histories."""
        return pc.list_value_length(self.users["item_ids"]).to_numpy()

    @cached_property
    def seen(self) -> embed.Sequences:
        """The histories as column numbers."""
        return embed.encode(self.users["item_ids"], pa.array(self.items))

    @property
    def asked_users(self) -> int:
        return int(self.owner.max(initial=-1)) + 1


def cut_name(config: Config) -> str:
    """How the histories were cut, as the evaluation table has it."""
    return (config.evaluation.protocol or NIGHT).replace("_", "-")


def full_name(config: Config) -> str:
    return f"{cut_name(config)}/full"


def sampled_name(config: Config) -> str:
    """Name of the sampled protocol in the evaluation table."""
    return f"{cut_name(config)}/sampled-1+{config.evaluation.negatives}"


def load(config: Config, split: str = "test", most: int | None = None) -> TestSet:
    """The questions to the users of a split of the lake, at most `most` users (evaluation.max_users): the same users
    and negatives whatever the order of the tables' rows.

    It may be empty: a small shop has no test user. Raises InputError where there is no table of histories.
    """
    catalog = tables.read(config.lake.root, "catalog", rules.COLUMNS)
    items = sorted(catalog.filter(rules.load(config).servable(catalog))["item_id"].to_pylist())
    columns = ["user_id", "item_ids", "timestamps", "held_out", "split"]
    found = tables.read(config.lake.root, "histories", columns, [("split", "=", split)])
    if not tables.exists(config.lake.root, "histories"):
        raise InputError(f"{config.table('histories')}: no such table; run build_cf first")
    found = found.set_column(3, "held_out", pa.array(embed.held_out(found)))
    rows = sorted(found.to_pylist(), key=lambda row: (_number(config.run.seed, row["user_id"]), row["user_id"]))
    return _test_set(rows, items, config, most or config.evaluation.max_users)


def candidates_table(test: TestSet) -> pa.Table:
    """The sampled protocol's questions, as the table evaluation_candidates."""
    asked = zip(test.users["user_id"].to_pylist(), test.lengths.tolist(), test.targets, test.negatives, strict=True)
    rows = [
        {
            "user_id": user,
            "position": position,
            "target_item_id": test.items[target],
            "negative_item_ids": [test.items[column] for column in negatives if column >= 0],
        }
        for user, position, target, negatives in asked
    ]
    return tables.from_rows("evaluation_candidates", sorted(rows, key=lambda row: (row["user_id"], row["position"])))


def _test_set(rows: list[dict], items: list[str], config: Config, most: int) -> TestSet:
    columns = {item: column for column, item in enumerate(items)}
    left_out: Counter = Counter()
    clock = timed(np.array([max(row["timestamps"] or [0]) for row in rows], np.int64))
    asked: list[tuple[str, list[str], int, list[int], float]] = []
    users = 0
    for row in rows:
        fit, length = [], len(row["item_ids"])
        for position in range(max(length - row["held_out"], 0), length)[: config.evaluation.positions]:
            if reason := _unfit(row["item_ids"], position, columns):
                left_out[reason] += 1
            else:
                fit.append(position)
        if not fit or users == most:
            continue
        users += 1
        for position in fit:
            drawn = _negatives(row, position, columns, config)
            drawn += [-1] * (config.evaluation.negatives - len(drawn))
            target = columns[row["item_ids"][position]]
            gap = _gap(row["timestamps"], position) if clock else np.nan
            asked.append((row["user_id"], row["item_ids"][:position], target, drawn, gap))
    names, histories, targets, negatives, gaps = zip(*asked, strict=True) if asked else ((),) * 5
    table = pa.table([names, histories], schema=USERS)
    shape = (len(asked), config.evaluation.negatives)
    drawn_items = np.array(negatives, np.int64).reshape(shape)
    return TestSet(items, table, np.array(targets, np.int64), drawn_items, dict(left_out), np.array(gaps, float))


def _unfit(item_ids: list[str], position: int, columns: dict[str, int]) -> str | None:
    """Why the item at this position cannot be asked for; see the module's docstring."""
    if position == 0:
        return "no_history"
    if item_ids[position] not in columns:
        return "target_unavailable"
    if item_ids[position] in item_ids[:position]:
        return "target_seen_before"
    taken = sum(item in columns for item in set(item_ids))
    return "nothing_to_rank_against" if taken == len(columns) else None


def _gap(timestamps: list[int] | None, position: int) -> float:
    return np.nan if timestamps is None else (timestamps[position] - timestamps[position - 1]) / SECOND


def _negatives(row: dict, position: int, columns: dict[str, int], config: Config) -> list[int]:
    """Uniform without replacement from the catalog less the user's whole history, what came later included."""
    taken = {columns[item] for item in row["item_ids"] if item in columns}
    turn = position - (len(row["item_ids"]) - row["held_out"])
    generator = np.random.default_rng([_number(config.run.seed, row["user_id"]), 1 + turn])
    size = min(config.evaluation.negatives + len(taken), len(columns))
    drawn = generator.choice(len(columns), size=size, replace=False)
    return [int(column) for column in drawn if column not in taken][: config.evaluation.negatives]


def _number(seed: int, user_id: str) -> int:
    """A number that depends on the seed and the user alone, so neither other users nor row order move a draw."""
    return int.from_bytes(hashlib.blake2b(f"{seed}:{user_id}".encode(), digest_size=8).digest(), "big")
