"""What the fusion is worth on real data, leave-one-out: `python bench/fusion.py --interactions F --items F [--out F]`.

Every user's last item is asked of the test users, the one before of the users who teach. Two worlds: in the first,
models and counts know neither, and the fusion and the trees learn in it; in the second they know the item before the
last, and everything is asked there. Full catalog, seen items out, a target outside the pool is a miss. Prints HR@10 and
NDCG@10, and the ratio to SASRec with its 95% interval, paired by user.
"""

import argparse
import json
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from scipy import sparse

from mmsrarec.collaborative import ease, embed, fusion, matrices
from mmsrarec.collaborative import fusion_learning as learning
from mmsrarec.collaborative.embed import Sequences
from mmsrarec.collaborative.pieces import content, counting, counts, table
from mmsrarec.collaborative.pieces.context import Context
from mmsrarec.collaborative.pieces.pool import Batch, ask
from mmsrarec.collaborative.prerank import sizes
from mmsrarec.config import Fusion, Sasrec
from mmsrarec.evaluation import boosting, metrics
from mmsrarec.training.sasrec_trainer import TrainingData, fit

BATCH, NEIGHBORS, POSITIONS, K = 256, 100, 5, 10
BASELINES = ("popularity", "item-kNN", "transitions", "EASE", "TF-IDF")


class World:
    """Everything learned from the histories without their last `held_out` items."""

    def __init__(self, histories: Sequences, texts: list[str], held_out: int, arguments: argparse.Namespace):
        self.training, self.items = shortened(histories, held_out), len(texts)
        both = counting.gram(self.training, self.items)
        nothing = Sequences(np.zeros(0, np.int32), np.zeros(1, np.int64))
        data = TrainingData(pa.array(range(self.items)), self.training, nothing, np.zeros(0, np.int64))
        settings = Sasrec(epochs=arguments.epochs, patience=arguments.epochs, batch_size=arguments.batch)
        self.model, facts = fit(data, settings, arguments.seed)
        say(f"SASRec trained, loss {facts['loss']:.3f}")
        text, popularity = content.text_rows(texts), both.diagonal().astype(float)
        known = popularity > 0
        fits = self.items <= arguments.ease_items
        self.context = Context(
            popularity=popularity,
            recent=counting.recent(self.training, None, self.items),
            clock=counting.clock(self.training, None, self.items),
            together=counting.cosine(both),
            follows=counting.transitions(self.training, self.items, 5, 0.8),
            linear=ease.weights(both, 100.0) if fits else None,
            text=text,
            meaning=content.meaning_vectors(text, arguments.seed),
            keywords=sparse.csr_array((self.items, 1), dtype=np.float32),
            sequence=np.where(known[:, None], self.model.item_vectors.detach().numpy(), 0).astype(np.float32),
            known=known,
        )
        say("counts, EASE and text made")
        self.keys, self.owners, self.nexts = self._positions()

    def _positions(self) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
        """States at the latest positions of every history, whose they are, and the item taken next."""
        rows, nexts = [], []
        for row in range(len(self.training)):
            taken = self.training[row]
            for place in range(max(1, len(taken) - POSITIONS), len(taken)):
                rows.append((row, taken[:place]))
                nexts.append(taken[place])
        prefixes = sequences([codes for _, codes in rows])
        keys = embed.unit(embed.states(self.model, prefixes))
        return torch.from_numpy(keys), np.array([row for row, _ in rows]), np.array(nexts)

    def batches(self, users: np.ndarray) -> Iterator[tuple[np.ndarray, Batch]]:
        for start in range(0, len(users), BATCH):
            part = users[start : start + BATCH]
            histories = sequences([self.training[row] for row in part])
            states = embed.states(self.model, histories)
            yield part, Batch(histories, states, self._votes(part, embed.unit(states)))

    def _votes(self, users: np.ndarray, states: np.ndarray) -> sparse.csr_array:
        near, places = torch.topk(torch.from_numpy(states) @ self.keys.T, min(NEIGHBORS + POSITIONS, len(self.keys)))
        weights = near.numpy() * (self.owners[places.numpy()] != users[:, None])
        rows = np.repeat(np.arange(len(users)), places.shape[1])
        cells = np.maximum(weights, 0).ravel(), (rows, self.nexts[places.numpy()].ravel())
        return sparse.csr_array(cells, shape=(len(users), self.items))


