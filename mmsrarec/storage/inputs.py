"""What the user's files are taken to say, whoever reads them: Spark in preparation/, Arrow in intake/.

Which kind of file it is, which column is meant, what is wrong with a row. Nothing is read here.
"""

import difflib
import json
from collections.abc import Iterable

from mmsrarec.config import Config
from mmsrarec.errors import InputError

OURS = ("user_id", "item_id", "timestamp", "title", "description", "image", "category", "available")
MAX_ID_CHARS = 1024
MAX_TEXT_CHARS = 20_000

ITEM_ERRORS = {
    "null_item_id": "item_id is null or empty",
    "id_too_long": f"item_id has more than {MAX_ID_CHARS} characters",
    "bad_available": "available is neither true/false, yes/no, 1/0 nor a number in stock",
    "duplicate_item_id": "a row with the same item_id differs and was kept (available, longer text, picture)",
}
INTERACTION_ERRORS = {
    "null_user_id": "user_id is null or empty",
    "null_item_id": "item_id is null or empty",
    "id_too_long": f"an id has more than {MAX_ID_CHARS} characters",
    "unknown_item": "no valid row of inputs.items has this item_id",
    "null_timestamp": "timestamp is null or empty",
    "bad_timestamp": "timestamp is before 1970 or neither a number, a date nor a time such as 2026-01-31T12:00:00Z",
    "future_timestamp": "timestamp is more than a day from now",
}
# Words of `available`, in the languages of the shops that we know.
TRUE = ("true", "t", "yes", "y", "1", "ja", "j", "wahr", "sí", "si", "s", "oui", "o", "vrai", "sim", "verdadero")
FALSE = ("false", "f", "no", "n", "0", "nein", "falsch", "non", "faux", "nao", "não", "falso", "nee")
DAY = 86_400_000_000  # microseconds
# A number is seconds until the year 5138, then milliseconds, and so on; each with the factor to microseconds.
MAGNITUDES = ((1e11, 1e6), (1e14, 1e3), (1e17, 1.0))

# Text that is read as a number or as a time. ASCII to the very end, and bounded: Java's decimals also take the digits
# of every script and blanks of every kind, and compute on 1e-999999999 for hours; a time of day has no date.
NUMBER = r"^[+-]?([0-9]{1,40}\.?[0-9]{0,40}|\.[0-9]{1,40})([eE][+-]?[0-9]{1,3})?\z"
TIME = r"^[0-9]{4}-[ -~]{1,80}\z"

DELIMITERS = {".csv": ",", ".tsv": "\t"}


def source(config: Config, table: str) -> str:
    """How an error names the file: the setting with its value; `table` is items or interactions."""
    return f"inputs.{table}={getattr(config.inputs, table)}"


def kind(names: list[str], config: Config, table: str) -> str:
    """`.parquet` or `.csv`, of a place that is no Delta table, by the names of its files; raises InputError."""
    for suffix in (".parquet", *DELIMITERS):
        if any(_ends(name, suffix) for name in names):
            return ".parquet" if suffix == ".parquet" else ".csv"
    if getattr(config.inputs.csv, table).delimiter:
        return ".csv"
    raise InputError(
        f"{source(config, table)}: expected a Delta table, Parquet (.parquet) or CSV (.csv, .tsv), found "
        f"{json.dumps(names[:3])}; where it is CSV under another name, set inputs.csv.{table}.delimiter"
    )


def delimiter(names: list[str], config: Config, table: str) -> str:
    """What stands between the values of a CSV file: the setting, else by the name."""
    given = getattr(config.inputs.csv, table).delimiter
    return given or next((DELIMITERS[suffix] for suffix in DELIMITERS for name in names if _ends(name, suffix)), ",")


def mapping(config: Config, table: str) -> dict[str, str]:
    """Our name of a column -> the name in the file."""
    own = config.inputs.interactions_columns if table == "interactions" else {}
    return config.inputs.columns | own


def theirs(ours: str, names: Iterable[str], mapped: dict[str, str]) -> str | None:
    """The name in the file: the mapped one where the file has it, else our own, else None."""
    names = set(names)
    return next((name for name in (mapped.get(ours), ours) if name in names), None)


def required(config: Config, table: str, ours: str, names: list[str]) -> str:
    """As `theirs`, or InputError."""
    name = theirs(ours, names, mapping(config, table))
    if name is None:
        near = difflib.get_close_matches(ours, names, n=1, cutoff=0.0)
        raise InputError(
            f"{source(config, table)}: no column {ours}; found {listed(names)}. If one of them is meant, say so, for "
            f"example --set inputs.columns.{ours}={near[0] if near else '…'}"
        )
    return name


def check_mapping(config: Config, items: list[str], interactions: list[str]) -> None:
    """Every pair of inputs.columns must name a column of ours, and one that a file has."""
    known = list(dict.fromkeys([*OURS, *config.inputs.text]))
    both = list(dict.fromkeys([*items, *interactions]))
    where = f"neither {source(config, 'items')} nor {source(config, 'interactions')} has"
    _check("columns", config.inputs.columns, known, both, where)
    where = f"{source(config, 'interactions')} has not"
    _check("interactions_columns", config.inputs.interactions_columns, known, interactions, where)


def _check(setting: str, pairs: dict[str, str], known: list[str], found: list[str], where: str) -> None:
    for ours, name in pairs.items():
        key = f"inputs.{setting}.{ours}"
        if ours not in known:
            raise InputError(f"{key}: not a column of ours{near(ours, known)} (ours: {listed(known)})")
        if name not in found:
            raise InputError(f"{key}={name}: {where} a column {name}{near(name, found)}; found {listed(found)}")


def near(name: str, names: list[str]) -> str:
    """The nearest of the names as a question, for an error."""
    found = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"; did you mean {found[0]}?" if found else ""


def listed(names: Iterable[str]) -> str:
    """The first of the names, for an error."""
    names = list(names)
    return ", ".join(names[:30]) + (", …" if len(names) > 30 else "")


def _ends(name: str, suffix: str) -> bool:
    return name.lower().endswith((suffix, f"{suffix}.gz", f"{suffix}.zst"))
