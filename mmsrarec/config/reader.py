"""From a YAML file and `--set` to one frozen `Config`; the only reader of conf/*.yaml.

An unknown key, a wrong type or a value out of range is a `ConfigError` that names the key, the file and the nearest
valid key.
"""

import difflib
import re
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from mmsrarec.config.section import Section
from mmsrarec.config.settings import Config
from mmsrarec.errors import ConfigError

SPARK = re.compile(r"(spark|k8s)://|yarn$|local\[")  # what Spark's masters look like


def load(path: str | Path, overrides: tuple[str, ...] | list[str] = ()) -> Config:
    """Read a YAML file and apply `a.b=value` overrides, whose values are YAML themselves.

    Raises ConfigError with every problem found, one per line.
    """
    source = Path(path)
    try:
        values = yaml.safe_load(source.read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; conf/local.yaml is an example to start from") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected sections such as 'inputs:', found {type(values).__name__}")
    for override in overrides:
        _override(values, override)
    try:
        return Config.model_validate(_plain(values))
    except ValidationError as error:
        origin = f"{path} (with --set)" if overrides else str(path)
        raise ConfigError("\n".join(_explain(origin, problem) for problem in error.errors())) from None


def at(addresses: Iterable[str] | None) -> list[str]:
    """The overrides that `--address` stands for: which cluster, Spark's or Ray's, its form tells."""
    return [f"{'spark.master' if SPARK.match(address) else 'engine.address'}={address}" for address in addresses or ()]


def _override(values: dict, override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {override}: expected a.b=value")
    *parents, last = key.strip().split(".")
    if parents[:1] == ["inputs"] and parents[1:2] in (["columns"], ["interactions_columns"]) and len(parents) > 2:
        raise ConfigError(f"--set {override}: expected inputs.{parents[1]}.OURS=THEIRS")
    place = values
    for parent in parents:
        place = place.setdefault(parent, {})
        if not isinstance(place, dict):
            raise ConfigError(f"--set {override}: {parent} is a value, not a section")
    try:
        place[last] = yaml.safe_load(text) if text else None
    except yaml.YAMLError:
        place[last] = text


def _plain(value: Any) -> Any:
    """YAML reads 2026-11-21 as a date where we mean the text; keys such as 1 become text too."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, date):
        return value.isoformat()
    return value


def _explain(origin: str, problem: Any) -> str:
    location = [str(part) for part in problem["loc"]]
    key = ".".join(location)
    if problem["type"] == "extra_forbidden":
        section = _section(location[:-1])
        near = difflib.get_close_matches(location[-1], section.model_fields, n=1, cutoff=0.0)
        known = ", ".join(section.model_fields)
        return f"{origin}: unknown key {key}; did you mean {'.'.join([*location[:-1], near[0]])}? (known here: {known})"
    if problem["type"] == "missing":
        return f"{origin}: {key} is missing; add it or give --set {key}=…"
    if not location:  # of the settings together; what was found is the whole file
        return f"{origin}: {problem['msg']}"
    return f"{origin}: {key}: {problem['msg']} (found {problem['input']!r})"


def _section(location: list[str]) -> type[Section]:
    section: Any = Config
    for name in location:
        section = section.model_fields[name].annotation
    return section