def sequences(rows: list[np.ndarray]) -> Sequences:
    codes = np.concatenate(rows) if rows else np.zeros(0)
    return Sequences(codes.astype(np.int32), np.concatenate([[0], np.cumsum([len(row) for row in rows])]))


def shortened(histories: Sequences, count: int) -> Sequences:
    return sequences([histories[row][: len(histories[row]) - count] for row in range(len(histories))])


def read(arguments: argparse.Namespace) -> tuple[Sequences, list[str]]:
    """Histories in time order of everybody with four items or more, and the items' texts."""
    items = pq.read_table(arguments.items).sort_by("item_id")
    taken = pq.read_table(arguments.interactions).sort_by([("user_id", "ascending"), ("timestamp", "ascending")])
    codes = matrices.codes(taken["item_id"], items["item_id"].combine_chunks())
    _, starts = np.unique(taken["user_id"].to_numpy(), return_index=True)
    rows = [row for row in np.split(codes, starts[1:]) if len(row) >= 4]
    return sequences(rows[: arguments.users]), [title or "" for title in items["title"].to_pylist()]


def asked(world: World, users: np.ndarray, targets: np.ndarray, baselines: bool) -> tuple[np.ndarray, np.ndarray, dict]:
    """Evidence of the pools, places of the targets in them, and the targets' ranks by every baseline."""
    values, places, ranks, start = [], [], {}, 0
    for part, batch in world.batches(users):
        wanted = targets[start : start + len(part)]
        start += len(part)
        question, _ = ask(world.context, batch, np.ones(world.items, bool), sizes(Fusion()))
        values.append(table.values(world.context, question))
        places.append(learning.answers(question.pool, wanted))
        if baselines:
            for name, scores in over_catalog(world.context, batch, question.logits).items():
                ranks.setdefault(name, []).append(rank(scores, batch.histories, wanted))
    width = max(part.shape[1] for part in values)
    filled = [np.pad(part, ((0, 0), (0, width - part.shape[1]), (0, 0)), constant_values=np.nan) for part in values]
    return np.concatenate(filled), np.concatenate(places), {name: joined(parts) for name, parts in ranks.items()}


def over_catalog(context: Context, batch: Batch, logits: np.ndarray) -> dict[str, np.ndarray]:
    latest, dense = matrices.latest(batch.histories, context.items), counts.linear_scores(context, batch.histories)
    scores = (
        np.broadcast_to(context.popularity, logits.shape),
        (counting.taken(batch.histories, context.items) @ context.together).toarray(),
        (latest @ context.follows).toarray(),
        dense if isinstance(dense, np.ndarray) else dense.toarray(),
        (latest @ context.text @ context.text_columns).toarray(),
    )
    return {"SASRec": logits, **dict(zip(BASELINES, scores, strict=True))}


def rank(scores: np.ndarray, seen: Sequences, targets: np.ndarray) -> metrics.Ranks:
    each, others = np.arange(len(targets)), np.array(scores, float)
    found = others[each, targets]
    others[seen.rows, seen.codes] = np.nan
    others[each, targets] = np.nan
    return metrics.ranks(np.where(np.isfinite(found), found, np.nan), others)


def in_pool(scores: np.ndarray, places: np.ndarray) -> metrics.Ranks:
    each, others = np.arange(len(places)), np.where(np.isfinite(scores), scores, np.nan).astype(float)
    found = np.where(places >= 0, others[each, places], np.nan)
    others[each[places >= 0], places[places >= 0]] = np.nan
    return metrics.ranks(found, others)


