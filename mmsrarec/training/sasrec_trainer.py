"""Stage train_sasrec: SASRec or GRU4Rec, and the networks beside it (retrieve.fusion.networks, retrieve.similar_by),
with cross-entropy over the full catalog, early stopping on validation NDCG.

Trains on whole histories of train users and histories without the last item of validation and test users: a held-out
item is never an input or a target. Validation users' last items only decide when to stop; test users' are not looked
at. The same histories, settings and seed give the same weights (on a CPU with the same number of threads), so a second
run with unchanged inputs keeps the checkpoint. With new interactions it is kept, too, for sasrec.refresh_days: the
network reads any history, and what is made from it for a user (candidates, evidence, the figures of the evaluation) is
only made anew for everybody where it is a new one.
"""

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from mmsrarec import log
from mmsrarec.collaborative import checkpoint, embed, text
from mmsrarec.collaborative.embed import Sequences
from mmsrarec.collaborative.network import PADDING, Network
from mmsrarec.collaborative.text import ItemText
from mmsrarec.config import Config, Sasrec
from mmsrarec.errors import ConfigError, InputError
from mmsrarec.progress import Progress
from mmsrarec.storage import guard, runs
from mmsrarec.training import batches, curve, loss, validation
from mmsrarec.training.bookmark import Bookmark

VALIDATION_QUESTIONS = 10_000
REMEMBERED = 3  # epochs, by Adam's second moment
MEMORY = 50, 1000  # steps that this is at least and at most
PATIENCE = 500  # steps at least, without a better validation; epochs of a small shop have few
VALIDATION_ROWS = 256  # questions at a time
CURVES = ("ndcg_at_10", "hit_rate_at_10")  # of the validation, beside the loss
MOST_UNKNOWN = 0.05  # of the training interactions may be with items that a kept checkpoint does not know
TRAINER_VERSION = 4  # of everything that decides the weights besides data, settings and seed


@dataclass(frozen=True)
class TrainingData:
    """Training sequences; of validation users the histories before each held-out item and its code, -1 if unknown; and
    the items' text, where the network is to read it."""

    vocabulary: pa.Array
    training: Sequences
    validation: Sequences
    targets: np.ndarray
    text: ItemText | None = None


@dataclass(frozen=True)
class Epoch:
    """One pass: its number from 1, and the chance that orders it."""

    settings: Sasrec
    number: int
    rng: np.random.Generator


def train_sasrec(config: Config, run_id: str) -> None:
    """Train and save the checkpoint, and those of the networks beside it, or keep what the same inputs have made."""
    reads = ("histories", "catalog") if any(each.sasrec.text for each in config.networks) else ("histories",)
    with runs.stage(config, "train_sasrec", run_id, reads) as stage:
        histories = embed.read_histories(config)
        stage.rows_in = histories.num_rows
        data = training_data(histories)
        stage.rows_out = len(data.vocabulary)
        stage.versions["sasrec"], facts = _trained(config, data, stage, stage.name)
        stage.notes |= {"vocabulary": len(data.vocabulary), **facts}
        for other in config.networks[1:]:
            name = other.sasrec.name
            stage.versions[name], stage.notes[name] = _trained(other, data, stage, f"{stage.name} {name}")


def _trained(config: Config, data: TrainingData, stage: runs.Stage, curve_of: str) -> tuple[str, dict]:
    """The hash and facts of the network's checkpoint; `skipped` is among them where it stays as it was."""
    data, place = _with_text(config, data), checkpoint.folder(config)
    present = checkpoint.describe(place)
    if present and (kept := _kept(config, present, data)):
        log.say(f"{curve_of}: {kept}, the checkpoint stays", "unchanged")
        return present["model_hash"], present["facts"] | {"skipped": kept}
    made_from = fingerprint(data, config)
    course: list[curve.Point] = []
    model, facts = fit(data, config.sasrec, config.run.seed, Bookmark(f"{place}/training.pt", made_from), course)
    facts |= {"settings": _settings(config), "made_from": made_from, "trained_on": config.run.run_date}
    guard.check(config.lake.root)
    curve.write(config, stage.run_id, curve_of, course)
    return checkpoint.save(place, model, data.vocabulary, config.sasrec, facts), facts


def training_data(histories: pa.Table) -> TrainingData:
    """What the network may see; InputError where no user has two training items."""
    item_ids = embed.training_part(histories)["item_ids"]
    vocabulary = pc.unique(pc.list_flatten(item_ids)).sort()
    training = embed.encode(item_ids, vocabulary)
    if training.lengths.max(initial=0) < 2:
        raise InputError("histories: no user has two training items, so there is no order to learn; add interactions")
    _, before, asked = validation.held_out(histories.filter(pc.equal(histories["split"], "validation")))
    targets = pc.fill_null(pc.index_in(asked, value_set=vocabulary), -1).to_numpy(zero_copy_only=False)
    return TrainingData(vocabulary, training, embed.encode(before, vocabulary), targets)


