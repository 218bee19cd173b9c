"""LoRA adapters in the lake: what tuning leaves, and what engines are asked with.

    models/adapters/recommender-FINGERPRINT.json        the card: which weights serve, or why none do, and the facts
    models/adapters/recommender-FINGERPRINT/HASH/       adapter_config.json, adapter_model.safetensors

The fingerprint is of the backbone and the settings that decide what is trained, so each variant has its own; HASH is of
the weights, so a request's key changes with what answers it. The card is replaced last, in one step.
"""

import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from mmsrarec.config import Config, Tuning
from mmsrarec.engines.template import Template, folder_hash
from mmsrarec.errors import ConfigError, InputError
from mmsrarec.storage import files, models, s3

Kind = Literal["summarizer", "recommender"]
KINDS: tuple[Kind, ...] = get_args(Kind)
WEIGHTS, SETTINGS = "adapter_model.safetensors", "adapter_config.json"
ADAPTER_VERSION = 3  # of everything that decides an adapter besides data, settings and seed
TUNED_ON = "tuned_on"  # of a card's facts: the run's date
# Settings that do not decide what is learned.
BESIDE = {"adapter", "refresh_days", "save_every"}
UNTAUGHT = {"top_k", "because", "blend", "scoring"}  # of `recommend`: what is done with the scores


@dataclass(frozen=True)
class Adapter:
    """`name` is what requests ask for, None where the backbone serves as it comes; `why` says it in words."""

    name: str | None
    why: str
    facts: dict = field(default_factory=dict)


def tuning(config: Config, kind: Kind) -> Tuning:
    return config.tune_summarizer if kind == "summarizer" else config.tune_recommender


def wanted(config: Config, kind: Kind) -> bool:
    """Whether the configuration asks for an adapter of this kind."""
    return kind in config.adapters


def fingerprint(config: Config, kind: Kind) -> str:
    """Of the backbone and the settings behind an adapter, with those of the stages before it."""
    settings: dict[str, Any] = {"summarize_items": config.summarize_items.model_dump(mode="json")}
    if kind == "recommender":
        settings["recommend"] = config.recommend.model_dump(mode="json", exclude=UNTAUGHT)
        settings["retrieve"] = config.retrieve.model_dump(mode="json")
        settings["network"] = config.sasrec.name
    before = [config.tune_summarizer] if wanted(config, "summarizer") or kind == "summarizer" else []
    for each in [*before, *([config.tune_recommender] if kind == "recommender" else [])]:
        ready = folder_hash(str(local_folder(each.adapter))) if each.adapter else None
        settings[type(each).__name__] = ready or each.model_dump(mode="json", exclude=BESIDE)
    parts = [ADAPTER_VERSION, kind, Template.of(config).content, settings, config.run.seed]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def serving(config: Config, kind: Kind) -> Adapter:
    """What requests of this kind ask for. InputError where the configuration wants an adapter and none was made."""
    if not wanted(config, kind):
        return Adapter(None, "the configuration wants none")
    found = describe(config, kind)
    if found is None:
        raise InputError(f"{_card(config, kind)}: no such adapter; run tune_{kind} first")
    return found


def expected(config: Config, kind: Kind) -> str | None:
    """What requests will ask for, for a plan: where none was tuned yet, a name that no answer knows."""
    found = describe(config, kind) if wanted(config, kind) else Adapter(None, "")
    return found.name if found else f"{kind}, not tuned yet"


def describe(config: Config, kind: Kind) -> Adapter | None:
    """The card; None where this variant was never tuned."""
    found = files.read(_card(config, kind))
    return Adapter(**json.loads(found)) if found else None


def kept(config: Config, kind: Kind) -> Adapter | None:
    """The card, if there is one and refresh_days lets it serve on; one without facts[TUNED_ON] has no age."""
    found, days = describe(config, kind), tuning(config, kind).refresh_days
    if found is None or days is None or TUNED_ON not in found.facts:
        return found
    return found if config.run.days_from(found.facts[TUNED_ON]) < days else None


def save(config: Config, kind: Kind, folder: Path | None, why: str, facts: dict) -> Adapter:
    """Put an adapter's folder (None: the backbone serves as it comes) and its card into the lake."""
    return card(config, kind, put(config, kind, folder) if folder else None, why, facts)


def put(config: Config, kind: Kind, folder: Path) -> str:
    """Copy an adapter's folder into the lake; its name, by which engines can be asked with it. It serves no stage
    before it has its card. ConfigError for one that mmsrarec tuned on another model."""
    settings = json.loads((folder / SETTINGS).read_text())
    model, base = Template.of(config).content, str(settings.get("base_model_name_or_path"))
    if "@" in base and base != model:  # a folder or a hub's name has none
        raise ConfigError(f"adapter {folder}: tuned on {base}, not on {model}; tune_{kind}.adapter=null tunes one")
    settings["base_model_name_or_path"] = model  # not where it happened to lie
    settings["target_modules"] = sorted(settings["target_modules"])
    contents = {
        SETTINGS: json.dumps(settings, indent=1, sort_keys=True).encode(),
        WEIGHTS: (folder / WEIGHTS).read_bytes(),
    }
    digest = hashlib.sha256(b"".join(contents.values())).hexdigest()[:16]
    name = f"{kind}-{fingerprint(config, kind)}/{digest}"
    for file, content in contents.items():
        files.write(f"{place(config, name)}/{file}", content)
    return name


def card(config: Config, kind: Kind, name: str | None, why: str, facts: dict) -> Adapter:
    """From now on, the adapter of this name (None: the backbone as it comes) serves."""
    saved = Adapter(name, why, facts)
    files.write(_card(config, kind), json.dumps(saved.__dict__, indent=1).encode())
    return saved


def place(config: Config, name: str) -> str:
    """Folder, or address on S3, of the adapter that requests call `name`."""
    return config.learned(f"models/adapters/{name}")


def local(config: Config, name: str) -> str:
    """Its folder on this machine, fetched now where the lake is on S3."""
    address = place(config, name)
    return address if files.is_local(address) else str(models.fetched(address))


def local_folder(address: str) -> Path:
    """The folder of an adapter that the user names. ConfigError where it is none."""
    folder = Path(models.fetched(address)) if s3.is_address(address) else Path(address)
    missing = [file for file in (SETTINGS, WEIGHTS) if not os.path.isfile(folder / file)]
    if missing:
        raise ConfigError(f"adapter {address}: no {' and no '.join(missing)} there; give the folder that PEFT saved")
    return folder


def largest_rank(config: Config) -> int:
    """What engines must have room for: of the adapters that are served, else of those that could be."""
    ranks = [settings.lora.rank for settings in config.adapters.values()]
    for settings in config.adapters.values():
        if settings.adapter:
            ranks.append(json.loads((local_folder(settings.adapter) / SETTINGS).read_text())["r"])
    return max(ranks)


def _card(config: Config, kind: Kind) -> str:
    return config.learned(f"models/adapters/{kind}-{fingerprint(config, kind)}.json")
