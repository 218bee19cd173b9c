"""Which column of the user's files is which of ours, each with the reason; what stays open is a question.

The strongest sign of the item ids is that the ids of one file are found in the other. A name decides among columns
whose values fit; a column named as ours is taken at once, as build_cf takes it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import pyarrow as pa
import pyarrow.compute as pc

from mmsrarec.errors import ConfigError, InputError
from mmsrarec.intake import describe
from mmsrarec.intake.names import PART, WORD, place, score
from mmsrarec.intake.profile import Column
from mmsrarec.storage.inputs import listed, near

MARGIN = 0.15  # by which the best must be ahead of the next where a wrong guess would go unnoticed
SOME = 0.02  # of the ids are known at least, or they are others
FEW = 20  # different values; no shop of ours has so few users
TABLES = {"user_id": "interactions", "timestamp": "interactions"}
OPTIONAL = ("image", "available", "category", "description", "title")
ROLES = ("item_id", "user_id", "timestamp", *OPTIONAL)


@dataclass(frozen=True)
class Guess:
    ours: str
    table: str
    column: str
    why: str


@dataclass(frozen=True)
class Question:
    """What could not be guessed; candidates are columns, the likeliest first."""

    ours: str
    table: str
    why: str
    candidates: tuple[str, ...]
    required: bool = True

    @property
    def option(self) -> str:
        return f"{self.table}.item_id" if self.ours == "item_id" else self.ours


@dataclass
class Columns:
    """What there is to guess from. `opens` tells how many of some addresses are pictures under --images."""

    items: list[Column]
    taken: list[Column]
    given: dict[str, str]
    opens: Callable[[list[str]], float]

    def chosen(self, ours: str, table: str) -> Column | None:
        """The column that --column names, if it does."""
        found = {column.name: column for column in (self.items if table == "items" else self.taken)}
        named = self.given.get(f"{table}.{ours}", self.given.get(ours))
        return found.get(named) if named else None


def guess(columns: Columns) -> tuple[list[Guess], list[Question]]:
    """Every column that is told apart, and the questions that are left. What the user gave is not doubted."""
    _check_given(columns)
    found, questions = _item_ids(columns)
    used = {one.column for one in found if one.table == "interactions"}
    for decide in (_user_id, _timestamp):
        result = decide(columns, [column for column in columns.taken if column.name not in used])
        if isinstance(result, Guess):
            used.add(result.column)
            found.append(result)
        else:
            questions.append(result)
    left = [column for column in columns.items if column.name not in {one.column for one in found[:1]}]
    more, open_ = _content(columns, left)
    return found + more, questions + open_


def extra_text(columns: Columns, found: list[Guess]) -> list[str]:
    """Further item columns whose words say something about an item: a brand, tags, a color."""
    used = {one.column for one in found if one.table == "items"}
    fitting = (column for column in columns.items if column.name not in used and column.is_text and len(column.text))
    return [column.name for column in fitting if score("text", column.name) >= PART]


def _check_given(columns: Columns) -> None:
    both = [column.name for column in columns.items + columns.taken]
    known = [*ROLES, "items.item_id", "interactions.item_id"]
    for ours, theirs in columns.given.items():
        if ours not in known:
            raise ConfigError(
                f"--column {ours}={theirs}: not a column of ours{near(ours, known)} (ours: {listed(known)})"
            )
        table = ours.partition(".")[0] if "." in ours else TABLES.get(ours, "" if ours == "item_id" else "items")
        has = {"items": columns.items, "interactions": columns.taken}.get(table)
        names = both if has is None else [column.name for column in has]
        if theirs and theirs not in names:
            where = f"--{table} has" if table else "neither file has"
            says = "no column" if table else "a column"
            raise InputError(
                f"--column {ours}={theirs}: {where} {says} {theirs}{near(theirs, names)}; found {listed(names)}"
            )


@dataclass(frozen=True)
class _Pair:
    """The item ids of either file, were it these; known is the share of the interactions' ids that the items have."""

    item: Column
    taken: Column
    known: float
    score: float


def _item_ids(columns: Columns) -> tuple[list[Guess], list[Question]]:
    ends = [_candidates(columns, columns.items, "items"), _candidates(columns, columns.taken, "interactions")]
    pairs = sorted((_pair(*end) for end in product(*ends)), key=lambda pair: -pair.score)
    likely = [pair for pair in pairs if pair.score > pairs[0].score - MARGIN]
    settled = all(map(_settled, [columns] * 2, (columns.items, columns.taken), ("items", "interactions")))
    if not pairs or (not settled and (pairs[0].score < 0.5 or pairs[0].known < SOME)):
        return [], [
            Question(
                "item_id", table, "no ids of one file are found in the other", tuple(column.name for column in end)
            )
            for table, end in zip(("items", "interactions"), ends, strict=True)
            if columns.chosen("item_id", table) is None
        ]
    best = pairs[0]
    questions = []
    for table, names in (
        ("items", dict.fromkeys(pair.item.name for pair in likely)),
        ("interactions", dict.fromkeys(pair.taken.name for pair in likely)),
    ):
        if len(names) > 1:
            questions.append(Question("item_id", table, "the ids of several columns fit", tuple(names)))
    if questions:
        return [], questions
    whys = describe.item_ids(best.item, best.taken, best.known)
    return [
        Guess("item_id", table, column.name, "given by --column" if columns.chosen("item_id", table) else why)
        for table, column, why in zip(("items", "interactions"), (best.item, best.taken), whys, strict=True)
    ], []


def _candidates(columns: Columns, all_: list[Column], table: str) -> list[Column]:
    """What may be the item_id of a table: what was given, what is named as ours, else what looks like ids."""
    settled = _settled(columns, all_, table)
    if settled:
        return [settled]
    other = columns.given.get("user_id"), columns.given.get("timestamp")
    return [column for column in all_ if column.may_identify and column.name not in other and not _is_clock(column)]


