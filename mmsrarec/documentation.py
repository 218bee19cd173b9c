"""The parts of the README and of docs/ that the code knows better: commands, exit statuses, tables, settings.

python -m mmsrarec.documentation [FOLDER]    (`make docs`)

Each stands between `<!-- generated: NAME -->` and `<!-- end -->`, and is put there anew; everything else stays.
"""

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeGuard, get_args

import pyarrow as pa
import typer.main
from pydantic_core import PydanticUndefined

from mmsrarec import errors
from mmsrarec.cli import app
from mmsrarec.config.section import Section
from mmsrarec.config.settings import Config
from mmsrarec.schemas import CONTRACT, TABLES

PART = re.compile(r"(?<=<!-- generated: )(\w+)( -->\n).*?(?=<!-- end -->)", re.DOTALL)
EVERYWHERE = {"--set", "--log-format", "--help"}  # options of every command
TYPES = {pa.string(): "string", pa.int64(): "long", pa.float64(): "double", pa.bool_(): "boolean"}


def pages(folder: Path) -> list[Path]:
    """The README of the project in `folder`, and what it leads to."""
    return [folder / "README.md", *sorted((folder / "docs").glob("*.md"))]


def current(text: str) -> str:
    """A page with its generated parts as they must be. Raises KeyError for a part that nobody makes."""
    return PART.sub(lambda part: f"{part[1]}{part[2]}\n{PARTS[part[1]]()}\n\n", text)


def commands() -> str:
    found = typer.main.get_group(app).commands.items()
    return _table(("command", "what it does"), ((f"`{_usage(name, one)}`", one.help) for name, one in found))


def exit_statuses() -> str:
    kinds = sorted(_subclasses(errors.UserError), key=lambda kind: kind.exit_status)
    rows: list[tuple[object, ...]] = [(errors.DONE, "", "Completed.", "")]
    for kind in kinds:
        advice = "run again: it goes on" if kind.retry else "tell someone"
        rows.append((kind.exit_status, f"`{kind.__name__}`", _paragraph(kind), advice))
    rows.append(
        (
            errors.UNEXPECTED,
            "any other",
            "Unexpected; the trace is in the run's log file, or in `mmsrarec-error.log`.",
            "tell someone",
        )
    )
    stopped = "Interrupted (Ctrl-C, SIGTERM)."
    rows.append((errors.INTERRUPTED, "`KeyboardInterrupt`", stopped, "run again: it goes on"))
    return _table(("exit status", "exception", "cause", "what a scheduler does"), rows)


def tables() -> str:
    """Every table in a line; below, each with its columns."""
    heads = "table", "a row is", "key", "written by"
    overview = _table(
        heads,
        (
            (f"`{name}`", table.meaning, ", ".join(table.key), ", ".join(table.writers) or "every stage")
            for name, table in CONTRACT.items()
        ),
    )
    shown: dict[str, pa.Schema] = {}
    details = []
    for name, table in CONTRACT.items():
        like = next((other for other, schema in shown.items() if schema == TABLES[name]), None)
        shown[name] = TABLES[name]
        rows = ((f"`{column}`", _type(kind), meaning) for column, (kind, meaning) in table.columns.items())
        body = f"The columns of `{like}`." if like else _table(("column", "type", "meaning"), rows)
        parts = f"Partitioned by {', '.join(table.partitions)}.\n\n" if table.partitions else ""
        details.append(f"## {name}\n\n{parts}{body}")
    return "\n\n".join((overview, *details))


def settings() -> str:
    """Every setting with its default, section by section."""
    found = list(every_setting(Config))
    parts = [_settings((name, field) for name, field in found if "." not in name)]
    for name, field in Config.model_fields.items():
        if _is_section(kind := field.annotation):
            of_section = ((key, leaf) for key, leaf in found if key.startswith(f"{name}."))
            parts.append(f"## {name}\n\n{_paragraph(kind)}\n\n{_settings(of_section)}")
    return "\n\n".join(parts)


def every_setting(kind: type[Section], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Names as `--set` takes them, each with its field."""
    for name, field in kind.model_fields.items():
        if _is_section(below := field.annotation):
            yield from every_setting(below, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


PARTS: dict[str, Callable[[], str]] = {
    "commands": commands,
    "exit_statuses": exit_statuses,
    "tables": tables,
    "settings": settings,
}


def _usage(name: str, command: Any) -> str:
    """The command line with all options of its own."""
    words = ["mmsrarec", name]
    for parameter in command.params:
        value = "" if getattr(parameter, "is_flag", False) else f" {parameter.metavar or parameter.name.upper()}"
        if parameter.param_type_name == "argument":
            words.append(parameter.metavar)
        elif not EVERYWHERE & set(parameter.opts):
            words.append(f"{parameter.opts[0]}{value}" if parameter.required else f"[{parameter.opts[0]}{value}]")
    return " ".join(words)


def _settings(found: Iterable[tuple[str, Any]]) -> str:
    rows = ((f"`{name}`", _default(field), field.description) for name, field in found)
    return _table(("setting", "default", "meaning"), rows)


def _default(field: Any) -> str:
    if field.default is PydanticUndefined:
        return "required"
    shown = field.default if isinstance(field.default, str) else json.dumps(field.default)
    others = [choice for choice in get_args(field.annotation) if isinstance(choice, str) and choice != field.default]
    return f"{shown} (or {', '.join(others)})" if others else shown


def _is_section(kind: object) -> TypeGuard[type[Section]]:
    return isinstance(kind, type) and issubclass(kind, Section)


def _type(kind: pa.DataType) -> str:
    if pa.types.is_list(kind):
        return f"list of {_type(kind.value_type)}"
    return TYPES.get(kind, "timestamp")


def _subclasses(kind: type[errors.UserError]) -> Iterator[type[errors.UserError]]:
    for below in kind.__subclasses__():
        yield below
        yield from _subclasses(below)


def _paragraph(kind: type) -> str:
    """The first paragraph of a docstring on one line."""
    return " ".join((kind.__doc__ or "").split("\n\n")[0].split())


def _table(heads: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A table in Markdown."""
    heads = list(heads)
    lines = [heads, ["---"] * len(heads), *([str(cell).replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    for page in pages(Path(sys.argv[1] if len(sys.argv) > 1 else ".")):
        page.write_text(current(page.read_text()))


if __name__ == "__main__":
    main()
