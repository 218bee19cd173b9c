"""What each family of evidence is worth to the fusion: `python bench/fusion.py CONFIG [--set …]`, after `mmsrarec
evaluate` with the same configuration and settings, on the lakes that it left.

The fusion is learned anew without the pieces of a family, which then are unknown in the test questions, too. Full
catalog, a target outside its pool is a miss. Prints HR@10 and NDCG@10, and the ratio of NDCG@10 to the fusion with
everything, with its 95% interval by users.
"""

import argparse
from pathlib import Path

import numpy as np

from mmsrarec.collaborative import fusion
from mmsrarec.collaborative import fusion_learning as learning
from mmsrarec.collaborative.pieces import related
from mmsrarec.collaborative.retrieve import Retriever
from mmsrarec.config import load
from mmsrarec.evaluation import fused, lakes, metrics, protocol

K = 10
FAMILIES = {  # the beginnings of their pieces
    "SASRec": ("sasrec", "vector_"),
    "the other networks": ("gru4rec", "text_sasrec", "text_gru4rec"),
    "item-item": ("follows", "together", "linear", *(f"{name}_" for name in related.NAMES)),
    "content": ("text_mean", "text_last", "text_best", "meaning_", "keywords", "similar_keywords"),
    "recency": ("recency",),
    "popularity": ("popularity", "recent"),
    "similar users": ("similar_users",),
}


def without(values: np.ndarray, pieces: tuple[str, ...], names: tuple[str, ...]) -> np.ndarray:
    """The evidence with some pieces unknown everywhere."""
    left = values.copy()
    left[..., [place for place, name in enumerate(pieces) if name.startswith(names)]] = np.nan
    return left


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    config = load(arguments.config, arguments.set)
    fit, asked, seed = lakes.place(config, "fit"), lakes.place(config, "test"), config.run.seed
    retriever = Retriever(fit)
    lessons = fused.lessons(retriever, protocol.load(fit, "validation", config.retrieve.fusion.max_users))
    pieces = retriever.preranker.pieces
    test = protocol.load(asked)
    known = fused.evidence(Retriever(asked), test)
    full = fused.outcome("fusion", learning.fit(pieces, *lessons, seed), known, test, K)
    base = gains(full)
    weights = metrics.resamples(test.asked_users, config.evaluation.bootstrap, seed)
    tell("everything", full, "")
    for family, names in FAMILIES.items():
        model = learning.fit(pieces, without(lessons[0], pieces, names), lessons[1], seed)
        shown = fused.Evidence(without(known.values, pieces, names), known.pools)
        found = fused.outcome("fusion", model, shown, test, K)
        over, under = (metrics.mean(each, test.owner) for each in (gains(found), base))
        share, low, high = metrics.estimate(metrics.ratio(over, under), weights)
        tell(f"without {family}", found, f"{share:.3f} [{low:.3f}, {high:.3f}]")
    tell("fixed weights", fused.outcome("fusion", fusion.fixed(pieces), known, test, K), "")


def gains(found: fused.Outcome) -> np.ndarray:
    return metrics.ndcg(found.full, K)


def tell(name: str, found: fused.Outcome, ratio: str) -> None:
    hits = metrics.hit_rate(found.full, K).mean()
    print(f"{name:22} HR@10 {100 * hits:6.2f}  NDCG@10 {100 * gains(found).mean():6.3f}  {ratio}", flush=True)


if __name__ == "__main__":
    main()
