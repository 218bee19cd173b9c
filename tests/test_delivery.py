"""Answers survive the driver that waits for them, and are committed once, whatever is repeated."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from mmsrarec.config import Config
from mmsrarec.engines import delivery
from mmsrarec.engines.answers import Answers
from mmsrarec.engines.delivery import Delivery, Origin
from mmsrarec.engines.types import Answer
from mmsrarec.storage import files, tables

# A driver that commits its first file, has a second committed but not yet deleted, gets a third, and is killed.
DRIVER = """
import os, signal, sys
sys.path.insert(0, sys.argv[2])
from test_delivery import answers, settings
from mmsrarec.engines import delivery
from mmsrarec.engines.delivery import Delivery, Origin

config = settings(sys.argv[1])
driver = Delivery(config, "asking-night")
for number in range(3):
    file = delivery.write(f"{driver.folder}/{number:06}.parquet", answers(number), Origin("2026-01-01", "asking", "night"))
    if number < 2:
        driver.add(file)
        driver.commit()
open(f"{driver.folder}/000003.answers.part", "wb").write(b"half a file")
os.kill(os.getpid(), signal.SIGKILL)
"""  # noqa: E501


TESTS = str(Path(__file__).parent)


def settings(root: str) -> Config:
    return Config(inputs={"items": "-", "interactions": "-"}, lake={"root": str(root)})


def answers(number: int) -> list[Answer]:
    good = [Answer(f"{number}-{place}", "yes_no", None, 0.5, 7, 3, 1) for place in range(3)]
    return [*good, Answer(f"{number}-error", "yes_no", error="too long")]


def keys(root: Path) -> list[str]:
    return sorted(tables.read(str(root), "answers")["key"].to_pylist())


EXPECTED = [f"{number}-{place}" for number in range(3) for place in range(3)]


def test_what_a_killed_driver_had_answered_is_committed_once(tmp_path: Path) -> None:
    driver = subprocess.run([sys.executable, "-c", DRIVER, str(tmp_path), TESTS], check=False)
    assert driver.returncode == -signal.SIGKILL
    assert keys(tmp_path) == EXPECTED[:6]
    delivery.recover(settings(tmp_path))
    assert keys(tmp_path) == EXPECTED
    assert set(tables.read(str(tmp_path), "answers")["run_id"].to_pylist()) == {"night"}
    assert not Path(delivery.folder(settings(tmp_path))).exists()


def test_a_recovery_that_was_killed_too_is_repeated(tmp_path: Path, monkeypatch) -> None:
    subprocess.run([sys.executable, "-c", DRIVER, str(tmp_path), TESTS], check=False)
    with monkeypatch.context() as patch:
        patch.setattr(files, "delete_folder", lambda _: None)  # as if it had died before
        delivery.recover(settings(tmp_path))
    delivery.recover(settings(tmp_path))
    assert keys(tmp_path) == EXPECTED
    assert not Path(delivery.folder(settings(tmp_path))).exists()


def test_what_an_engine_adds_that_outlives_its_driver_is_committed_too(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", DRIVER, str(tmp_path), TESTS], check=False)
    (left,) = Path(delivery.folder(settings(tmp_path))).iterdir()
    for number in (4, 5):
        delivery.recover(settings(tmp_path))
        delivery.write(str(left / f"00000{number}.parquet"), answers(number), Origin("2026-01-01", "asking", "night"))
    delivery.recover(settings(tmp_path))
    assert keys(tmp_path) == sorted([*EXPECTED, *(f"{number}-{place}" for number in (4, 5) for place in range(3))])


def test_a_file_is_answered_once(tmp_path: Path) -> None:
    file = str(tmp_path / "000000.parquet")
    assert delivery.written(file) is None
    written = delivery.write(file, answers(0), Origin("2026-01-01", "asking", "night"))
    assert delivery.written(file) == written
    assert delivery.read(written) == answers(0)
    assert [path.name for path in tmp_path.iterdir()] == ["000000.answers"]


def test_answers_in_use_move_on_and_others_go(tmp_path: Path) -> None:
    config, root = settings(tmp_path), str(tmp_path)
    old, last, now = (delivery._period(config, ago) for ago in (2, 1, 0))
    for number, period in enumerate((old, last, now)):
        with Delivery(config, "asking") as driver:
            driver.add(delivery.write(f"{driver.folder}/0.parquet", answers(number), Origin(period, "s", "run")))
            driver.commit()
    asking = Answers()
    asking.ask(["0-0", "1-0", "2-0", "new"])
    assert asking.recall(root, {"yes_no"}, now) == 3
    assert asking.missing(["0-0", "1-0", "2-0", "new"]) == {"new"}
    again = Answers()
    again.ask(["0-0"])
    assert again.recall(root, {"yes_no"}, now) == 1
    delivery.prune(config)
    left = sorted(zip(*(tables.read(root, "answers")[name].to_pylist() for name in ("key", "period")), strict=True))
    assert left == sorted(
        [("0-0", now), ("1-0", now), *((f"1-{p}", last) for p in range(3)), *((f"2-{p}", now) for p in range(3))]
    )
    assert os.listdir(tmp_path / "staging") == []
