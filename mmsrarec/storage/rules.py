"""Serving rules: which items may be listed, how many of a category, and which users get no list.

retrieve applies them before anything is scored; recommend, publish and evaluate ask the same object, so that all agree.
An item without a category is listed only where rules.categories names none, and no quota counts it.
"""

import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv, dataset

from mmsrarec.config import Config
from mmsrarec.errors import InputError
from mmsrarec.storage import delta, files

NO_LIMIT = sys.maxsize
COLUMNS = ["item_id", "available", "category"]  # of the catalog, that `servable` needs
DELIMITERS = {".csv": ",", ".tsv": "\t"}


@dataclass(frozen=True)
class Rules:
    """The settings of `rules:` with the files read."""

    categories: frozenset[str]
    quota: int | None
    quotas: dict[str, int]
    items: frozenset[str]
    users: frozenset[str]

    def servable(self, catalog: pa.Table) -> pa.ChunkedArray:
        """Per row of the catalog (COLUMNS): may it be listed?"""
        excluded = pc.is_in(catalog["item_id"], value_set=_ids(self.items))
        allowed = pc.and_not(available(catalog), excluded)
        if not self.categories:
            return allowed
        return pc.and_(allowed, pc.is_in(catalog["category"], value_set=_ids(self.categories)))

    def served(self, users: pa.Table) -> pa.Table:
        """Those rows whose user_id gets a list."""
        return users.filter(pc.invert(pc.is_in(users["user_id"], value_set=self._users))) if self.users else users

    def bars(self, item_id: str, category: str | None) -> str | None:
        """The setting by which the item may not be listed, None where it may."""
        if item_id in self.items:
            return "rules.exclude_items"
        return "rules.categories" if self.categories and category not in self.categories else None

    def limit(self, category: str | None) -> int:
        """Most items of the category in one list."""
        default = NO_LIMIT if category is None or self.quota is None else self.quota
        return default if category is None else self.quotas.get(category, default)

    @property
    def limited(self) -> bool:
        return self.quota is not None or bool(self.quotas)

    def unmatched(self, catalog: pa.Table) -> list[str]:
        """Categories that the rules name and no item has."""
        return sorted({*self.categories, *self.quotas} - set(catalog["category"].unique().to_pylist()))

    @cached_property
    def _users(self) -> pa.Array:
        return _ids(self.users)


def load(config: Config) -> Rules:
    """Raises InputError where a file cannot be read."""
    rules = config.rules
    items, users = set(rules.exclude_items), set(rules.exclude_users)
    if rules.exclude_items_file:
        items |= read_ids(config, rules.exclude_items_file, "item_id", "rules.exclude_items_file")
    if rules.exclude_users_file:
        users |= read_ids(config, rules.exclude_users_file, "user_id", "rules.exclude_users_file")
    return Rules(frozenset(rules.categories), rules.quota, rules.quotas, frozenset(items), frozenset(users))


def available(catalog: pa.Table) -> pa.ChunkedArray:
    """Per row of the catalog: does the shop have it? Where it does not say, yes."""
    return pc.fill_null(catalog["available"], True)


def read_ids(config: Config, path: str, column: str, setting: str) -> set[str]:
    """The ids in a Delta table, Parquet or CSV file, under our name of the column or that of inputs.columns."""
    try:
        found = _open(path, config.inputs.columns.get(column, column), column)
    except (OSError, pa.ArrowInvalid, KeyError) as error:
        raise InputError(f"{setting}={path}: cannot be read: {' '.join(str(error).split())[:500]}") from None
    if found is None:
        raise InputError(f"{setting}={path}: expected a Delta table, Parquet or CSV file with a column {column}")
    return set(found.cast(pa.string()).drop_null().to_pylist()) - {""}


def _content(path: str) -> pa.NativeFile:
    """A file's content, unpacked where its name says that it is packed."""
    if files.is_local(path):
        return pa.input_stream(path)
    packed = PurePosixPath(path).suffix.removeprefix(".")
    return pa.input_stream(pa.BufferReader(files.content(path)), {"gz": "gzip", "zst": "zstd"}.get(packed))


def _ids(chosen: frozenset[str]) -> pa.Array:
    return pa.array(sorted(chosen), pa.string())


def _open(path: str, *names: str) -> pa.ChunkedArray | None:
    """The first of the columns `names` that the file has, None where it has none of them."""
    delimiter = next((DELIMITERS[suffix] for suffix in PurePosixPath(path).suffixes if suffix in DELIMITERS), None)
    if delimiter:
        kind = csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
        as_text = csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()))  # 007 stays 007
        source = dataset.dataset(csv.read_csv(_content(path), parse_options=kind, convert_options=as_text))
    else:
        source = delta.open_rows(path)
    return next((source.to_table([name])[name] for name in names if name in source.schema.names), None)
