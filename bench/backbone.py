"""Does the small backbone earn its place? Keywords on an unseen shop, and what each kind of evidence brings.

    make demo && python bench/backbone.py [--keywords] [--lake build/lake] [--out build/backbone]

Keywords: F1 of image and text keywords against the truth, on a shop that is neither the sample nor a lesson; as the
lessons wrote their texts, and with the sample shop's own sentence under each, untuned and by the demo's adapter. Lists:
the sample shop as it is, then without pictures, without texts and without similar users, each evaluated by `mmsrarec
evaluate` on the same held-out items; ratios of NDCG@10 over the full catalog to the unchanged shop.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from mmsrarec.demo.shop import HOUSE, write_shop
from mmsrarec.storage import tables

PROGRAM = Path(sys.executable).parent / "mmsrarec"
UNTUNED, TUNED = "conf/local.yaml", "conf/demo.yaml"
SHOPS = (
    ("as taught", "", UNTUNED),
    ("house sentence, untuned", HOUSE, UNTUNED),
    ("house sentence, tuned", HOUSE, TUNED),
)
CHANGED = ("tune_summarizer", "summarize_items", "retrieve", "tune_recommender", "evaluate")  # what a variant changes
VARIANTS = {
    "without pictures": ["summarize_items.use_images=false"],
    "without texts": ["summarize_items.use_text=false"],
    "without similar users": ["retrieve.similar_users=0"],
    "without evidence": ["recommend.evidence=false"],
}


def mmsrarec(stage: str, config: str, *settings: str) -> None:
    flags = [argument for setting in settings for argument in ("--set", setting)]
    subprocess.run([str(PROGRAM), stage, config, *flags], check=True)


def keyword_f1(out: Path, items: int, house: str, config: str) -> dict[str, float]:
    """Mean F1 per modality over the items that have it."""
    shop, lake = out / "unseen_shop", out / "unseen_lake"
    shutil.rmtree(lake, ignore_errors=True)
    write_shop(shop, seed=31, house=house, items=items, users=100)
    names = {"items": "items.parquet", "interactions": "interactions.parquet", "images": "pictures"}
    inputs = [f"inputs.{key}={shop / name}" for key, name in names.items()]
    for stage in ("build_cf", "tune_summarizer", "summarize_items"):
        mmsrarec(stage, config, *inputs, f"lake.root={lake}")
    truth = {row["item_id"]: row for row in json.loads((shop / "truth.json").read_text())}
    scores: dict[str, list[float]] = {"image": [], "text": []}
    for row in tables.read(str(lake), "item_keywords").to_pylist():
        for kind, found in (("image", row["image_keywords"]), ("text", row["text_keywords"])):
            if kind == "image" and row["image_ok"] or kind == "text" and truth[row["item_id"]]["has_text"]:
                true = set(truth[row["item_id"]][kind])
                scores[kind].append(2 * len(true & set(found)) / (len(true) + len(found)))
    return {kind: float(np.mean(values)) for kind, values in scores.items()}


def figures(lake: Path) -> dict[tuple[str, str, str], dict]:
    rows = tables.read(str(lake), "evaluation").to_pylist()
    last = max(row["run_id"] for row in rows)
    last_rows = [row for row in rows if row["run_id"] == last and row["low"] is not None]
    return {(row["method"], row["protocol"], f"{row['metric']}@{row['k']}"): row for row in last_rows}


def show(name: str, lake: Path, base: float | None) -> float:
    found = figures(lake)
    value = 0.0
    for (method, protocol, metric), row in sorted(found.items()):
        if method == "mmsrarec" or base is None:
            ratio = ""
            if method == "mmsrarec" and "full" in protocol and metric.lower() == "ndcg@10":
                value = row["value"]
                ratio = f"  x {value / (base or value):.2f}"
            interval = f"[{row['low']:.4f}, {row['high']:.4f}]"
            print(f"{name:24} {method:18} {protocol:26} {metric:12} {row['value']:.4f} {interval}{ratio}")
    return value


def lists(out: Path, shown: Path) -> None:
    """What each kind of evidence brings to the lists of the lake `shown`."""
    for name, settings in VARIANTS.items():
        lake = out / name.replace(" ", "_")
        shutil.rmtree(lake, ignore_errors=True)
        shutil.copytree(shown, lake)
        for stage in CHANGED:
            mmsrarec(stage, TUNED, f"lake.root={lake}", *settings)
    base = show("as it is", shown, None)
    for name in VARIANTS:
        show(name, out / name.replace(" ", "_"), base)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/backbone"))
    parser.add_argument("--lake", type=Path, default=Path("build/lake"), help="what `make demo` left")
    parser.add_argument("--items", type=int, default=200, help="items of the unseen shop")
    parser.add_argument("--keywords", action="store_true", help="the keywords alone")
    arguments = parser.parse_args()
    if not arguments.keywords:
        lists(arguments.out, arguments.lake)
    found = [(name, keyword_f1(arguments.out, arguments.items, house, config)) for name, house, config in SHOPS]
    for name, f1 in found:
        print(f"keyword F1 on an unseen shop, {name}: image {f1['image']:.3f}, text {f1['text']:.3f}")


if __name__ == "__main__":
    main()
