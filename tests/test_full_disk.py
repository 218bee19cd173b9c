"""A disk that is really full: a message in words, and after making room the same command completes.

Needs a file system of its own, mounted in a name space of its own; skipped where the machine does not allow that.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from mmsrarec.storage import tables

ALLOWED = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
PROGRAM = f'{sys.executable} -c "from mmsrarec.cli import main; main()" train_sasrec conf/local.yaml'
# A lake of 200 kB for a checkpoint of some 400; then room for it.
SCRIPT = """
mount -t tmpfs -o size=200k tmpfs {lake} || exit 77
cp -r {tables}/* {lake}
{program}; echo first: $?
mount -o remount,size=20m {lake}
{program}; echo second: $?
ls {lake} {lake}/models/sasrec
"""


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    (tmp_path / "lake").mkdir()
    rows = [
        {"user_id": f"u{user:02}", "item_ids": [f"i{(user + n) % 20:02}" for n in range(6)], "split": "train"}
        for user in range(40)
    ]
    tables.replace(str(tmp_path / "tables"), "histories", tables.from_rows("histories", rows))
    return tmp_path / "lake"


def test_a_full_disk_is_told_and_the_same_command_goes_on(lake: Path) -> None:
    given = {"lake.root": lake, "sasrec.epochs": 1, "sasrec.dim": 64, "sasrec.device": "cpu", "run.date": "2026-03-01"}
    arguments = " ".join(f"--set {key}={value}" for key, value in given.items())
    script = SCRIPT.format(lake=lake, tables=lake.parent / "tables", program=f"{PROGRAM} {arguments}")
    done = subprocess.run([*ALLOWED, script], capture_output=True, text=True, timeout=300, check=False)
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("no file system can be mounted here")
    assert "first: 9" in done.stdout and "second: 0" in done.stdout, done.stderr
    assert "no space is left" in done.stderr and "run the same command again" in done.stderr
    assert "unexpected error" not in done.stderr and "Traceback" not in done.stderr
    assert "sasrec.json" in done.stdout and ".part" not in done.stdout and "unfinished.json" not in done.stdout
