"""Bad rows around a good shop, as many as are wanted, all from a seed; each knows what may become of it.

    rows = make(10_000, seed=1, known=["item-0001", ...])
    write(folder, rows)              adds them, and the pictures that they name, to the shop in `folder`

An outcome is PROCESSED, or the reason under which the row must be in `rejects`. A row is known again by its number: the
column `row` of the files says it, and so does the end of every id that is fit to be one (`mug #17`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import hostile_pictures
import hostile_texts as texts
import pyarrow as pa
import pyarrow.parquet as pq

PROCESSED = "processed"
NOTHING = "nothing_to_summarize"
ITEMS = ("row", "item_id", "title", "description", "image", "category", "available")
INTERACTIONS = ("row", "user_id", "item_id", "timestamp")
SHARE_OF_ITEMS = 0.6
# Kinds of ids that Parquet and CSV say alike: to line breaks and to bytes that are no text each has its own way.
ALIKE = {f"id {kind}" for kind in ("queries", "paths", "letters", "markup", "chat tokens", "long")}
NOW = 1_760_000_000
Value = str | bytes | None


@dataclass(frozen=True)
class Row:
    """A row of the table `items` or `interactions`; `picture` is the file that it names, if any."""

    table: str
    number: int
    kind: str
    values: dict[str, Value]
    outcomes: frozenset[str]
    picture: hostile_pictures.Picture | None = None


def make(count: int, seed: int, known: list[str]) -> list[Row]:
    """`known` are ids of good items, which bad interactions may name."""
    random = Random(seed)
    items = list(_items(random, round(count * SHARE_OF_ITEMS)))
    fit = [row.values["item_id"] for row in items if row.kind in ALIKE]
    return [*items, *_interactions(random, count, len(items), [*known, *fit])]


def write(folder: Path, rows: list[Row]) -> None:
    """items.parquet with them added, and interactions.csv beside interactions.parquet."""
    hostile_pictures.write(folder / "pictures", [row.picture for row in rows if row.picture])
    of_table = {name: [row for row in rows if row.table == name] for name in ("items", "interactions")}
    good = pq.read_table(folder / "items.parquet").to_pylist()
    lines = [*good, *(row.values | {"row": str(row.number)} for row in of_table["items"])]
    pq.write_table(
        pa.table({name: _text([line.get(name) for line in lines]) for name in ITEMS}), folder / "items.parquet"
    )
    good = pq.read_table(folder / "interactions.parquet").to_pylist()
    lines = [*good, *(row.values | {"row": str(row.number)} for row in of_table["interactions"])]
    with open(folder / "interactions.csv", "wb") as file:
        file.write(",".join(INTERACTIONS).encode() + b"\n")
        for line in lines:
            file.write(b",".join(_quoted(line.get(name)) for name in INTERACTIONS) + b"\n")


def _items(random: Random, count: int) -> Iterator[Row]:
    pictures = hostile_pictures.endless(random)
    twin: dict[str, Value] = {}
    for number in range(count):
        place, turn = number % 8, number // 8
        good: dict[str, Value] = {
            "item_id": f"plain #{number}",
            "title": f"Red mug {number}",
            "description": "For the office.",
        }
        if place < 3:
            yield _with_picture(number, next(pictures), good)
        elif place < 5:
            kind, text = texts.text(random, 2 * turn + place - 3)
            given = good | {random.choice(["title", "description", "category"]): text}
            if turn % 3 == 0:
                given = {"item_id": good["item_id"], "title": text}
            yield Row("items", number, f"text {kind}", given, frozenset({PROCESSED, NOTHING}))
        elif place < 7:
            kind, start = texts.start_of_id(2 * turn + place - 5)
            yield Row(
                "items",
                number,
                f"id {kind}",
                good | {"item_id": texts.joined(start, f" #{number}")},
                frozenset({PROCESSED}),
            )
        elif turn % 2 == 0:
            kind, values, outcome = _bad_item(random, turn // 2, number)
            twin = good | values
            yield Row("items", number, kind, twin, frozenset({outcome}))
        elif twin.get("item_id") and str(twin["item_id"]).startswith("twin"):
            shorter = twin | {"description": random.choice(["", "For", None])}
            yield Row("items", number, "id there twice", shorter, frozenset({"duplicate_item_id"}))
        else:
            near = texts.near_duplicate(turn // 2, f"Café Mug #{number}")
            yield Row("items", number, "id nearly there twice", good | {"item_id": near}, frozenset({PROCESSED}))


def _with_picture(number: int, picture: hostile_pictures.Picture, good: dict[str, Value]) -> Row:
    """Every third has no text, so that only the picture could speak for it."""
    given = {"item_id": good["item_id"]} if number % 3 == 0 else good
    outcomes = {PROCESSED}
    if number % 3 == 0:
        opens = hostile_pictures.OPENED in picture.outcomes
        outcomes = {PROCESSED, NOTHING} if opens else {NOTHING}
    values = given | {"image": picture.address}
    return Row("items", number, f"picture {picture.kind}", values, frozenset(outcomes), picture)


def _bad_item(random: Random, turn: int, number: int) -> tuple[str, dict[str, Value], str]:
    unlike = random.choice(["perhaps", "１", "NaN", "0x1", "-", "\0", "true false", "∞", "1e", "[1]", "=1+1", "١"])
    return [
        ("id empty", {"item_id": ""}, "null_item_id"),
        ("id twice", {"item_id": f"twin #{number}"}, PROCESSED),
        ("id null", {"item_id": None}, "null_item_id"),
        ("id extremely long", {"item_id": "x" * random.choice([1025, 4096, 100_000])}, "id_too_long"),
        ("id twice", {"item_id": f"twin #{number}"}, PROCESSED),
        ("available odd", {"available": unlike}, "bad_available"),
        ("id long in bytes", {"item_id": "𝕏" * 1100}, "id_too_long"),
    ][turn % 7]


def _interactions(random: Random, count: int, first: int, known: list[Value]) -> Iterator[Row]:
    for number in range(first, count):
        place, turn = number % 6, number // 6
        kind, start = texts.start_of_id(turn)
        user = texts.joined(start, f" #{number}")
        good: dict[str, Value] = {
            "user_id": f"guest #{number}",
            "item_id": random.choice(known),
            "timestamp": str(NOW + random.randrange(10**6)),
        }
        if place == 0:
            kind, values, outcome = f"user {kind}", {"user_id": user}, PROCESSED
        elif place == 1:
            kind, values, outcome = f"item {kind}", {"item_id": texts.joined(start, " ?")}, "unknown_item"
        elif place == 2:
            kind, values, outcome = _bad_key(random, turn)
        else:
            stamp, outcome = texts.timestamp(random, 3 * turn + place - 3)
            kind, values = f"time {outcome}", {"timestamp": stamp}
        yield Row("interactions", number, kind, good | values, frozenset({outcome}))


def _bad_key(random: Random, turn: int) -> tuple[str, dict[str, Value], str]:
    return [
        ("user empty", {"user_id": ""}, "null_user_id"),
        ("user extremely long", {"user_id": "y" * random.choice([1025, 4096, 100_000])}, "id_too_long"),
        ("item empty", {"item_id": ""}, "null_item_id"),
        ("item extremely long", {"item_id": "../" * 2000}, "id_too_long"),
        ("item in other letters", {"item_id": "іtem-0001"}, "unknown_item"),  # the first letter is Cyrillic
        ("item in capitals", {"item_id": "ITEM-0001"}, "unknown_item"),
    ][turn % 6]


def raw(value: Value) -> bytes | None:
    """As it is in a file; a surrogate half becomes the bytes that no UTF-8 has."""
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value


def _text(values: list[Value]) -> pa.Array:
    """A column of text that holds these bytes, valid or not."""
    return pa.array([raw(value) for value in values], pa.binary()).view(pa.string())


def _quoted(value: Value | int) -> bytes:
    if value is None or value == "":
        return b""
    found = raw(str(value) if isinstance(value, int) else value) or b""
    return b'"' + found.replace(b'"', b'""') + b'"'
