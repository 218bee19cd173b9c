"""Ten thousand bad rows through every stage of a night, and what became of each.

    python bench/hostile.py [--rows 10000] [--seed 1] [--folder build/hostile]

A small shop goes through `mmsrarec run` as it is, and again with the rows of hostile_rows.py added to it; then `check`,
and `explain` of a bad user and of a bad item, and `report`. Prints how many rows were processed, rejected by reason and
lost, what was not as the row knows it, and the peak memory of all processes of both runs. Ends with status 1 if a row
was lost or became what it may not, or a command failed.
"""

import argparse
import json
import shutil
import sys
import time
from pathlib import Path

import hostile_rows
import psutil
from chaos import SETTINGS
from hostile_fates import LOST, counts, fates, unexpected

from mmsrarec.demo.shop import write_shop
from mmsrarec.storage import tables

ROOT = Path(__file__).parent.parent
PROGRAM = [sys.executable, "-c", "from mmsrarec.cli import main; main()"]
KNOWN = [f"item-{number:04d}" for number in range(1, 9)]


def settings(shop: Path, lake: Path, interactions: str) -> list[str]:
    """Arguments of a night; most rows may be rejected, for most are bad."""
    values = {
        "inputs.items": shop / "items.parquet",
        "inputs.interactions": shop / interactions,
        "inputs.images": shop / "pictures",
        **SETTINGS,
        "run.error_budget": 0.95,
        "lake.root": lake,
    }
    return [argument for name, value in values.items() for argument in ("--set", f"{name}={value}")]


def measured(command: str, given: list[str], log: Path, *more: str) -> dict:
    """Run `mmsrarec COMMAND`; exit status, seconds, peak memory (MiB) of all its processes, shared parts once."""
    started, peak = time.monotonic(), 0.0
    with open(log, "a") as output:
        arguments = [*PROGRAM, command, str(ROOT / "conf" / "local.yaml"), *given, *more]
        running = psutil.Popen(arguments, cwd=log.parent, stdout=output, stderr=output)
        while running.poll() is None:
            peak = max(peak, _memory(running))
            time.sleep(1)
    return {"status": running.returncode, "seconds": round(time.monotonic() - started), "peak_mib": round(peak / 2**20)}


def _memory(running: psutil.Process) -> float:
    total = 0
    try:
        for process in [running, *running.children(recursive=True)]:
            total += process.memory_full_info().pss
    except psutil.Error:  # one of them has just ended
        return 0
    return total


def night(folder: Path, count: int, seed: int) -> dict:
    """Both runs and what came of the rows."""
    folder, bad = folder.resolve(), folder.resolve() / "bad"
    shutil.rmtree(folder, ignore_errors=True)
    write_shop(folder / "good", seed=7, items=60, users=80)
    shutil.copytree(folder / "good", bad)
    rows = hostile_rows.make(count, seed, KNOWN)
    hostile_rows.write(bad, rows)
    calm = measured("run", settings(folder / "good", folder / "calm", "interactions.parquet"), folder / "calm.log")
    given, log = settings(bad, folder / "lake", "interactions.csv"), folder / "hostile.log"
    found = {"rows": len(rows), "calm_run": calm, "run": measured("run", given, log)}
    lake = str(folder / "lake")
    became = fates(lake, rows)
    found |= {"became": counts(became), "lost": list(became.values()).count(LOST)}
    found["unexpected"] = [(row.number, row.kind, fate) for row, fate in unexpected(rows, became)]
    users = [user for user in tables.read(lake, "histories", ["user_id"])["user_id"].to_pylist() if "#" in user]
    items = [item for item in tables.read(lake, "catalog", ["item_id"])["item_id"].to_pylist() if "#" in item]
    told = {f"explain user {number}": ("explain", f"--user={users[number]}") for number in _few(users)}
    told |= {f"explain item {number}": ("explain", f"--item={items[number]}") for number in _few(items)}
    told |= {"check": ("check",), "report": ("report",)}
    found["commands"] = {name: measured(words[0], given, log, *words[1:])["status"] for name, words in told.items()}
    return found


def _few(ids: list[str]) -> list[int]:
    """Places of some ids that a command line can carry."""
    return [number for number in range(0, len(ids), max(1, len(ids) // 3)) if "\0" not in ids[number]][:3]


def bad_ending(found: dict) -> bool:
    failed = [status for name, status in found["commands"].items() if status and name != "check"]
    return bool(failed or found["lost"] or found["unexpected"] or found["run"]["status"] or found["calm_run"]["status"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path("build/hostile"))
    arguments = parser.parse_args()
    found = night(arguments.folder, arguments.rows, arguments.seed)
    print(json.dumps(found, indent=1, ensure_ascii=False))
    sys.exit(bad_ending(found))


if __name__ == "__main__":
    main()
