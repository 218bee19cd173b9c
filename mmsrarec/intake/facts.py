"""What the user's two tables hold, read in one stream each: good and bad rows, pictures, times, histories.

Rows are judged as build_cf judges them; memory is that of the ids. Only the first `most` rows of a table are read.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmsrarec.config import Config
from mmsrarec.errors import InputError
from mmsrarec.intake import values
from mmsrarec.intake.sources import Table
from mmsrarec.storage import inputs

CONTENT = ("title", "text", "image", "category", "available")


@dataclass
class Rows:
    """Of either table. `missing` counts nulls by our name of the column; `examples` has a key of a row per error."""

    columns: dict[str, str]
    read: int = 0
    complete: bool = True
    ragged: int = 0
    errors: Counter = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    missing: Counter = field(default_factory=Counter)

    def count(self, errors: pa.Array, keys: pa.Array) -> None:
        for found in pc.value_counts(errors.drop_null()).to_pylist():
            error, rows = found["values"], found["counts"]
            self.errors[error] += rows
            self.examples.setdefault(error, keys[pc.index(errors, error).as_py()].as_py() or "")


@dataclass
class Items(Rows):
    """ids: of the good rows, each once. bare: neither text nor picture. pictures: addresses, as many as were read."""

    ids: pa.Array = field(default_factory=lambda: pa.nulls(0, pa.string()))
    identical: int = 0
    textless: int = 0
    bare: int = 0
    unavailable: int = 0
    categories: set[str] = field(default_factory=set)
    pictures: pa.ChunkedArray = field(default_factory=lambda: pa.chunked_array([], pa.string()))


@dataclass
class Interactions(Rows):
    """Of the good rows: lengths of the users' histories, times (microseconds), items that someone took."""

    lengths: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    times: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    taken: int = 0
    dropped: int = 0


def read_items(table: Table, config: Config, most: int) -> Items:
    """Raises InputError where a column is missing or of a type that says nothing of the kind."""
    columns = item_columns(table, config)
    facts, ids, pictures = Items(columns), [], []
    for batch in _streamed(table, columns, most, facts):
        clean = _clean_items(batch, config)
        facts.count(clean["error"], clean["item_id"])
        good = clean.filter(pc.is_null(clean["error"]))
        ids.append(good["item_id"])
        pictures.append(good["image"])
        _count_content(facts, good, batch)
    known = pa.chunked_array(ids, pa.string())
    facts.pictures = pa.chunked_array(pictures, pa.string()).drop_null()
    counted = pc.value_counts(known)
    facts.ids = counted.field("values")
    twice = facts.ids.filter(pc.greater(counted.field("counts"), 1))
    if len(twice):
        _count_duplicates(facts, table, config, most, twice)
    return facts


def item_columns(table: Table, config: Config) -> dict[str, str]:
    """Our name -> theirs, of all that build_cf reads."""
    names = table.schema.names
    mapped = inputs.mapping(config, "items")
    columns = {"item_id": inputs.required(config, "items", "item_id", names)}
    if "text" in config.inputs.model_fields_set:
        for name in config.inputs.text:
            inputs.required(config, "items", name, names)
    wanted = ["title", "image", "category", "available", *config.inputs.text]
    columns |= {ours: found for ours in wanted if (found := inputs.theirs(ours, names, mapped))}
    if not any(name in columns for name in [*config.inputs.text, "image"]):
        inputs.required(config, "items", "title", names)
    _check_types(table, columns)
    return columns


def interaction_columns(table: Table, config: Config) -> dict[str, str]:
    """Our name -> theirs."""
    names, ours = table.schema.names, ("user_id", "item_id", "timestamp")
    columns = {name: inputs.required(config, "interactions", name, names) for name in ours}
    _check_types(table, columns)
    return columns


def _check_types(table: Table, columns: dict[str, str]) -> None:
    """As build_cf refuses them."""
    for ours, name in columns.items():
        kind = table.schema.field(name).type
        problem = ""
        if ours in ("item_id", "user_id") and pa.types.is_nested(kind):
            problem = "expected text or numbers"
        elif ours == "image" and not values.is_string(kind):
            problem = "expected the address of a picture as text (a path, s3:// or https://)"
        elif ours == "available" and values.available(pa.nulls(0, kind)) is None:
            problem = "expected true or false"
        elif ours == "timestamp" and not values.is_time(kind):
            problem = "expected a number, a date, a time, or text that is one"
        if problem:
            raise InputError(f"{table.source}: column {name} ({ours}) holds {kind}, {problem}")


def _streamed(table: Table, columns: dict[str, str], most: int, facts: Rows) -> Iterator[pa.Table]:
    """Batches under our names."""
    for batch in table.batches(list(dict.fromkeys(columns.values())), most):
        facts.read += batch.num_rows
        plain = {ours: _decoded(batch[name]) for ours, name in columns.items()}
        yield pa.table(plain)
    facts.ragged, facts.complete = table.ragged, facts.read < most
    if not facts.read:
        raise InputError(f"{table.source}: the table is empty")


