"""Kill a night again and again, at random moments, and see whether its tables are those of an undisturbed one.

    python bench/chaos.py [--kills 100] [--seed 1] [--folder build/chaos] [--calm LAKE]

A small shop goes through `mmsrarec run` once undisturbed. Then nights of it are started, and at a random moment one of
the processes that are there (the driver, the engine, another process of Ray, Spark's JVM: random kind, random process)
gets kill -9. The moment: every stage, short or long, is killed with the same probability, at any time within it. A
command that survives that may meet another kill, one that does not is started again at once, until the night is
complete; then every table is compared with the undisturbed night's, and a new night begins in an empty lake. All the
while a reader looks for lists and answers that are not whole. Ends with status 1 if a row was lost, doubled or
different, half a night was seen, or a command hung.
"""

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import processes
from nights import TOLERANCE, Differences, Reader, compared, leftovers

from mmsrarec.demo.shop import write_shop
from mmsrarec.pipeline import STAGES
from mmsrarec.storage import tables

ROOT = Path(__file__).parent.parent
PROGRAM = [sys.executable, "-c", "from mmsrarec.cli import main; main()"]
MOST_FAILURES = 3  # of a command in a row without a kill
KILL_PROBABILITY = 0.6  # of a stage, every time that it is started
HANGS = 4.0  # times an undisturbed night, after which a command hangs
SETTINGS = {
    "run.date": "2026-03-01",
    "sasrec.epochs": 3,
    "build_cf.test_fraction": 0.3,
    "retrieve.candidates": 12,
    "engine.enforce_eager": True,
    "engine.batch_rows": 4,  # more files in flight, so that more moments are different
    "spark.shuffle_partitions": 2,
    "spark.driver_memory": "1g",
}


def settings(shop: Path, lake: Path) -> list[str]:
    """What a night is run with, as a.b=value."""
    inputs = {"items": "items.parquet", "interactions": "interactions.parquet", "images": "pictures"}
    values = {f"inputs.{name}": shop / file for name, file in inputs.items()} | SETTINGS | {"lake.root": lake}
    return [f"{key}={value}" for key, value in values.items()]


