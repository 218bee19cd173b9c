"""The lock of a lake: at most one run writes to it.

with lock.held(config, run_id):
    ...

It is kept in the Delta table `locks`, one row, exchanged by compare-and-swap (tables.swap). So it holds wherever
commits hold, on a local disk and on S3, with one mechanism and without a service; an exclusively created file would
need a second one for S3, and a race of its own for the take-over.

- The owner writes a heartbeat five times per lease (run.lease). Another run is refused at once, or after run.wait.
- The lock of a run that released it, whose last heartbeat is older than its lease, or whose process has ended on this
  very machine, may be taken over.
- Before a commit (guard.check) an owner whose last heartbeat is not fresh renews it first. A run that was suspended for
  longer than its lease and lost the lake meanwhile raises LockError there and writes no more. Clocks of the machines
  are assumed to differ by much less than a lease.
"""

import os
import secrets
import shlex
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from logging import WARNING
from pathlib import Path
from typing import Any

import psutil

from mmsrarec import log
from mmsrarec.config import Config
from mmsrarec.errors import LockError
from mmsrarec.storage import guard, tables, upkeep

BEATS_PER_LEASE = 5
ATTEMPTS = 10
LOOKS_SECONDS = 5.0  # between two looks of a run that waits
MAX_COMMAND_CHARS = 500


@dataclass(frozen=True)
class Holder:
    """The row of `locks`."""

    token: str
    run_id: str
    command: str
    host: str
    machine: str
    pid: int
    process_started: float
    acquired_at: datetime
    heartbeat_at: datetime
    lease_seconds: int
    released_at: datetime | None = None

    @property
    def holds(self) -> bool:
        """Whether the lock is not free to be taken."""
        return self.released_at is None and not self._expired and not self._dead

    @property
    def _expired(self) -> bool:
        return datetime.now(UTC) - self.heartbeat_at > timedelta(seconds=self.lease_seconds)

    @property
    def _dead(self) -> bool:
        """Whether its process has ended; False where that cannot be known from here."""
        if self.machine != _machine():
            return False
        try:
            process = psutil.Process(self.pid)
            return process.status() == psutil.STATUS_ZOMBIE or abs(process.create_time() - self.process_started) > 1
        except psutil.NoSuchProcess:
            return True
        except psutil.AccessDenied:
            return False


def holder(root: str) -> Holder | None:
    """Who holds the lake at present."""
    found = _last(root)[1]
    return found if found and found.holds else None


@contextmanager
def held(config: Config, run_id: str) -> Iterator[None]:
    """Hold the lake for a run; within a run of this process that holds it already there is nothing to do.

    Raises LockError where another run holds it, and has not given it back within run.wait.
    """
    if guard.guarded(config.lake.root):
        yield
        return
    lock = _Lock(config, run_id)
    try:
        lock.acquire()
        with guard.guarding(config.lake.root, lock.check):
            yield
    finally:
        lock.release()


