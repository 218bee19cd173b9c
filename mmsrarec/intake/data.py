"""Findings about the user's two tables and their pictures: from facts to what a person should do."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np

from mmsrarec.collaborative import moments
from mmsrarec.config import Config
from mmsrarec.errors import InputError, StoreError
from mmsrarec.intake import dialect, facts, sources
from mmsrarec.intake.facts import Interactions, Items, Rows
from mmsrarec.intake.findings import Finding, Level
from mmsrarec.intake.sources import Table
from mmsrarec.storage import inputs
from mmsrarec.storage.objects import PictureError, Pictures

MOST_ROWS = 3_000_000  # of a table that are read
PICTURES = 60  # that are opened
FEW_TESTED = 100  # test users; with fewer the evaluation's intervals say little
SHORT = 2  # interactions; below, recommend marks a list as short_history
REMEDIES = {
    "null_item_id": "fill or remove these rows",
    "null_user_id": "fill or remove these rows; events before a login may carry a session's id",
    "id_too_long": "is inputs.columns right? An id is short",
    "bad_available": "write true or false, or leave it empty for true",
    "duplicate_item_id": "keep one row per item; build_cf keeps the one that is available, with the longest text",
    "unknown_item": "add these items, or leave their interactions out",
    "null_timestamp": "fill or remove these rows",
    "bad_timestamp": "write times as 2026-01-31T12:00:00Z or as seconds since 1970",
    "future_timestamp": "mend the clock or the unit; numbers are seconds, milli-, micro- or nanoseconds since 1970",
}


def check(config: Config) -> Iterator[Finding]:
    """All findings about inputs.*; what cannot be read is an error and ends what rests on it."""
    opened = {}
    for name in ("items", "interactions"):
        try:
            opened[name] = Table(config, name)
        except InputError as error:
            yield _refused(f"inputs.{name}", error)
    if len(opened) < 2:
        return
    try:
        inputs.check_mapping(config, *(opened[name].schema.names for name in ("items", "interactions")))
    except InputError as error:
        yield _refused("inputs.columns", error)
        return
    items = taken = None
    try:
        items = facts.read_items(opened["items"], config, MOST_ROWS)
    except InputError as error:
        yield _refused("inputs.items", error, _other_delimiter(opened["items"]))
    else:
        yield from about_items(opened["items"], config, items)
        yield from about_pictures(config, items)
    try:
        known = items if items and items.complete else None
        taken = facts.read_interactions(opened["interactions"], config, known, MOST_ROWS)
    except InputError as error:
        yield _refused("inputs.interactions", error, _other_delimiter(opened["interactions"]))
    else:
        yield from about_interactions(opened["interactions"], config, taken, items)
    if items and taken:
        yield from about_rejects(config, items, taken)


def about_items(table: Table, config: Config, items: Items) -> Iterator[Finding]:
    where, good = "inputs.items", len(items.ids)
    yield from _about_rows(table, items, inputs.ITEM_ERRORS)
    if not good:
        return
    if items.bare:
        yield Finding(
            "warning", where, f"{_share(items.bare, good)} items have neither text nor picture; they get no keywords",
            "add text or pictures, or leave these items out",
        )  # fmt: skip
    elif items.textless:
        yield Finding("ok", where, f"{_share(items.textless, good)} items have no text; their pictures speak for them")
    if items.unavailable == good:
        yield Finding(
            "error", where, "no item is available, so nothing can be listed", "is `available` the right column?"
        )
    elif items.unavailable:
        yield Finding("ok", where, f"{_share(items.unavailable, good)} items are not available and will not be listed")
    empty = [f"{name} {rows / items.read:.1%}" for name, rows in items.missing.items() if rows]
    if empty:
        yield Finding("ok", where, f"empty: {', '.join(empty)}")
    unknown = sorted({*config.rules.categories, *config.rules.quotas} - items.categories)
    if unknown and items.complete:
        yield Finding("warning", "rules", f"no item has the categories {inputs.listed(unknown)}", "mend their spelling")


def about_interactions(table: Table, config: Config, taken: Interactions, items: Items | None) -> Iterator[Finding]:
    where = "inputs.interactions"
    yield from _about_rows(table, taken, inputs.INTERACTION_ERRORS)
    if not len(taken.lengths):
        return
    if items and not items.complete:
        yield Finding("warning", where, "not judged: whether every item is known, since not all items were read")
    yield from _about_times(taken)
    yield from _about_histories(config, taken)
    if items and items.complete:
        never = len(items.ids) - taken.taken
        yield Finding("ok", where, f"{taken.taken:,} items were taken; {_share(never, len(items.ids))} never were")


def about_pictures(config: Config, items: Items) -> Iterator[Finding]:
    """A sample of them opened by the code that opens them in a run."""
    where, good = "inputs.images", max(len(items.ids), 1)
    if not config.summarize_items.use_images or not len(items.pictures):
        said = "is switched off" if len(items.pictures) else "no item names a picture; keywords come from texts alone"
        remedy = "" if len(items.pictures) or not config.inputs.images else "name the column: inputs.columns.image"
        level: Level = "warning" if remedy else "ok"
        yield Finding(level, where if not len(items.pictures) else "summarize_items.use_images", said, remedy)
        return
    size = min(PICTURES, len(items.pictures))
    chosen = np.random.default_rng(config.run.seed).choice(len(items.pictures), size, replace=False)
    try:
        reasons, examples = _opened(Pictures(config), items.pictures.take(np.sort(chosen)).to_pylist())
    except (InputError, StoreError) as error:
        yield _refused(where, error)
        return
    have = f"{_share(len(items.pictures), good)} items have one"
    if not reasons:
        yield Finding("ok", where, f"{have}; all of {size} that were opened are fine")
    for reason, count in reasons.most_common():
        level = "error" if reasons.total() == size else "warning"
        said = f"{have}; of {size} that were opened {count} are {reason}, for example {examples[reason][:200]}"
        yield Finding(level, where, said, _picture_remedy(config, reason))


def _opened(pictures: Pictures, addresses: list[str]) -> tuple[Counter[str], dict[str, str]]:
    """How many do not open for which reason, and the first of each."""
    reasons: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for address in addresses:
        try:
            pictures.open(address)
        except PictureError as error:
            reasons[error.reason] += 1
            examples.setdefault(error.reason, f"{address}: {error}")
    return reasons, examples


def about_rejects(config: Config, items: Items, taken: Interactions) -> Iterator[Finding]:
    """What build_cf will do with the bad rows of both."""
    rejected, rows = items.errors.total() + taken.errors.total(), items.read + taken.read
    budget = config.run.error_budget
    first = items.errors.total() > budget * items.read
    for name, good in (("items", items.ids), ("interactions", taken.lengths)):
        if not len(good):
            yield Finding("error", f"inputs.{name}", "no row is valid", "see the reasons, and inputs.columns")
    if first or rejected > budget * rows:
        yield Finding(
            "error", "run.error_budget", f"{_share(rejected, rows)} rows would be rejected; {budget:g} is allowed",
            "mend the input; or raise run.error_budget where these rows may go",
        )  # fmt: skip


def _about_rows(table: Table, read: Rows, messages: dict[str, str]) -> Iterator[Finding]:
    where = f"inputs.{table.name}"
    mapped = ", ".join(ours if ours == theirs else f"{ours}={theirs}" for ours, theirs in read.columns.items())
    if read.complete:
        yield Finding("ok", where, f"{read.read:,} rows ({table.kind}); {mapped}")
    else:
        total = table.rows()
        of = f" of {total:,}" if total else ""
        yield Finding("ok", where, f"only the first {read.read:,}{of} rows were looked at ({table.kind}); {mapped}")
    if read.ragged:
        yield Finding(
            "warning", where, f"{read.ragged:,} rows have more or fewer values than the header and were left out",
            f"put values that contain the delimiter into quotes, or see inputs.csv.{table.name}",
        )  # fmt: skip
    for error, rows in read.errors.most_common():
        example = f", for example {read.examples[error][:80]!r}" if read.examples.get(error) else ""
        said = f"{_share(rows, read.read)} rows: {messages[error]}{example}; each goes to rejects as {error}"
        yield Finding("warning", where, said, REMEDIES[error])


def _about_times(taken: Interactions) -> Iterator[Finding]:
    where, times = "inputs.interactions", taken.times
    first, last = times.min(), times.max()
    if first == last:
        yield Finding(
            "warning", where, f"every interaction has the same time, {_day(first)}: histories have no order",
            "map inputs.columns.timestamp to when it happened, or to the position in the user's history",
        )  # fmt: skip
    elif last < moments.CLOCK:
        said = f"numbers from {first / 1e6:g} to {last / 1e6:g}, taken as positions in the order"
        yield Finding("ok", where, said)
    else:
        early = int((times < moments.CLOCK).sum())
        yield Finding("ok", where, f"times from {_day(first)} to {_day(last)}")
        if early:
            yield Finding(
                "warning", where, f"{_share(early, len(times))} times are before 1973, beside others of {_day(last)}",
                "a clock that was not set, or numbers in another unit: mend or remove these rows",
            )  # fmt: skip


def _about_histories(config: Config, taken: Interactions) -> Iterator[Finding]:
    where, lengths, options = "inputs.interactions", taken.lengths, config.build_cf
    users, short = len(lengths), int((lengths < SHORT).sum())
    low, middle, high = (int(value) for value in np.quantile(lengths, (0, 0.5, 1)))
    said = f"{users:,} users with {low:,} to {high:,} items, {middle:,} in the middle"
    said += f"; {_share(taken.dropped, len(taken.times))} rows are repeats and dropped" if taken.dropped else ""
    cut = int((lengths > options.max_history).sum())
    said += (
        f"; {cut:,} have more than build_cf.max_history={options.max_history}, of which the latest count" if cut else ""
    )
    yield Finding("ok", where, said)
    if short:
        level: Level = "warning" if short > users / 2 else "ok"
        remedy = "these lists rest on little: are users the right column, or too few days in the file?"
        said = f"{_share(short, users)} users have fewer than {SHORT} items; their lists are marked short_history"
        yield Finding(level, where, said, remedy if level == "warning" else "")
    tested = int((lengths > 2).sum() * options.test_fraction)
    if 0 < options.test_fraction and tested < FEW_TESTED:
        yield Finding(
            "warning", "build_cf.test_fraction", f"about {tested} users would be tested: the evaluation says little",
            "raise it; a test user's latest item is then held out, for the evaluation alone",
        )  # fmt: skip


def _picture_remedy(config: Config, reason: str) -> str:
    if reason in ("missing", "outside_folder"):
        if config.inputs.images is None:
            return "set inputs.images to the folder, or .zip archive, that the addresses are relative to"
        return f"addresses are relative to inputs.images={config.inputs.images}; is it the right folder?"
    if reason == "not_allowed":
        return "name the places that may be asked in inputs.image_sources, as https://HOST/FOLDER or s3://BUCKET/FOLDER"
    if reason in ("forbidden", "unreachable"):
        return "let this machine read there (S3: AWS_PROFILE and its kin; a private network: inputs.private_hosts)"
    if reason == "unsupported_address":
        return "take paths, https:// or s3:// addresses; or copy the pictures to a folder"
    return "such items are summarized from their text; mend or remove the pictures"


def _other_delimiter(table: Table) -> str:
    """A remedy where another delimiter would cut the file better."""
    if not table.kind.startswith("CSV") or len(table.schema) > 1:
        return ""
    found = dialect.guess(sources.head(table.files[0], table.place))
    return f"it looks delimited by {found.delimiter!r}: set inputs.csv.{table.name}.delimiter"


def _refused(where: str, error: InputError | StoreError, remedy: str = "") -> Finding:
    return Finding(
        "error", where, str(error), remedy or "mend the file or the setting; `mmsrarec init` writes one that fits"
    )


def _share(part: int, whole: int) -> str:
    """`1,367 (14.0%) of 9,742`."""
    return f"{part:,} of {whole:,} ({part / max(whole, 1):.1%})"


def _day(microseconds: float) -> str:
    return str(datetime.fromtimestamp(microseconds / 1e6, UTC).date())
