"""Exact agreement of HR, NDCG and MRR with an independent implementation, ranx, on scores without ties."""

import numpy as np
import pytest

from mmsrarec.evaluation import metrics

ranx = pytest.importorskip("ranx")

QUESTIONS, ITEMS = 40, 30
OURS = {"hit_rate": metrics.hit_rate, "ndcg": metrics.ndcg, "mrr": metrics.mrr}


@pytest.mark.slow
def test_every_question_has_the_figures_that_ranx_gives_it() -> None:
    generator = np.random.default_rng(11)
    scores = np.argsort(generator.random((QUESTIONS, ITEMS)), axis=1).astype(float)
    targets = generator.integers(ITEMS, size=QUESTIONS)
    seen = generator.random(scores.shape) < 0.2
    rows = np.arange(QUESTIONS)
    seen[rows, targets] = False
    ranked = {
        f"q{row}": {f"i{item}": scores[row, item] for item in np.flatnonzero(~seen[row])} for row in range(QUESTIONS)
    }
    wanted = {f"q{row}": {f"i{target}": 1} for row, target in enumerate(targets)}
    names = [f"{name}@{k}" for name in OURS for k in (1, 5, 10)]
    run = ranx.Run(ranked)
    ranx.evaluate(ranx.Qrels(wanted), run, names, make_comparable=True)
    others = np.where(seen, np.nan, scores)
    others[rows, targets] = np.nan
    found = metrics.ranks(scores[rows, targets], others)
    for name, metric in OURS.items():
        for k in (1, 5, 10):
            ours = metric(found, k)
            theirs = [run.scores[f"{name}@{k}"][f"q{row}"] for row in range(QUESTIONS)]
            assert ours.tolist() == pytest.approx(theirs, abs=1e-12), f"{name}@{k}"
            assert 0 < ours.mean() < 1