def _settled(columns: Columns, all_: list[Column], table: str) -> Column | None:
    return columns.chosen("item_id", table) or next((column for column in all_ if column.name == "item_id"), None)


def _is_clock(column: Column) -> bool:
    return column.times > 0.9 and score("timestamp", column.name) > 0


def _pair(item: Column, taken: Column) -> _Pair:
    shared = pc.sum(pc.is_in(taken.distinct, value_set=item.ids)).as_py() or 0
    known = shared / max(len(taken.distinct), 1)
    # Few small numbers, such as ratings, are found among any numbers; ids take up much of the catalog.
    spread = min(1.0, shared / max(1, min(len(item.ids), len(taken.text))))
    alike = known * (0.5 + 0.5 * spread) * (1.0 if item.unique > 0.98 else 0.5)
    named = score("item_id", item.name) + score("item_id", taken.name)
    return _Pair(item, taken, known, alike + 0.3 * named)


def _user_id(columns: Columns, left: list[Column]) -> Guess | Question:
    chosen = columns.chosen("user_id", "interactions")
    if chosen:
        return Guess("user_id", "interactions", chosen.name, "given by --column")
    fitting = [column for column in left if column.may_identify and not _is_clock(column)]
    fitting = [column for column in left if column.name == "user_id"] or fitting
    named = _best({column: score("user_id", column.name) for column in fitting})
    if len(named) == 1:
        return Guess("user_id", "interactions", named[0].name, describe.user_id(named[0], by_name=True))
    repeating = [column for column in fitting if len(column.distinct) > FEW and column.unique < 0.95]
    if not named and len(repeating) == 1:
        return Guess("user_id", "interactions", repeating[0].name, describe.user_id(repeating[0], by_name=False))
    why = "several columns are named like users" if named else "no column is named like users"
    return Question("user_id", "interactions", why, _names(named or repeating or fitting or left))


def _timestamp(columns: Columns, left: list[Column]) -> Guess | Question:
    chosen = columns.chosen("timestamp", "interactions")
    if chosen:
        return Guess("timestamp", "interactions", chosen.name, "given by --column")
    points = {}
    for column in left:
        named = score("timestamp", column.name)
        if column.times > 0.5:
            points[column] = named + 0.5 * column.times + (0.2 if pa.types.is_temporal(column.kind) else 0)
        elif named >= WORD and column.all_numbers:
            points[column] = named  # a position in the order
    exact = {column: points[column] for column in points if column.name == "timestamp"}
    best = _best(exact or points, least=0.5)
    if len(best) == 1:
        return Guess("timestamp", "interactions", best[0].name, describe.timestamp(best[0]))
    why = "several columns hold times" if best else "no column holds times since 1990 that build_cf reads"
    return Question("timestamp", "interactions", why, _names(best or left))


def _best(points: dict[Column, float], least: float = WORD) -> list[Column]:
    """Those that are not clearly behind the first."""
    high = max(points.values(), default=0.0)
    return [column for column, value in points.items() if value >= least and value > high - MARGIN]


def _content(columns: Columns, left: list[Column]) -> tuple[list[Guess], list[Question]]:
    """Roles of the items' other columns; the clearest pair of a role and a column is settled first."""
    found, questions, used = [], [], set()
    open_ = [ours for ours in OPTIONAL if ours not in columns.given]
    for ours in OPTIONAL:
        if column := columns.chosen(ours, "items"):
            found.append(Guess(ours, "items", column.name, "given by --column"))
            used.add(column.name)
    while open_:
        scored = [
            (*_fit(columns, ours, column), ours, column) for ours in open_ for column in left if column.name not in used
        ]
        best = max((entry[:2] for entry in scored), default=(0.0, 0))
        if best[0] < 0.5:
            break
        ours = next(entry[2] for entry in scored if entry[:2] == best)
        alike = [entry[3] for entry in scored if entry[:2] == best and entry[2] == ours]
        open_.remove(ours)
        used |= {column.name for column in alike}
        if len(alike) > 1:
            questions.append(Question(ours, "items", "several columns fit as well", _names(alike), required=False))
        else:
            found.append(Guess(ours, "items", alike[0].name, describe.content(ours, alike[0], columns.opens)))
    return sorted(found, key=lambda one: OPTIONAL[::-1].index(one.ours)), questions


def _fit(columns: Columns, ours: str, column: Column) -> tuple[float, int]:
    """How well a column of the items fits, and, the higher the better, how usual its name is for it."""
    named, usual = score(ours, column.name), -place(ours, column.name)
    if column.name == ours:
        named += 1
    if not len(column.text):
        return 0.0, 0
    if ours == "image":
        looks = max(column.picture_names, columns.opens(column.text[:20].to_pylist()) if named else 0.0)
        return (named + 0.5 * looks if pa.types.is_string(column.raw.type) or column.is_text else 0.0), usual
    if ours == "available":
        return (named if column.says_available else 0.0), usual
    if ours == "category":
        return (named if column.unique < 0.9 or named > 1 else 0.0), usual
    if not column.is_text or column.picture_names > 0.5 or column.all_numbers or column.times > 0.9:
        return 0.0, 0
    lengths = (60, 10_000) if ours == "description" else (4, 150)
    alone = 0.5 if lengths[0] <= column.mean_length <= lengths[1] and column.unique > 0.5 else 0.0
    return max(named, alone), usual if named else round(column.mean_length) if ours == "description" else 0


def _names(columns: list[Column]) -> tuple[str, ...]:
    return tuple(column.name for column in columns)