class _Lock:
    """What the owner does; the heartbeat thread and the checks of the main thread take turns."""

    def __init__(self, config: Config, run_id: str):
        self._root, self._lease, self._wait = config.lake.root, config.run.lease, config.run.wait
        self._me = _myself(run_id, config.run.lease)
        self._turn, self._stopped = threading.Lock(), threading.Event()
        self._owned = False
        self._thread = threading.Thread(target=self._beat, name="lock-heartbeat", daemon=True)

    def acquire(self) -> None:
        patience = time.monotonic() + self._wait
        for _ in range(ATTEMPTS):
            seen, last = self._free(patience)
            if self._put(seen, heartbeat_at=_now()):
                self._owned = True
                self._thread.start()
                if last and not last.released_at:
                    said = (
                        f"lake {self._root}: taken over from run {last.run_id}, {_where(last)}, which ended unreleased"
                    )
                    log.say(said, "lock_taken_over", WARNING, previous_run_id=last.run_id)
                upkeep.delete_old(self._root, "locks")
                return
        raise LockError(f"lake {self._root}: many runs ask for it at the same time; start again in a minute")

    def _free(self, patience: float) -> tuple[int | None, Holder | None]:
        """What was seen of the lock when it was free to be taken."""
        seen, last = _last(self._root)
        if last and last.holds and time.monotonic() < patience:
            said = f"{describe(self._root, last)}. Waiting for it, at most {self._wait} s (run.wait)"
            log.say(said, "lock_waited_for", WARNING, holder_run_id=last.run_id)
        while last and last.holds:
            left = patience - time.monotonic()
            if left <= 0:
                raise LockError(_refusal(self._root, last))
            time.sleep(min(left, LOOKS_SECONDS))
            seen, last = _last(self._root)
        return seen, last

    def check(self) -> None:
        """Raise LockError where the lake is not ours any more."""
        age = (_now() - self._me.heartbeat_at).total_seconds()
        if not self._owned or not 0 <= age < self._lease / 2:
            self._renew()

    def release(self) -> None:
        self._stopped.set()
        if self._thread.ident:
            self._thread.join()
        if not self._owned:
            return
        try:
            self._renew(released_at=_now())
        except Exception as error:  # the run is over; a lock that is left is taken over
            log.say(f"the lock of lake {self._root} could not be released: {error}", "lock_not_released", WARNING)

    def _renew(self, **changes: datetime) -> None:
        with self._turn:
            for _ in range(ATTEMPTS):
                seen, last = _last(self._root)
                if last is None or last.token != self._me.token:
                    self._owned = False
                    raise LockError(_lost(self._root, self._me, last))
                if self._put(seen, heartbeat_at=_now(), **changes):
                    return
            raise LockError(f"lake {self._root}: the lock's heartbeat could not be written")

    def _put(self, seen: int | None, **changes: Any) -> bool:
        me = replace(self._me, **changes)
        if done := tables.swap(self._root, "locks", tables.from_rows("locks", [asdict(me)]), seen):
            self._me = me
        return done

    def _beat(self) -> None:
        while not self._stopped.wait(self._lease / BEATS_PER_LEASE):
            try:
                self._renew()
            except LockError as error:
                log.say(str(error), "lock_lost", WARNING)
                return
            except Exception as error:  # the store may be back before the lease is over
                log.say(f"lake {self._root}: no heartbeat written: {error}", "heartbeat_failed", WARNING)


def _last(root: str) -> tuple[int | None, Holder | None]:
    seen, rows = tables.snapshot(root, "locks")
    return seen, next((Holder(**row) for row in rows.to_pylist()), None)


def _myself(run_id: str, lease: int) -> Holder:
    program, *arguments = sys.argv
    command = shlex.join([os.path.basename(program), *arguments])[:MAX_COMMAND_CHARS]
    started = psutil.Process().create_time()
    place = socket.gethostname(), _machine(), os.getpid(), started
    return Holder(secrets.token_hex(8), run_id, command, *place, _now(), _now(), lease)


def _machine() -> str:
    """Equal where process ids can be compared. Containers may share a host name, but not boot and pid namespace."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return f"{socket.gethostname()}/{psutil.boot_time():.0f}"


def describe(root: str, found: Holder) -> str:
    """Who holds the lake since when, in a line."""
    since, beat = (
        f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" for moment in (found.acquired_at, found.heartbeat_at)
    )
    ago = max(0.0, time.time() - found.heartbeat_at.timestamp())
    return (
        f"lake {root}: held by run {found.run_id} since {since}, {_where(found)} ({found.command}); last heartbeat "
        f"{beat}, {ago:.0f} s ago"
    )


def _refusal(root: str, found: Holder) -> str:
    return (
        f"{describe(root, found)}. Wait until it ends, or stop it there (kill {found.pid}) and start again. Should it "
        f"be dead, its lock can be taken over {found.lease_seconds} s after its last heartbeat, and at once from the "
        "machine where it ran"
    )


def _lost(root: str, me: Holder, now: Holder | None) -> str:
    taken = f"run {now.run_id}, {_where(now)}, took it over" if now else "its lock table is gone"
    return (
        f"lake {root}: run {me.run_id} lost it, {taken} after more than {me.lease_seconds} s without a heartbeat (was "
        "this machine suspended?). It writes nothing more; start again when the other run has ended, or raise run.lease"
    )


def _where(found: Holder) -> str:
    return f"process {found.pid} on {found.host}"


def _now() -> datetime:
    return datetime.now(UTC)
