"""Why a column is taken for one of ours, in words, for the comments of the configuration."""

from collections.abc import Callable
from datetime import UTC, datetime

import pyarrow.compute as pc

from mmsrarec.intake import values
from mmsrarec.intake.names import score
from mmsrarec.intake.profile import Column


def item_ids(item: Column, taken: Column, known: float) -> tuple[str, str]:
    """For the items and for the interactions."""
    once = "no value twice" if item.unique == 1 else f"{item.unique:.1%} of its values are there once"
    found = f"{known:.0%} of the ids in the interactions are in it"
    return _joined(_named("item_id", item), once, found), _joined(
        _named("item_id", taken), f"{known:.0%} of its ids are items"
    )


def user_id(column: Column, by_name: bool) -> str:
    often = f"{len(column.ids):,} different"
    return _joined(_named("user_id", column) if by_name else "the only other column that repeats as ids do", often)


def timestamp(column: Column) -> str:
    named = _named("timestamp", column)
    found = values.microseconds(column.raw)
    if column.times > 0.5:
        first, last = (datetime.fromtimestamp(time.as_py() / 1e6, UTC).date() for time in pc.min_max(found).values())
        return _joined(named, f"times from {first} to {last}")
    low, high = pc.min_max(column.text.cast("float64")).as_py().values()
    return _joined(named, f"numbers from {low:g} to {high:g}, taken as the order")


def content(ours: str, column: Column, opens: Callable[[list[str]], float]) -> str:
    named = _named(ours, column)
    empty = "" if column.filled == 1 else f"{1 - column.filled:.1%} of the items have none"
    if ours == "image":
        found = opens(column.text[:20].to_pylist())
        return _joined(named or "names of pictures", f"{found:.0%} of the first 20 open" if found else "", empty)
    if ours in ("available", "category"):
        return _joined(named, f"{len(column.distinct):,} different: {column.examples()}", empty)
    return _joined(named or "the column whose text fits best", f"{column.mean_length:.0f} characters on average", empty)


def _named(ours: str, column: Column) -> str:
    if column.name == ours:
        return "named as ours"
    return "named like it" if score(ours, column.name) else ""


def _joined(*parts: str) -> str:
    return "; ".join(part for part in parts if part)
