"""Three kills at random moments of a night; bench/chaos.py does the same with as many as one likes."""

import json
import subprocess
import sys
from pathlib import Path

from conftest import ROOT, Shop


def test_a_night_that_is_killed_three_times_ends_like_an_undisturbed_one(shop: Shop, tmp_path: Path) -> None:
    assert shop.first.returncode == 0, shop.first.stderr[-3000:]
    options = {"--kills": 3, "--seed": 11, "--calm": shop.folder / "lake", "--folder": tmp_path}
    arguments = [str(part) for option in options.items() for part in option]
    program = [sys.executable, str(ROOT / "bench" / "chaos.py"), *arguments]
    done = subprocess.run(program, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["kills"] == 3 and found["resumes"] > 0
    assert not any(found[name] for name in ("lost", "doubled", "different", "half-visible", "orphans", "hung"))