def joined(parts: list[metrics.Ranks]) -> metrics.Ranks:
    return metrics.Ranks(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in ("above", "tied", "others"))
    )


def without(values: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """The evidence with some pieces unknown everywhere."""
    left = values.copy()
    left[:, :, [place for place, name in enumerate(table.PIECES) if name.startswith(names)]] = np.nan
    return left


FAMILIES = {
    "SASRec": ("sasrec",),
    "item-item": ("follows", "together", "linear"),
    "content": ("text", "meaning"),
    "recency": ("recency",),
    "popularity": ("popularity", "recent"),
    "similar users": ("similar_users",),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--interactions", required=True)
    parser.add_argument("--items", required=True)
    parser.add_argument("--users", type=int, default=None, help="the first so many users only")
    for name, value in {
        "learn": 16_000,
        "test": 5_000,
        "epochs": 12,
        "batch": 128,
        "seed": 17,
        "ease-items": 25_000,
    }.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--families", action="store_true", help="also the fusion without each family of evidence")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    histories, texts = read(arguments)
    rng = np.random.default_rng(arguments.seed)
    teachers, testers = (
        np.sort(rng.choice(len(histories), min(count, len(histories)), replace=False))
        for count in (arguments.learn, arguments.test)
    )
    from_end = lambda users, age: histories.codes[histories.offsets[users + 1] - age].astype(np.int64)  # noqa: E731
    world = World(histories, texts, 2, arguments)
    values, places, _ = asked(world, teachers, from_end(teachers, 2), baselines=False)
    del world
    say(f"pools of {np.isfinite(values[..., -1]).sum(axis=1).mean():.0f} items, recall {np.mean(places >= 0):.3f}")
    learned = learning.fit(values, places, arguments.seed)
    say(f"fusion learned: {learned.facts}")
    trees = boosting.fit(learned, values, places, arguments.seed)
    fusions = {"linear fusion": learned}
    if arguments.families:
        fusions |= {
            f"without {family}": learning.fit(without(values, names), places, arguments.seed)
            for family, names in FAMILIES.items()
        }
    del values
    found, spots, ranks = asked(World(histories, texts, 1, arguments), testers, from_end(testers, 1), baselines=True)
    ranks["fixed weights"] = in_pool(fusion.fixed().score(found), spots)
    for name, each in fusions.items():
        shown = without(found, FAMILIES[name.removeprefix("without ")]) if name.startswith("without") else found
        ranks[name] = in_pool(each.score(shown), spots)
    ranks["gradient boosting"] = in_pool(trees.score(found), spots)
    report(ranks, arguments, float(np.mean(spots >= 0)))


def report(ranks: dict[str, metrics.Ranks], arguments: argparse.Namespace, recall: float) -> None:
    base = metrics.ndcg(ranks["SASRec"], K)
    weights = metrics.resamples(len(base), 1000, arguments.seed)
    rows = []
    print(f"{len(base):,} test users, recall of the pools {recall:.3f}")
    for name, each in ranks.items():
        hr, ndcg = metrics.hit_rate(each, K), metrics.ndcg(each, K)
        ratio = metrics.estimate(lambda chosen, ndcg=ndcg: (chosen @ ndcg) / (chosen @ base), weights)
        rows.append({"ranker": name, "hr": hr.mean(), "ndcg": ndcg.mean(), "ratio": ratio})
        figures = f"HR@10 {100 * hr.mean():6.2f}  NDCG@10 {100 * ndcg.mean():6.2f}"
        print(f"{name:22} {figures}  ratio {ratio[0]:.2f} [{ratio[1]:.2f}, {ratio[2]:.2f}]")
    say("done")
    if arguments.out:
        arguments.out.write_text(
            json.dumps({"arguments": vars(arguments), "recall": recall, "rows": rows}, default=str, indent=1)
        )


STARTED = time.monotonic()


def say(what: str) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"[{time.monotonic() - STARTED:6.0f} s, peak {peak:.1f} GiB] {what}", flush=True)


if __name__ == "__main__":
    main()
