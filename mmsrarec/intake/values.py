"""Rows of the user's files judged by Arrow as preparation/ judges them by Spark; tests/test_check.py compares the two.

Every function takes an array of one column and knows nothing of files.
"""

import json
import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from mmsrarec.intake.sources import as_text
from mmsrarec.storage.inputs import DAY, FALSE, MAGNITUDES, MAX_ID_CHARS, MAX_TEXT_CHARS, NUMBER, TIME, TRUE

types = pa.types
# What pandas and Spark both read; what only Spark does (2026-1-5, a zone by its name) is read one by one. To Spark, a
# zone comes after seconds only.
_ISO = r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?(Z|[+-]\d{2}:?\d{2})?)?)?$"
_ODD = re.compile(
    r"(\d{4})(?:-(\d{1,2})(?:-(\d{1,2})(?:[ T](?:(\d{1,2})(?::(\d{1,2})(?::(\d{1,2})(?:\.(\d*))?\s*(\S+)?)?)?)?)?)?)?"
)
_OFFSET = re.compile(r"(?:UTC|GMT|UT)?([+-])(\d{1,2}):?(\d{2})?")


def text(values: pa.Array) -> pa.Array:
    """Any type as text: 1.0 is "1", a list is joined by commas, what has parts is JSON."""
    kind = values.type
    if types.is_dictionary(kind):
        return text(values.dictionary_decode())
    if types.is_floating(kind):
        return _number_text(values.cast(pa.float64()))
    if types.is_decimal(kind):
        return pc.replace_substring_regex(values.cast(pa.string()), r"\.0*$", "")
    if _is_plain_list(kind):
        return pa.array([_joined(row) for row in values.to_pylist()], pa.string())
    if types.is_nested(kind):
        rows = values.to_pylist()
        return pa.array([row if row is None else json.dumps(row, default=str) for row in rows], pa.string())
    return as_text(values)


def identifier(values: pa.Array) -> pa.Array:
    """An id; null where it is null, empty or not a number at all."""
    return _filled(text(values))


def trimmed(values: pa.Array) -> pa.Array:
    """Text without blanks around it; null where it is absent or blank."""
    return _filled(pc.utf8_slice_codeunits(pc.utf8_trim(text(values), " "), 0, MAX_TEXT_CHARS))


def long(ids: pa.Array) -> pa.Array:
    """Which ids are longer than an id may be."""
    return pc.fill_null(pc.greater(pc.utf8_length(ids), MAX_ID_CHARS), False)


def is_time(kind: pa.DataType) -> bool:
    """May a timestamp be of this type?"""
    known = types.is_temporal(kind) and not types.is_time(kind) and not types.is_duration(kind)
    return known or is_number(kind) or is_string(kind)


def is_number(kind: pa.DataType) -> bool:
    return types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)


def is_string(kind: pa.DataType) -> bool:
    if types.is_dictionary(kind):
        return is_string(kind.value_type)
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


def has_timestamp(values: pa.Array) -> pa.Array:
    """False where the timestamp is null, NaN or empty."""
    if is_string(values.type):
        return pc.and_(pc.is_valid(trimmed(values)), pc.fill_null(pc.not_equal(text(values), "NaN"), False))
    return pc.invert(pc.is_null(values, nan_is_null=True))


def microseconds(values: pa.Array) -> pa.Array:
    """The time since 1970 UTC; null where it says nothing of the kind."""
    kind = values.type
    if types.is_timestamp(kind) and kind.unit == "ns":
        return from_number(values.cast(pa.int64()).cast(pa.float64(), safe=False))
    if types.is_temporal(kind):
        return values.cast(pa.timestamp("us", getattr(kind, "tz", None)), safe=False).cast(pa.int64())
    if not is_string(kind):
        return from_number(values.cast(pa.float64(), safe=False))
    words = trimmed(values)
    numbers = pc.if_else(pc.match_substring_regex(words, NUMBER), words, None).cast(pa.float64())
    iso = pc.match_substring_regex(words, _ISO)
    found = pc.coalesce(from_number(numbers), _from_iso(pc.if_else(iso, words, None)))
    odd = pc.and_(pc.is_null(found), pc.fill_null(pc.match_substring_regex(words, TIME), False))
    return pc.coalesce(found, _from_odd(words, odd)) if pc.any(odd).as_py() else found


