"""Questions about users of practice shops, as the pipeline itself asks them.

A practice shop goes through the pipeline's own stages, so its candidates, similar users and evidence are those that
the backbone meets later; only the keywords are the truth instead of summaries. Practice shops have seeds from
FIRST_SEED up, the sample shop has one below.
"""

import json
import random
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmsrarec import pipeline
from mmsrarec.collaborative.retrieve import Retriever
from mmsrarec.config import Config
from mmsrarec.demo.shop import Shop, make_shop, write_shop
from mmsrarec.evaluation import cascade, protocol
from mmsrarec.recommendation.task import Candidate, Known, Task, keywords_by_item, tasks
from mmsrarec.storage import runs, tables

FIRST_SEED = 100_000
MIDDLE = 8.0  # pull at which a candidate fits with probability one half
KEPT, BEST = 24, 10  # candidates kept of a question, and how many of them are the best fits
SHOWN, SIMILAR = 8, 5  # latest items and similar users' items that a question holds
# What a shop may lack. Every shop is asked about as it is, and once more with one of the others.
LACKS = ("nothing", "pictures", "texts", "similar users")


@dataclass(frozen=True)
class Question:
    """One user with candidates. fits[i] in (0, 1) is how well candidate i suits the user's next step in truth, which
    only the maker of the shop knows; lack is one of LACKS; the rest is as in recommendation.task.Task."""

    lack: str
    history: list[list[str]]
    similar: list[list[str]]
    keywords: list[list[str]]
    levels: list[str]
    fits: list[float]


def questions(folder: Path, number: int) -> list[Question]:
    """The questions of practice shop `number`; they stay in `folder`, so that a second call costs nothing."""
    kept = folder / f"shop-{number}.jsonl"
    if not kept.exists():
        lines = [json.dumps(asdict(question)) for question in _asked(folder / f"shop-{number}", number)]
        draft = kept.with_suffix(".draft")
        draft.write_text("\n".join(lines))
        draft.rename(kept)
        shutil.rmtree(folder / f"shop-{number}")
    return [Question(**json.loads(line)) for line in kept.read_text().splitlines()]


def _asked(folder: Path, number: int) -> Iterator[Question]:
    rng, seed = random.Random(number), FIRST_SEED + number
    size = {"items": rng.randint(300, 800), "users": rng.randint(600, 1000), "groups": rng.randint(4, 9)}
    shop = make_shop(seed, **size)
    write_shop(folder, seed, pictures=False, house="", **size)
    config = _config(folder)
    for stage in ("build_cf", "train_sasrec", "index_cf"):
        pipeline.run_stage(stage, config, runs.new_run_id())
    for lack in ("nothing", LACKS[1 + number % (len(LACKS) - 1)]):
        yield from _lacking(shop, _config(folder, lack), folder, lack, rng)


def _config(folder: Path, lack: str = "nothing") -> Config:
    settings = {
        "inputs": {"items": str(folder / "items.parquet"), "interactions": str(folder / "interactions.parquet")},
        "lake": {"root": str(folder / "lake")},
        "build_cf": {"test_fraction": 0.5},
        "recommend": {"history": SHOWN},
        "retrieve": {"similar_users": 0 if lack == "similar users" else SIMILAR},
    }
    return Config.model_validate(settings)


def _lacking(shop: Shop, config: Config, folder: Path, lack: str, rng: random.Random) -> Iterator[Question]:
    known = _true_keywords(folder, pictures=lack != "pictures", texts=lack != "texts")
    tables.replace(config.lake.root, "item_keywords", known)
    test = protocol.load(config)
    with Retriever(config) as retriever:
        similar = retriever.similar_users(test.users)
        candidates = cascade.by_user(retriever.candidates(test.users, similar))
        pairs = cascade.pairs_of(test, candidates)
        evidence = retriever.evidence(test.users, pairs, similar)
    targets = dict(zip(test.users["user_id"].to_pylist(), (test.items[place] for place in test.targets), strict=True))
    for task in tasks(config, Known(test.users, similar, pairs, evidence, keywords_by_item(known))):
        user = int(task.user_id.removeprefix("user-"))
        if targets[task.user_id] == _name(shop.journeys[user][-1]):  # the last step is what pull is about
            yield _question(lack, task, shop.pull[user], rng)


def _question(lack: str, task: Task, pull: np.ndarray, rng: random.Random) -> Question:
    def fit(candidate: Candidate) -> float:
        return float(1 / (1 + np.exp(MIDDLE - pull[int(candidate.item_id.removeprefix("item-"))])))

    ordered = sorted(task.candidates, key=fit, reverse=True)
    rest = ordered[BEST:]
    kept = [*ordered[:BEST], *rng.sample(rest, min(len(rest), KEPT - BEST))]
    words, levels = [candidate.keywords for candidate in kept], [candidate.levels or "" for candidate in kept]
    return Question(lack, task.history, task.similar, words, levels, [round(fit(candidate), 4) for candidate in kept])


def _name(item: int) -> str:
    return f"item-{item:04d}"


def _true_keywords(folder: Path, pictures: bool, texts: bool) -> pa.Table:
    """The table item_keywords as a summarizer without a fault would write it."""
    truth = {row["item_id"]: row for row in json.loads((folder / "truth.json").read_text())}
    rows = []
    for item in pq.read_table(folder / "items.parquet", columns=["item_id", "image"]).to_pylist():
        known = truth[item["item_id"]]
        image = known["image"] if pictures and item["image"] else []
        text = known["text"] if texts and known["has_text"] else []
        row = {"item_id": item["item_id"], "image_keywords": image, "text_keywords": text, "keywords": image + text}
        rows.append(row)
    return tables.from_rows("item_keywords", rows)