def _with_text(config: Config, data: TrainingData) -> TrainingData:
    return replace(data, text=text.read(config, data.vocabulary))


def fingerprint(data: TrainingData, config: Config) -> str:
    """Hash of everything that decides the weights."""
    digest = hashlib.sha256(json.dumps([_settings(config), data.vocabulary.to_pylist()]).encode())
    for sequences in (data.training, data.validation):
        digest.update(sequences.codes.tobytes() + sequences.offsets.tobytes())
    digest.update(data.targets.tobytes() + (data.text.digest.encode() if data.text else b""))
    return digest.hexdigest()[:16]


def _settings(config: Config) -> str:
    """Hash of what decides the weights beside the data."""
    settings = [TRAINER_VERSION, checkpoint.network(config.sasrec), config.run.seed]
    return hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16]


def due(config: Config) -> bool:
    """Whether train_sasrec would train on the histories that there are now."""
    present = [checkpoint.describe(checkpoint.folder(each)) for each in config.networks]
    if not all(present):
        return True
    data = training_data(embed.read_histories(config))
    pairs = zip(config.networks, present, strict=True)
    return not all(found and _kept(each, found, _with_text(each, data)) for each, found in pairs)


def _kept(config: Config, present: dict, data: TrainingData) -> str | None:
    """Why the checkpoint that is there need not be made anew; None where it must."""
    facts = present["facts"]
    if facts.get("made_from") == fingerprint(data, config):
        return "nothing has changed"
    if facts.get("settings") != _settings(config):
        return None
    before = checkpoint.load(checkpoint.folder(config)).vocabulary
    known = pc.index_in(data.vocabulary, value_set=before).is_valid().to_numpy(False)
    unknown = 1 - known[data.training.codes].mean()
    if config.run.days_from(facts["trained_on"]) >= config.sasrec.refresh_days or unknown > MOST_UNKNOWN:
        return None
    return f"trained on {facts['trained_on']}, sasrec.refresh_days={config.sasrec.refresh_days}"


def fit(
    data: TrainingData,
    settings: Sasrec,
    seed: int,
    bookmark: Bookmark | None = None,
    course: list[curve.Point] | None = None,
) -> tuple[Network, dict]:
    """The weights of the best epoch, and the facts for the ledger: epochs, loss, what `validate` says, device.

    `course` gets loss, ndcg_at_10 and hit_rate_at_10 of every epoch, of those before a bookmark, too. NDCG without a
    cut-off decides: of few validation users NDCG@10 is mostly zeros, and its best epoch chance.
    """
    device, course = _device(settings.device), [] if course is None else course
    rng = np.random.default_rng(seed)
    asked = _drawn(data, rng)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        model = _untrained(data, settings).to(device)
        windows = batches.windowed(data.training, settings.max_length)
        steps = math.ceil(len(windows) / settings.batch_size)
        optimizer, patience = _optimizer(model, settings, steps), max(settings.patience, math.ceil(PATIENCE / steps))
        best, facts, epoch = None, {"ndcg": -1.0, "ndcg_at_10": 0.0}, 0
        if bookmark and (before := bookmark.load(rng)):
            best, facts, epoch = before["best"], before["facts"], before["epoch"]
            course += before.get("course", [])
            model.load_state_dict(before["model"])
            optimizer.load_state_dict(before["optimizer"])
        with Progress("train_sasrec", total=(settings.epochs - epoch) * len(windows), unit="sequences") as progress:
            for epoch in range(epoch + 1, settings.epochs + 1):  # noqa: B020
                note = f"epoch {epoch}, best NDCG@10 {facts['ndcg_at_10']:.4f}"
                advance = partial(progress.advance, note=note)
                mean = _epoch(model, optimizer, windows, Epoch(settings, epoch, rng), advance)
                figures = validate(model, data, asked)
                course += curve.points(epoch, loss=mean, **{name: figures[name] for name in CURVES if len(asked)})
                if figures["ndcg"] > facts["ndcg"] or not len(asked):
                    best = {name: tensor.clone() for name, tensor in model.state_dict().items()}
                    facts = {"best_epoch": epoch, "loss": mean, **figures}
                elif epoch - facts["best_epoch"] >= patience:
                    break
                if bookmark:
                    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
                    bookmark.save(state | {"best": best, "facts": facts, "epoch": epoch, "course": course}, rng)
    model.load_state_dict(best)
    return model.cpu().eval(), facts | {"epochs": epoch, "device": device.type}