def from_number(values: pa.Array) -> pa.Array:
    """Seconds, milli-, micro- or nanoseconds by magnitude; null below 0."""
    scaled = pc.divide(values, 1e3)
    for bound, factor in reversed(MAGNITUDES):
        scaled = pc.if_else(pc.less(values, bound), pc.multiply(values, factor), scaled)
    usable = pc.and_(pc.greater_equal(values, 0.0), pc.less(scaled, 9e18))
    return pc.floor(pc.if_else(usable, scaled, None)).cast(pa.int64(), safe=False)


def available(values: pa.Array) -> pa.Array | None:
    """True, false, or null where it cannot be told; None where the type says nothing of the kind."""
    kind = values.type
    if types.is_boolean(kind):
        return pc.fill_null(values, True)
    if is_number(kind):
        number = values.cast(pa.float64(), safe=False)
        return pc.fill_null(pc.or_(pc.is_nan(number), pc.greater(number, 0.0)), True)
    if not is_string(kind):
        return None
    words = pc.utf8_lower(trimmed(values))
    numbers = pc.if_else(pc.match_substring_regex(words, NUMBER), words, None).cast(pa.float64())
    said = pc.case_when(
        pc.make_struct(_among(words, TRUE), _among(words, FALSE)), pa.scalar(True), pa.scalar(False),
        pc.greater(numbers, 0.0),
    )  # fmt: skip
    return pc.if_else(pc.is_null(words), True, said)


def first_of(conditions: dict[str, pa.Array]) -> pa.Array:
    """Per row the name of the first condition that holds, else null."""
    masks = [pc.fill_null(mask, False) for mask in conditions.values()]
    return pc.case_when(pc.make_struct(*masks), *(pa.scalar(name) for name in conditions))


def tomorrow() -> int:
    return int(datetime.now(UTC).timestamp() * 1e6) + DAY


def _among(words: pa.Array, known: tuple[str, ...]) -> pa.Array:
    return pc.is_in(words, value_set=pa.array(known))


def _is_plain_list(kind: pa.DataType) -> bool:
    listed = types.is_list(kind) or types.is_large_list(kind)
    return listed and (is_string(kind.value_type) or types.is_integer(kind.value_type))


def _joined(row: list | None) -> str | None:
    return None if row is None else ", ".join(str(value) for value in row if value is not None)


def _filled(words: pa.Array) -> pa.Array:
    return pc.if_else(pc.equal(words, ""), None, words)


def _number_text(values: pa.Array) -> pa.Array:
    """Columns of whole numbers with gaps arrive as doubles: 1.0 means "1"."""
    values = pc.if_else(pc.is_nan(values), None, values)
    whole = pc.and_(pc.equal(values, pc.floor(values)), pc.less(pc.abs(values), 2.0**53))
    integers = pc.if_else(whole, values, 0.0).cast(pa.int64())
    return pc.if_else(whole, integers.cast(pa.string()), values.cast(pa.string()))


def _from_iso(words: pa.Array) -> pa.Array:
    parsed = pd.to_datetime(words.to_pandas(), format="ISO8601", utc=True, errors="coerce")
    return pa.array(parsed.dt.tz_localize(None), pa.timestamp("us"), from_pandas=True, safe=False).cast(pa.int64())


def _from_odd(words: pa.Array, odd: pa.Array) -> pa.Array:
    known: dict[str | None, int | None] = {None: None}
    for word in pc.unique(words.filter(odd)).to_pylist():
        known[word] = _odd_time(word)
    return pa.array([known.get(word) for word in words.to_pylist()], pa.int64())


def _odd_time(word: str) -> int | None:
    found = _ODD.fullmatch(word)
    if not found:
        return None
    *parts, fraction, zone = found.groups()
    year, month, day, hour, minute, second = (int(part) if part else number < 3 for number, part in enumerate(parts))
    try:
        moment = datetime(year, month, day, hour, minute, second, int((fraction or "")[:6].ljust(6, "0")), _zone(zone))
    except (ValueError, KeyError, OSError):
        return None
    return round((moment - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1))


def _zone(name: str | None) -> tzinfo:
    if name in (None, "Z", "UTC", "GMT"):
        return UTC
    offset = _OFFSET.fullmatch(name)
    if not offset:
        return ZoneInfo(name)
    sign, hours, minutes = offset.groups()
    return timezone((-1 if sign == "-" else 1) * timedelta(hours=int(hours), minutes=int(minutes or 0)))