class Night:
    """One lake, and the command that fills it."""

    def __init__(self, shop: Path, lake: Path):
        arguments = [argument for setting in settings(shop, lake) for argument in ("--set", setting)]
        self.lake, self.command = lake, [*PROGRAM, "run", str(ROOT / "conf" / "local.yaml"), *arguments]
        shutil.rmtree(lake, ignore_errors=True)
        lake.mkdir(parents=True)
        self.log = lake.with_suffix(".log")
        self.log.unlink(missing_ok=True)

    def start(self) -> subprocess.Popen:
        self._before = self.log.stat().st_size if self.log.exists() else 0
        with open(self.log, "a") as log:
            return subprocess.Popen(self.command, cwd=self.lake.parent, stdout=log, stderr=log, start_new_session=True)

    def stage(self) -> str:
        """The stage that the log says has started last."""
        found = [line.split(":")[0] for line in self._lines() if line.endswith(": started")]
        return found[-1] if found else "start"

    def left(self) -> list[str]:
        """The stages that no command has completed yet."""
        completed = {line.split(":")[0] for line in self._lines() if ": completed in " in line}
        return [name for name in STAGES if name not in completed]

    def reaches(self, stage: str, command: subprocess.Popen) -> bool:
        """Wait until the command has started that stage; False where it ends before."""
        while f"\n{stage}: started" not in self.log.read_bytes()[self._before :].decode(errors="replace"):
            if command.poll() is not None:
                return False
            time.sleep(0.05)
        return True

    def _lines(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


class Chaos:
    """Counts what it does: kills by target and by stage, and what became of them."""

    def __init__(self, folder: Path, seed: int):
        self.folder, self.random = folder, random.Random(seed)
        self.seconds: dict[str, float] = {}  # of an undisturbed night, by stage
        self.targets, self.stages, self.outcomes = Counter(), Counter(), Counter()
        self.watches: list[threading.Thread] = []
        self.differences = Differences()

    def undisturbed(self, calm: Path | None) -> Path:
        """The lake of a night that nothing happened to: `calm`, or a new one."""
        if calm is None:
            night = Night(self.folder / "shop", self.folder / "calm")
            if night.start().wait() != 0:
                raise SystemExit(f"the undisturbed night failed; see {night.log}")
            calm = night.lake
        ledger = tables.read(str(calm), "runs").to_pylist()
        self.seconds = {row["stage"]: (row["finished_at"] - row["started_at"]).total_seconds() for row in ledger}
        print(f"undisturbed night: {self.whole:.0f} s", flush=True)
        return calm

    @property
    def whole(self) -> float:
        """Seconds of an undisturbed night."""
        return sum(self.seconds.values())

    def night(self, calm: Path, kills: int) -> None:
        """One night with at most `kills` kills."""
        night = Night(self.folder / "shop", self.folder / "lake")
        most, failures, status = self.targets.total() + kills, 0, None
        with Reader(night.lake, calm) as reader:
            while status != 0:
                command, killed = night.start(), 0
                try:
                    while self.targets.total() < most and self._kill(night, command):
                        killed += 1
                    status = self._end(night, command)
                finally:
                    command.kill()
                self.outcomes["resumes"] += status != 0
                self.outcomes["healed"] += killed if status == 0 else max(killed - 1, 0)
                failures = 0 if killed else failures + 1
                if status != 0 and failures > MOST_FAILURES:
                    raise SystemExit(f"fails by itself in {night.stage()}; see {night.log}")
        for thread in self.watches:
            thread.join()
        self.outcomes["nights"] += 1
        self.outcomes["half-visible"] += reader.half_visible
        self.outcomes["looks"] += reader.looks
        self.outcomes["left behind"] += len(leftovers(night.lake))
        self.differences.add(compared(calm, night.lake))

    def _kill(self, night: Night, command: subprocess.Popen) -> bool:
        """Kill one process of the command, unless it ends before; whether."""
        stage = next((name for name in night.left() if self.random.random() < KILL_PROBABILITY), None)
        if stage is None or not night.reaches(stage, command):
            return False
        try:
            command.wait(self.random.uniform(0, self.seconds[stage]))
            return False
        except subprocess.TimeoutExpired:
            there = processes.by_kind(command.pid)
        if not there:
            return False
        kind = self.random.choice(sorted(there))
        victim = self.random.choice(there[kind])
        self.targets[kind] += 1
        self.stages[night.stage()] += 1
        print(f"kill {self.targets.total()}: {kind} ({victim.name}) in {night.stage()}", flush=True)
        victim.kill()
        if kind == "driver":
            family = [process for some in there.values() for process in some]
            self.watches.append(threading.Thread(target=self._watch, args=(family,)))
            self.watches[-1].start()
        return True

    def _watch(self, family: list[processes.Process]) -> None:
        self.outcomes["orphans"] += len(processes.outliving(family))

    def _end(self, night: Night, command: subprocess.Popen) -> int:
        """The command's status; one that hangs is killed."""
        try:
            return command.wait(HANGS * self.whole)
        except subprocess.TimeoutExpired:
            self.outcomes["hung"] += 1
            print(f"hangs in {night.stage()}; see {night.log}", flush=True)
            command.kill()
            return command.wait()

    def report(self, seconds: float) -> int:
        kills, out = self.targets.total(), self.outcomes
        print(f"\n{kills} kills in {out['nights']} nights, {seconds / 60:.1f} minutes")
        print(f"of {dict(self.targets)}\nin {dict(self.stages)}")
        print(f"resumes {out['resumes']}, healed within the run {out['healed']}, hung {out['hung']}")
        found = self.differences
        print(f"lost {found.lost}, doubled {found.doubled}, different {found.different} (tolerance {TOLERANCE:g})")
        print(f"half-visible {out['half-visible']} of {out['looks']} looks")
        print(f"processes left {out['orphans']}, files left {out['left behind']}")
        for line in found.examples:
            print(f"  {line}")
        figures = {"kills": kills, "lost": found.lost, "doubled": found.doubled, "different": found.different}
        print(json.dumps(figures | {name: out[name] for name in ("resumes", "half-visible", "orphans", "hung")}))
        return int(found.any or out["half-visible"] or out["hung"] > 0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path("build/chaos"))
    parser.add_argument("--calm", type=Path, help="lake of an undisturbed night with the same settings")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    write_shop(folder / "shop", seed=7, items=60, users=80)
    chaos = Chaos(folder, arguments.seed)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    calm, started = chaos.undisturbed(arguments.calm), time.monotonic()
    while (left := arguments.kills - chaos.targets.total()) > 0:
        chaos.night(calm, left)
    return chaos.report(time.monotonic() - started)


if __name__ == "__main__":
    sys.exit(main())
