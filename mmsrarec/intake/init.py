"""`mmsrarec init`: looks at the user's files and writes a short configuration that `mmsrarec run` takes as it is.

Every line says why it is there. What cannot be guessed is asked for on a terminal; elsewhere it is an error that names
the column, what it may be and the option that settles it.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mmsrarec.config import Config, Csv, load
from mmsrarec.errors import ConfigError, InputError, StoreError
from mmsrarec.intake import configuration, dialect, facts, profile, sources
from mmsrarec.intake.guess import Columns, Guess, Question, extra_text, guess
from mmsrarec.intake.sources import Table
from mmsrarec.storage import inputs
from mmsrarec.storage.objects import PictureError, Pictures

Ask = Callable[[Question, str], str]


@dataclass(frozen=True)
class Places:
    """What the user named on the command line."""

    items: str
    interactions: str
    images: str | None = None
    model: str = "bundled"
    out: Path = Path("shop.yaml")


def init(places: Places, given: dict[str, str], force: bool = False, ask: Ask | None = None) -> str:
    """Write places.out and return its text. `given`: our column -> theirs, '' for none; `ask` answers questions.

    Raises ConfigError where the file is there already, InputError where a column stays unknown or is of no use.
    """
    if places.out.exists() and not force:
        raise ConfigError(f"{places.out}: is there already; give --force to replace it or --out another name")
    config = _opened(places)
    items, taken = Table(config, "items"), Table(config, "interactions")
    columns = Columns(_profiled(items), _profiled(taken), given, _opener(config))
    found = _settled(columns, (items, taken), ask)
    text = configuration.text(config, (items, taken), found, extra_text(columns, found), columns)
    places.out.parent.mkdir(parents=True, exist_ok=True)
    draft = places.out.with_name(f"{places.out.name}.part")
    draft.write_text(text, encoding="utf-8")
    try:
        written = load(draft)
        facts.item_columns(items, written)
        facts.interaction_columns(taken, written)
    except InputError:
        draft.unlink()
        raise
    draft.replace(places.out)
    return text


def _opened(places: Places) -> Config:
    """A configuration of the places alone, with how their CSV files are written."""
    empty = Config(inputs={"items": places.items, "interactions": places.interactions})
    written = {table: _dialect(empty, table) for table in ("items", "interactions")}
    return Config(
        inputs={
            "items": places.items,
            "interactions": places.interactions,
            "images": places.images,
            "csv": {table: found for table, found in written.items() if found},
        },
        model=places.model,
        dataset=places.out.stem,
        lake={"root": f"lake/{places.out.stem}"},
    )


def _dialect(config: Config, table: str) -> Csv | None:
    """How the file is written; None where it is no CSV."""
    place, source = getattr(config.inputs, table), inputs.source(config, table)
    found = sources.files(place, source)
    names = sources.names(found)
    if any(".parquet" in name.lower() for name in names):
        return None
    with sources.readable(source):
        if sources.is_delta(place):
            return None
        head = sources.head(found[0], place)
    if not head:
        raise InputError(f"{source}: the file is empty")
    if b"\0" in head and not head.startswith(tuple(mark for mark, _ in dialect.BOMS)):
        inputs.kind(names, config, table)
        raise InputError(f"{source}: is no text, so no CSV; expected a Delta table, Parquet or CSV")
    guessed = dialect.guess(head)
    by_name = inputs.delimiter(names, config, table) if _named_csv(names) else None
    return Csv(encoding=guessed.encoding, delimiter=None if guessed.delimiter == by_name else guessed.delimiter)


def _named_csv(names: list[str]) -> bool:
    return any(suffix in name.lower() for suffix in inputs.DELIMITERS for name in names)


def _profiled(table: Table) -> list[profile.Column]:
    found, rows = profile.columns(table)
    if not rows:
        raise InputError(f"{table.source}: the table is empty")
    if table.kind.startswith("CSV") and not any(re.search(r"[^\W\d_]", name) for name in table.schema.names):
        raise InputError(
            f"{table.source}: the first row holds values, not the names of the columns "
            f"({inputs.listed(table.schema.names)}); put a row of names above it"
        )
    profile.widen(table, found)
    return found


def _settled(columns: Columns, tables: tuple[Table, Table], ask: Ask | None) -> list[Guess]:
    """The guesses once no question is left; an answer may settle other questions, too."""
    while True:
        found, questions = guess(columns)
        if not questions:
            return found
        by_name = dict(zip(("items", "interactions"), tables, strict=True))
        if ask is None:
            raise InputError("\n".join(_unanswered(one, by_name[one.table], columns) for one in questions))
        first = questions[0]
        columns.given[first.option] = ask(first, _shown(first, columns))


def _unanswered(question: Question, table: Table, columns: Columns) -> str:
    example = question.candidates[0] if question.candidates else "…"
    none = "" if question.required else f", or --column {question.option}= for none"
    return (
        f"{table.source}: which column is {question.ours}? {question.why}. Candidates: {_shown(question, columns)}. "
        f"Say it, for example --column {question.option}={example}{none}"
    )


def _shown(question: Question, columns: Columns) -> str:
    by_name = {column.name: column for column in (columns.items if question.table == "items" else columns.taken)}
    return "; ".join(f"{name} ({by_name[name].examples()})" for name in question.candidates[:10])


def _opener(config: Config) -> Callable[[list[str]], float]:
    """The share of some addresses that are pictures which open, by the code that opens them in a run."""
    pictures = Pictures(config)

    @cache
    def opens(address: str) -> bool:
        try:
            pictures.open(address)
            return True
        except (PictureError, StoreError):
            return False

    return lambda addresses: sum(map(opens, addresses)) / max(len(addresses), 1)
