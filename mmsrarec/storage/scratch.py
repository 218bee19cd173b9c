"""Folders of a running process: gone with it, however it ends.

A folder holds a file that its process keeps locked. The kernel drops the lock when the process is gone, also by
kill -9, so whoever comes next can tell what was left behind (`abandoned`) from what is in use, and deletes it.
"""

import fcntl
import getpass
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

LOCK = "in-use"
HALF_DELETED_SECONDS = 3600.0  # a folder without its lock is being made or deleted; after this long nobody is at it


class Scratch:
    """A new folder under `parent` (default: one per user in the system's temporary folder), called after `name`.

    Use as a context manager, or keep the object as long as the folder is needed.
    """

    def __init__(self, name: str, parent: Path | None = None):
        if parent is None:
            parent = common()
            sweep(parent)
        parent.mkdir(parents=True, exist_ok=True)
        self.path = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=parent)).resolve()
        # Locked under another name first: a folder without this file is one that is being made.
        self._lock = open(self.path / f".{LOCK}", "w")  # noqa: SIM115
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        os.rename(self.path / f".{LOCK}", self.path / LOCK)

    def __enter__(self) -> "Scratch":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_lock"):
            self.close()

    def close(self) -> None:
        """Delete the folder; a second call does nothing."""
        if not self._lock.closed:
            remove(self.path)
            self._lock.close()


def common() -> Path:
    """Where scratch folders are by default."""
    return Path(tempfile.gettempdir()) / f"mmsrarec-{getpass.getuser()}"


def abandoned(parent: Path) -> Iterator[Path]:
    """Folders under `parent` whose process is gone; each is locked while the caller looks at it."""
    for folder in sorted(parent.iterdir()) if parent.is_dir() else ():
        try:
            with open(folder / LOCK, "r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield folder
        except (NotADirectoryError, BlockingIOError):
            continue
        except FileNotFoundError:
            if folder.is_dir() and time.time() - folder.stat().st_mtime > HALF_DELETED_SECONDS:
                yield folder


def sweep(parent: Path) -> None:
    """Delete what dead processes have left under `parent`."""
    for folder in abandoned(parent):
        remove(folder)


def remove(folder: Path) -> None:
    """Delete a folder; what cannot be deleted now is left to the next sweep."""
    shutil.rmtree(folder, ignore_errors=True)
