"""The processes of a command on Linux, by what they are; for bench/chaos.py."""

import os
import signal
import time
from pathlib import Path
from typing import NamedTuple

GONE_SECONDS = 90.0  # after which a process counts as left behind; Ray's agents look for their dead head first


class Process(NamedTuple):
    """A process, told from a later one with the same id by when it started."""

    pid: int
    parent: int
    started: str
    name: str

    @property
    def alive(self) -> bool:
        now = _read(self.pid)
        return now is not None and now.started == self.started

    def kill(self) -> None:
        if self.alive:
            os.kill(self.pid, signal.SIGKILL)


def by_kind(driver: int) -> dict[str, list[Process]]:
    """The driver and all its descendants: driver, engine (the process that computes), ray (any other of Ray), jvm."""
    found: dict[str, list[Process]] = {}
    for process in _family(driver):
        found.setdefault(_kind(process, driver), []).append(process)
    return found


def outliving(family: list[Process]) -> list[Process]:
    """Those of a killed driver's family that are still there after GONE_SECONDS; they are killed then."""
    until = time.monotonic() + GONE_SECONDS
    while (left := [process for process in family if process.alive]) and time.monotonic() < until:
        time.sleep(0.2)
    for process in left:
        print(f"  outlived its driver: {process.name} {process.pid}", flush=True)
        process.kill()
    return left


def _family(driver: int) -> list[Process]:
    processes = [found for name in os.listdir("/proc") if name.isdigit() and (found := _read(int(name)))]
    family = [process for process in processes if process.pid == driver]
    for process in family:  # grows while it is walked through
        family += [child for child in processes if child.parent == process.pid]
    return family


def _read(pid: int) -> Process | None:
    """None where there is no such process, or only its exit status is left."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return None
    fields = status.rpartition(")")[2].split()
    if fields[0] in "ZX":
        return None
    return Process(pid, int(fields[1]), fields[19], _short(command))


def _short(command: str) -> str:
    for name in ("org.apache.spark", "raylet/raylet", "gcs_server", "runtime_env", "dashboard/agent", "log_monitor"):
        if name in command:
            return name
    return command[:60]


def _kind(process: Process, driver: int) -> str:
    if process.pid == driver:
        return "driver"
    if "org.apache.spark" in process.name:
        return "jvm"
    if "Replica" in process.name or "EngineCore" in process.name:
        return "engine"
    return "ray" if "ray" in process.name or "gcs_server" in process.name else "other"