def _decoded(column: pa.Array) -> pa.Array:
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _clean_items(batch: pa.Table, config: Config) -> pa.Table:
    """item_id, CONTENT and error, in the order in which build_cf judges."""
    batch = batch.combine_chunks()
    ids = values.identifier(_column(batch, "item_id"))
    empty = pa.nulls(batch.num_rows, pa.string())
    texts = [values.trimmed(_column(batch, name)) for name in config.inputs.text if name in batch.column_names]
    # Not null_handling="skip", which loses rows where all are null.
    ended = [pc.fill_null(pc.binary_join_element_wise(text, "", ". "), "") for text in texts]
    text = pc.binary_join_element_wise(*ended, "") if ended else empty
    found = values.available(_column(batch, "available")) if "available" in batch.column_names else None
    available = found if found is not None else pa.array([True] * batch.num_rows)
    error = values.first_of(
        {"null_item_id": pc.is_null(ids), "id_too_long": values.long(ids), "bad_available": pc.is_null(available)}
    )
    optional = {
        name: values.trimmed(_column(batch, name)) if name in batch.column_names else empty
        for name in ("title", "image", "category")
    }
    text = pc.if_else(pc.equal(text, ""), None, text)
    return pa.table({"item_id": ids, **optional, "text": text, "available": available, "error": error})


def _column(batch: pa.Table, name: str) -> pa.Array:
    column = batch[name]
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _count_content(facts: Items, good: pa.Table, batch: pa.Table) -> None:
    facts.bare += pc.sum(pc.and_(pc.is_null(good["text"]), pc.is_null(good["image"]))).as_py() or 0
    facts.unavailable += pc.sum(pc.invert(good["available"])).as_py() or 0
    facts.categories |= set(pc.unique(good["category"]).to_pylist()) - {None}
    facts.textless += good["text"].null_count
    for name in facts.columns:
        if name not in ("item_id", "available"):
            facts.missing[name] += values.trimmed(_column(batch.combine_chunks(), name)).null_count


def _count_duplicates(facts: Items, table: Table, config: Config, most: int, twice: pa.Array) -> None:
    """Rows that differ under one id are all rejected but one; identical ones are one row. A second reading."""
    again = []
    for batch in _streamed(table, facts.columns, most, Rows(facts.columns)):
        clean = _clean_items(batch, config)
        again.append(clean.filter(pc.and_(pc.is_null(clean["error"]), pc.is_in(clean["item_id"], twice))))
    rows = pa.concat_tables(again).drop_columns("error")
    distinct = rows.group_by(["item_id", *CONTENT]).aggregate([])
    facts.identical = rows.num_rows - distinct.num_rows
    rejected = distinct.num_rows - len(twice)
    if rejected:
        facts.errors["duplicate_item_id"] = rejected
        counted = pc.value_counts(distinct["item_id"])
        differing = counted.field("values").filter(pc.greater(counted.field("counts"), 1))
        facts.examples["duplicate_item_id"] = differing[0].as_py()


def read_interactions(table: Table, config: Config, items: Items | None, most: int) -> Interactions:
    """`items` None: which items are known is not judged, since not all of them were read."""
    columns = interaction_columns(table, config)
    facts, kept = Interactions(columns), []
    for batch in _streamed(table, columns, most, facts):
        clean = _clean_interactions(batch.combine_chunks(), items)
        facts.count(clean["error"], pc.binary_join_element_wise(
            pc.fill_null(clean["user_id"], ""), pc.fill_null(clean["item_id"], ""), "/"
        ))  # fmt: skip
        kept.append(clean.filter(pc.is_null(clean["error"])).drop_columns("error"))
    _count_histories(facts, pa.concat_tables(kept), config)
    return facts


def _clean_interactions(batch: pa.Table, items: Items | None) -> pa.Table:
    users, taken = (values.identifier(_column(batch, name)) for name in ("user_id", "item_id"))
    raw = _column(batch, "timestamp")
    times = values.microseconds(raw)
    conditions = {
        "null_user_id": pc.is_null(users),
        "null_item_id": pc.is_null(taken),
        "id_too_long": pc.or_(values.long(users), values.long(taken)),
        "unknown_item": pc.invert(pc.is_in(taken, value_set=items.ids)) if items else pa.array([False] * len(taken)),
        "null_timestamp": pc.invert(values.has_timestamp(raw)),
        "bad_timestamp": pc.or_(pc.is_null(times), pc.fill_null(pc.less(times, 0), False)),
        "future_timestamp": pc.greater(times, values.tomorrow()),
    }
    return pa.table({"user_id": users, "item_id": taken, "timestamp": times, "error": values.first_of(conditions)})


def _count_histories(facts: Interactions, good: pa.Table, config: Config) -> None:
    users = good["user_id"].combine_chunks().dictionary_encode()
    taken = good["item_id"].combine_chunks().dictionary_encode()
    facts.times = good["timestamp"].to_numpy()
    facts.taken = len(taken.dictionary)
    pairs = {"user": users.indices, "item": taken.indices}
    if config.build_cf.repeats == "all":
        pairs["time"] = good["timestamp"]
    takes = pa.table(pairs).group_by(list(pairs)).aggregate([])
    facts.dropped = good.num_rows - takes.num_rows
    facts.lengths = np.bincount(takes["user"].to_numpy(), minlength=len(users.dictionary))
