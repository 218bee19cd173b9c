"""Folders of dead processes are found and deleted, those of living ones never."""

import subprocess
import sys
from pathlib import Path

from mmsrarec.storage import scratch
from mmsrarec.storage.scratch import Scratch

HOLD = "import sys; from mmsrarec.storage.scratch import Scratch; from pathlib import Path\n"
HOLD += "held = Scratch('held', Path(sys.argv[1])); print(held.path, flush=True); sys.stdin.read()"


def hold(parent: Path) -> tuple[subprocess.Popen, Path]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(parent)], stdin=-1, stdout=-1, text=True)
    return process, Path(process.stdout.readline().strip())


def test_a_folder_is_kept_while_its_process_lives_and_deleted_after_it_was_killed(tmp_path: Path) -> None:
    process, folder = hold(tmp_path)
    (folder / "rows").write_text("x")
    try:
        assert list(scratch.abandoned(tmp_path)) == []
        scratch.sweep(tmp_path)
        assert (folder / "rows").exists()
    finally:
        process.kill()
        process.wait()
    assert list(scratch.abandoned(tmp_path)) == [folder]
    scratch.sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_others_have_put_there_stays(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    scratch.sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_a_folder_ends_with_its_object(tmp_path: Path) -> None:
    with Scratch("mine", tmp_path) as folder:
        assert folder.path.parent == tmp_path and folder.path.name.startswith("mine-")
    kept = Scratch("other", tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    del kept
    assert list(tmp_path.iterdir()) == []
