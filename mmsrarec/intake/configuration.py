"""The text of a configuration that init writes: few lines, each with its why."""

import json
import re

import yaml

from mmsrarec.config import Config
from mmsrarec.intake.guess import Columns, Guess
from mmsrarec.intake.model import gpus
from mmsrarec.intake.sources import Table

FEW_USERS = 1000  # of fewer, more than one in ten are tested, so that intervals say something
COLUMN = 40  # where comments begin


def text(config: Config, tables: tuple[Table, Table], found: list[Guess], extra: list[str], columns: Columns) -> str:
    """The whole file."""
    head = [
        "# Written by `mmsrarec init`; each line says why it is there. Every setting with its default and its meaning",
        "# is in mmsrarec/config; relative paths start where the command is started.",
    ]
    parts = [
        _inputs(config, tables),
        _csv(config),
        _columns(found),
        _text(found, extra),
        _rest(config),
        _users(found, columns),
    ]
    return "\n".join([*head, *(line for part in parts for line in part)]) + "\n"


def _inputs(config: Config, tables: tuple[Table, Table]) -> list[str]:
    lines = ["inputs:"]
    for table in tables:
        rows = table.rows()
        counted = f"{table.kind}, {table.bytes / 1e6:,.1f} MB" + ("" if rows is None else f", {rows:,} rows")
        lines.append(line(1, table.name, table.place, counted))
    if config.inputs.images:
        lines.append(line(1, "images", config.inputs.images, "what the image column is relative to"))
    return lines


def _csv(config: Config) -> list[str]:
    """What a CSV file's name does not say."""
    lines = []
    for table in ("items", "interactions"):
        written = getattr(config.inputs.csv, table).model_dump(exclude_defaults=True)
        whys = {
            "delimiter": "cuts every row as wide as the first",
            "encoding": "the likeliest, as the bytes are no UTF-8",
        }
        if written:
            lines += [f"    {table}:", *(line(3, name, value, whys[name]) for name, value in written.items())]
    return ["  csv:", *lines] if lines else []


def _columns(found: list[Guess]) -> list[str]:
    by_table = {one.ours: one for one in found if (one.ours, one.table) != ("item_id", "interactions")}
    other = next((one for one in found if (one.ours, one.table) == ("item_id", "interactions")), None)
    same = other is not None and other.column == by_table["item_id"].column
    lines = ["  columns:", *(line(2, one.ours, one.column, one.why) for one in by_table.values())]
    if other is not None and not same:
        lines += ["  interactions_columns:", line(2, "item_id", other.column, other.why)]
    return lines


def _text(found: list[Guess], extra: list[str]) -> list[str]:
    if not extra:
        return []
    ours = [name for name in ("title", "description", "category") if any(one.ours == name for one in found)]
    return [line(1, "text", [*ours, *extra], "these columns, joined, are an item's text")]


def _rest(config: Config) -> list[str]:
    model = "the package's small model for trying; Qwen/Qwen2.5-VL-7B-Instruct, say, on a GPU"
    here = [] if config.model == "bundled" else gpus()
    on_gpu = ["engine:", line(1, "num_gpus", 1, f"this machine has {len(here)}")] if here else []
    return [
        line(0, "dataset", config.dataset, "names the data in the evaluation"),
        "lake:",
        line(1, "root", config.lake.root, "folder of all that a run writes; made by the first"),
        line(0, "model", config.model, model if config.model == "bundled" else "given by --model"),
        *on_gpu,
    ]


def _users(found: list[Guess], columns: Columns) -> list[str]:
    name = next(one.column for one in found if one.ours == "user_id")
    users = len(next(column for column in columns.taken if column.name == name).ids)
    if users >= FEW_USERS:
        return []
    why = f"with one in ten of {users:,} users the evaluation would say little"
    return ["build_cf:", line(1, "test_fraction", 0.4, why)]


def line(depth: int, name: str, value: object, why: str) -> str:
    """`name: value  # why`, which reads back as it is."""
    said = f"{'  ' * depth}{name}: {_scalar(value)}"
    return f"{said:<{COLUMN}}  # {' '.join(why.split())}" if why else said


def _scalar(value: object) -> str:
    plain = isinstance(value, str) and re.fullmatch(r"[A-Za-z_/][\w./:-]*", value) and yaml.safe_load(value) == value
    return str(value) if plain else json.dumps(value, ensure_ascii=False)
