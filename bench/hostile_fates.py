"""What became of every bad row, by the tables of the lake: processed, rejected with a reason, or lost."""

import re
from collections import Counter
from collections.abc import Iterable

from hostile_rows import PROCESSED, Row

from mmsrarec.storage import tables

LOST = "lost"
_ROW = re.compile(r'"row":"(\d+)"')  # the first column of the files
_ID = re.compile(r"#(\d+)\Z")


def fates(root: str, rows: list[Row]) -> dict[int, str]:
    """Number of a row -> PROCESSED, the reason under which it is in `rejects`, or LOST.

    Where summarize_items has not run, an item of the catalog counts as processed.
    """
    found = {number: PROCESSED for number in _kept(root)}
    for reject in tables.read(root, "rejects").to_pylist():
        mark = _ROW.search(reject["row"] or "") if reject["stage"] == "build_cf" else _ID.search(reject["key"])
        if mark:
            found[int(mark[1])] = reject["error"]
    return {row.number: found.get(row.number, LOST) for row in rows}


def unexpected(rows: list[Row], found: dict[int, str]) -> list[tuple[Row, str]]:
    """Rows that became something that they may not become."""
    return [(row, found[row.number]) for row in rows if found[row.number] not in row.outcomes]


def counts(found: dict[int, str]) -> dict[str, int]:
    return dict(Counter(found.values()).most_common())


def _kept(root: str) -> Iterable[int]:
    """Numbers of the items and of the users that went on."""
    items = "item_keywords" if tables.exists(root, "item_keywords") else "catalog"
    for table, column in ((items, "item_id"), ("histories", "user_id")):
        for value in tables.read(root, table, [column])[column].to_pylist():
            if mark := _ID.search(value):
                yield int(mark[1])
