"""What a night costs after a night: engine tokens where 1% of the items changed and 1% of the users acted.

    python bench/changes.py [--items 600] [--users 900] [--folder build/changes]

Three nights of a sample shop. Before the second, 1% of the items get another text that says the same and 1% of the
users take one more item; before the third it is others' turn, and the texts say something else. Prints the tokens of
each night by stage, and those of `recommend` by why they were needed: the user acted, or the prompt shows keywords that
are new.
"""

import argparse
import json
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mmsrarec.config import Config, load
from mmsrarec.demo.shop import MATERIALS, Item, write_shop, write_text
from mmsrarec.storage import tables

ROOT = Path(__file__).parent.parent
PROGRAM = [sys.executable, "-c", "from mmsrarec.cli import main; main()"]


def change(folder: Path, night: int, say_something_else: bool) -> tuple[set[str], set[str]]:
    """Change 1% of the shop in `folder`; the items and the users."""
    rng = random.Random(night)
    items = pq.read_table(folder / "items.parquet").to_pylist()
    truth = {row["item_id"]: row for row in json.loads((folder / "truth.json").read_text())}
    changed = {row["item_id"] for row in rng.sample(items, max(1, len(items) // 100))}
    for row in items:
        if row["item_id"] in changed and row["description"]:
            color, pattern, thing = truth[row["item_id"]]["image"]
            style, material, occasion = truth[row["item_id"]]["text"]
            if say_something_else:
                material = rng.choice([other for other in MATERIALS if other != material])
            said = Item(color, pattern, thing, style, material, occasion)
            row["title"], row["description"] = write_text(said, rng)
    pq.write_table(pa.Table.from_pylist(items), folder / "items.parquet")
    taken = pq.read_table(folder / "interactions.parquet").to_pylist()
    users = sorted({row["user_id"] for row in taken})
    acted = set(rng.sample(users, max(1, len(users) // 100)))
    last = max(row["timestamp"] for row in taken)
    for user in sorted(acted):
        seen = {row["item_id"] for row in taken if row["user_id"] == user}
        new = rng.choice([row["item_id"] for row in items if row["item_id"] not in seen])
        taken.append({"user_id": user, "item_id": new, "timestamp": last + 3600})
    pq.write_table(pa.Table.from_pylist(taken), folder / "interactions.parquet")
    return changed, acted


def settings(folder: Path, night: int) -> list[str]:
    inputs = {"items": "items.parquet", "interactions": "interactions.parquet", "images": "pictures"}
    values = {f"inputs.{name}": folder / file for name, file in inputs.items()}
    values |= {"lake.root": folder / "lake", "run.date": f"2026-03-0{night}"}
    return [f"{key}={value}" for key, value in values.items()]


def run(folder: Path, night: int) -> Config:
    given = settings(folder, night)
    arguments = [argument for setting in given for argument in ("--set", setting)]
    subprocess.run([*PROGRAM, "run", str(ROOT / "conf" / "local.yaml"), *arguments], check=True, cwd=folder)
    return load(ROOT / "conf" / "local.yaml", given)


def tokens(config: Config) -> dict[str, int]:
    """Of the last run, by stage."""
    rows = tables.read(config.lake.root, "runs").to_pylist()
    last = max(row["run_id"] for row in rows)
    return {row["stage"]: row["prompt_tokens"] + row["output_tokens"] for row in rows if row["run_id"] == last}


def needed(config: Config, changed: set[str], acted: set[str]) -> Counter:
    """Tokens of the last run's recommend by why they were needed."""
    from mmsrarec.engines.template import Template
    from mmsrarec.recommendation.recommend import knowns
    from mmsrarec.recommendation.scoring import Scorer
    from mmsrarec.recommendation.task import keywords_by_item
    from mmsrarec.storage import rules, runs

    answers = tables.read(config.lake.root, "answers").to_pylist()
    last = max(row["run_id"] for row in answers)
    cost = {row["key"]: row["prompt_tokens"] + row["output_tokens"] for row in answers if row["run_id"] == last}
    template = Template.of(config)
    keywords = keywords_by_item(tables.read(config.lake.root, "item_keywords", ["item_id", "keywords"]))
    scorer = Scorer(config, runs.Stage(config, "bench", "bench"), template, {})
    found: Counter = Counter()
    for known in knowns(config, keywords, rules.load(config)):
        shown = _shown(config, known)
        for group in scorer.groups(known):
            spent = sum(cost.get(request.key(template.identity), 0) for request in group.requests)
            why = "the user acted" if group.name in acted else "unexplained"
            if why == "unexplained" and shown[group.name] & changed:
                why = "new keywords in the prompt"
            found[why] += spent
    return found


def _shown(config: Config, known) -> dict[str, set[str]]:
    shown: dict[str, set[str]] = {}
    for row in known.users.to_pylist():
        shown.setdefault(row["user_id"], set()).update(row["item_ids"][-config.recommend.history :])
    for row in known.similar.to_pylist():
        shown.setdefault(row["user_id"], set()).add(row["next_item_id"])
    for row in known.pairs.to_pylist():
        shown.setdefault(row["user_id"], set()).add(row["item_id"])
    return shown


def report(night: int, spent: dict[str, int], first: dict[str, int], why: Counter) -> None:
    total = sum(first.values())
    print(f"night {night}: {sum(spent.values()):,} tokens, {sum(spent.values()) / total:.2%} of the first night's")
    for stage, count in {name: count for name, count in spent.items() if count}.items():
        print(f"  {stage:<32}{count:>12,}  {count / total:.2%}")
    for reason, count in why.items():
        print(f"    {reason:<30}{count:>12,}  {count / total:.2%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=600)
    parser.add_argument("--users", type=int, default=900)
    parser.add_argument("--folder", type=Path, default=Path("build/changes"))
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    write_shop(folder, items=arguments.items, users=arguments.users)
    first = tokens(run(folder, 1))
    print(f"night 1: {sum(first.values()):,} tokens: {first}")
    for night in (2, 3):
        changed, acted = change(folder, night, say_something_else=night == 3)
        config = run(folder, night)
        report(night, tokens(config), first, needed(config, changed, acted))


if __name__ == "__main__":
    main()