def validate(model: Network, data: TrainingData, rows: np.ndarray) -> dict[str, float]:
    """ndcg, ndcg_at_10 and hit_rate_at_10 of the held-out items over the full catalog, seen items out; one outside the
    vocabulary counts as a miss."""
    gains, near = [], []
    items = model.item_vectors.detach().cpu().numpy()
    for start in range(0, len(rows), VALIDATION_ROWS):
        part = rows[start : start + VALIDATION_ROWS]
        logits = embed.states(model, data.validation, part) @ items.T
        targets, each = data.targets[part], np.arange(len(part))
        found = logits[each, targets]
        for row, number in enumerate(part):
            logits[row, data.validation[number]] = -np.inf
        logits[each, targets] = -np.inf
        ranks = np.where(targets >= 0, 1 + (logits >= found[:, None]).sum(1), np.inf)
        gains.append(1 / np.log2(ranks + 1))
        near.append(ranks <= 10)
    gain, hit = (np.concatenate(parts) if parts else np.zeros(1) for parts in (gains, near))
    return {
        "ndcg": float(gain.mean()),
        "ndcg_at_10": float((gain * hit).mean()),
        "hit_rate_at_10": float(hit.mean()),
    }


def _untrained(data: TrainingData, settings: Sasrec) -> Network:
    vectors = torch.from_numpy(data.text.vectors(settings.text_dim)) if data.text else None
    return checkpoint.build(len(data.vocabulary), settings, vectors)


def _optimizer(model: Network, settings: Sasrec, steps: int) -> torch.optim.Optimizer:
    """Adam, for epochs of so many steps; weight decay, apart from the gradient, on the matrices of the layers alone.

    Adam's second moment must remember for some epochs how an item's vector moved when it was a target: with SASRec's
    published 0.98 a rarely taken item of a large shop forgets that within an epoch, and the small pushes of all
    softmaxes in which it was not the target, normalized to whole steps, drive it away from everybody.
    """
    memory = float(np.clip(REMEMBERED * steps, *MEMORY))
    tables = {id(parameter) for module in model.modules() if isinstance(module, torch.nn.Embedding)
              for parameter in module.parameters(recurse=False)}  # fmt: skip
    decayed = [one for one in model.parameters() if one.dim() > 1 and id(one) not in tables]
    others = [one for one in model.parameters() if one.dim() <= 1 or id(one) in tables]
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=settings.step_size, betas=(0.9, 1 - 1 / memory), fused=True)


def _epoch(
    model: Network, optimizer: torch.optim.Optimizer, windows: Sequences, epoch: Epoch, advance: Callable[[int], None]
) -> float:
    """Mean loss per position over one pass."""
    model.train()
    device, settings = model.items.weight.device, epoch.settings
    dtype = loss.precision(settings.precision, device)
    total = torch.zeros((), device=device)
    parts = list(batches.batches(windows.lengths, settings.batch_size, epoch.rng))
    for number, rows in enumerate(parts):
        codes, lengths = (tensor.to(device) for tensor in embed.pad(windows, rows, model.max_length + 1))
        hidden, targets = model(codes[:, :-1], lengths - 1), codes[:, 1:]
        real = targets != PADDING
        summed = loss.FullCatalogLoss.apply(hidden[real], model.item_vectors, targets[real] - 1, dtype)
        optimizer.zero_grad(set_to_none=True)
        (summed / real.sum()).backward()
        for group in optimizer.param_groups:
            group["lr"] = step_size(settings, (epoch.number - 1 + number / len(parts)) / settings.epochs)
        optimizer.step()
        total += summed.detach()
        advance(len(rows))
    return total.item() / int((windows.lengths - 1).sum())


def step_size(settings: Sasrec, done: float) -> float:
    """The optimizer's step size after a share of all epochs."""
    rise = min(1.0, done / settings.warmup + 1e-3) if settings.warmup else 1.0
    fall = (1 + math.cos(math.pi * done)) / 2 if settings.schedule == "cosine" else 1.0
    return settings.step_size * rise * fall


def _drawn(data: TrainingData, rng: np.random.Generator) -> np.ndarray:
    """Numbers of the validation questions that decide when to stop, those with something to predict from; short ones
    first, so that little of what is computed together is padding."""
    lengths = data.validation.lengths
    rows = np.flatnonzero(lengths > 0)
    rows = rng.choice(rows, VALIDATION_QUESTIONS, replace=False) if len(rows) > VALIDATION_QUESTIONS else rows
    return rows[np.argsort(lengths[rows], kind="stable")]


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("sasrec.device is cuda, but torch sees no GPU; set it to auto or cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
