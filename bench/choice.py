"""Scoring by choice and the forms of the prompt: candidates judged a second, and quality, on the same held-out items.

    make demo && python bench/choice.py [--lake build/lake] [--rounds 1] [--only pointwise choice] [--set a.b=value …]

Each way evaluates a copy of the sample shop's lake whose answers about pairs are deleted, by `mmsrarec evaluate`, turn
about. pairs/s are candidates judged a second after the engine's first batch; tokens are those of the prompts, computed
those that the prefix cache did not spare, both per pair. NDCG@10 is over the full catalog, of the cascade; AUC of
1 + 20. Ratios are to pointwise. `--set` goes to every way, such as recommend.training=untrained.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path
from statistics import median

from backbone import figures, mmsrarec

from mmsrarec.storage import tables

WAYS = {
    "pointwise": [],
    "choice": ["recommend.scoring=choice"],
    "compressed": ["recommend.prompt=compressed"],
    "description": ["recommend.prompt=description"],
    "compressed choice": ["recommend.prompt=compressed", "recommend.scoring=choice"],
}
CONFIG = "conf/demo.yaml"  # with an adapter that was taught choice, in the form of the prompt that is the default
FRESH = "sasrec.refresh_days=0"  # so that earlier figures are not shown again


def measured(way: str, arguments: argparse.Namespace) -> dict[str, float]:
    lake = arguments.out / way.replace(" ", "_")
    shutil.rmtree(lake, ignore_errors=True)
    shutil.copytree(arguments.lake, lake)
    tables.delete(str(lake), "answers", "kind <> 'text'")
    for stage in ("tune_recommender", "evaluate"):  # the first puts the demo's adapter in its place, and no more
        mmsrarec(stage, f"lake.root={lake}", FRESH, *WAYS[way], *arguments.set, config=CONFIG)
    rows = tables.read(str(lake), "runs", filters=[("stage", "=", "evaluate")]).sort_by("finished_at").to_pylist()
    row, notes = rows[-1], json.loads(rows[-1]["notes"])
    if row["rows_rejected"]:
        raise SystemExit(f"{way}: {row['rows_rejected']} pairs failed")
    share = row["rows_in"] / notes["engine_requests"]
    found = {
        "pairs/s": notes["requests_per_second"] * share,
        "tokens": row["prompt_tokens"] / row["rows_in"],
        "computed": (row["prompt_tokens"] - notes["cached_tokens"]) / row["rows_in"],
    }
    for (method, protocol, metric), figure in figures(lake).items():
        if method == "mmsrarec" and (metric == "ndcg@10" and "full" in protocol or metric == "auc@0"):
            found |= {metric: figure["value"], f"{metric} low": figure["low"], f"{metric} high": figure["high"]}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lake", type=Path, default=Path("build/lake"), help="what `make demo` left")
    parser.add_argument("--out", type=Path, default=Path("build/choice"))
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--set", action="append", default=[], metavar="a.b=value")
    arguments = parser.parse_args()
    results: dict[str, list[dict[str, float]]] = {way: [] for way in arguments.only}
    for number in range(arguments.rounds):
        for way in results if number % 2 == 0 else reversed(results):
            results[way].append(measured(way, arguments))
            print(f"round {number + 1} {way}: {results[way][-1]}", file=sys.stderr)
    medians = {way: {name: median(one[name] for one in found) for name in found[0]} for way, found in results.items()}
    base = medians.get("pointwise", next(iter(medians.values())))
    print(f"{'way':<20}{'pairs/s':>9}{'x':>7}{'tokens':>8}{'computed':>10}{'NDCG@10':>9}{'':>18}{'x':>6}{'AUC':>8}")
    for way, one in medians.items():
        interval = f"[{one['ndcg@10 low']:.4f}, {one['ndcg@10 high']:.4f}]"
        print(
            f"{way:<20}{one['pairs/s']:>9.0f}{one['pairs/s'] / base['pairs/s']:>7.2f}{one['tokens']:>8.0f}"
            f"{one['computed']:>10.0f}{one['ndcg@10']:>9.4f}{interval:>18}{one['ndcg@10'] / base['ndcg@10']:>6.2f}"
            f"{one['auc@0']:>8.3f}"
        )


if __name__ == "__main__":
    main()
