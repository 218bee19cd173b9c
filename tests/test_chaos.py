"""Kills at random moments of a night; bench/chaos.py does the same with as many as one likes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, Shop


@pytest.mark.parametrize("kills", [1, pytest.param(8, marks=pytest.mark.slow)])
def test_a_night_that_is_killed_ends_like_an_undisturbed_one(shop: Shop, tmp_path: Path, kills: int) -> None:
    assert shop.first.returncode == 0, shop.first.stderr[-3000:]
    options = {"--kills": kills, "--seed": 11, "--calm": shop.folder / "lake", "--folder": tmp_path}
    arguments = [str(part) for option in options.items() for part in option]
    program = [sys.executable, str(ROOT / "bench" / "chaos.py"), *arguments]
    done = subprocess.run(program, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["kills"] == kills and found["resumes"] > 0
    assert not any(found[name] for name in ("lost", "doubled", "different", "half-visible", "orphans", "hung"))
