"""What the progress of long work says: few plain lines, or one live line on a terminal."""

import io
import json
import os
import pty
import select
import subprocess
import sys
from collections import Counter

import pytest

from mmsrarec import log, progress
from mmsrarec.progress import Progress, duration, speed, under_way


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(progress, "time", found)
    return found


def said(capsys) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_plain_lines_have_rate_time_left_and_rejects(clock, capsys):
    rejected = Counter()
    with Progress("recommend", 1000, "users", rejected) as work:
        clock.now += 30  # an engine starts
        work.advance(10)
        clock.now += 20
        rejected["no_candidates"] += 3
        work.advance(200, note="loss 0.5")
        clock.now += 20
        work.advance(200)
        work.advance(590)
    lines = said(capsys)
    assert lines == [
        "recommend: 10/1,000 users, 0.3 users/s",
        "recommend: 210/1,000 users, 10.0 users/s, 79 s left, 3 rejected, loss 0.5",
        "recommend: 410/1,000 users, 10.0 users/s, 59 s left, 3 rejected",
        "recommend: 1,000/1,000 users, 14.3 users/s, 3 rejected, done",
    ]


def test_plain_lines_are_few(clock, capsys):
    with Progress("recommend", 36_000, "users") as work:
        for _ in range(36_000):
            clock.now += 1
            work.advance()
    lines = said(capsys)
    assert 30 < len(lines) < 200 and lines[-1].endswith("done")


def test_a_stage_that_fails_has_no_last_line(clock, capsys):
    with pytest.raises(ValueError), Progress("recommend", 2, "users") as work:
        work.advance()
        raise ValueError
    assert said(capsys) == []


def test_machines_get_the_same_as_numbers(clock, capsys):
    log.use("json")
    try:
        with under_way("retrieve"), Progress("retrieve", 100, "users", Counter(bad=2)) as work:
            for _ in range(4):
                clock.now += 10
                work.advance(10)
    finally:
        log.use("people")
    started, *lines = [json.loads(line) for line in said(capsys)]
    assert started["event"] == "stage_started"
    assert lines[2]["fields"] == {
        "done": 30, "total": 100, "unit": "users", "per_second": 1.0, "note": "", "rejected": 2, "seconds_left": 70,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (99, "99 s"), (100, "2 min"), (3599, "1 h 0 min"), (11_100, "3 h 5 min")]
)
def test_a_duration_is_read_at_a_glance(seconds, words):
    assert duration(seconds) == words


def test_a_slow_rate_is_no_zero():
    assert speed(12.34, "users") == "12.3 users/s" and speed(0.02, "steps") == "1.2 steps/min"


ON_A_TERMINAL = """
import time
from collections import Counter
from mmsrarec import log
from mmsrarec.progress import Progress, aside, under_way
rejected = Counter()
with under_way("recommend"):
    log.say("something happened", "x")
    with Progress("recommend", 4, "users", rejected) as outer:
        outer.advance(2)
        rejected["bad"] += 7
        time.sleep(0.4)
        with Progress("recommend", 9, "requests", rejected) as inner:
            inner.advance(1)
            time.sleep(0.4)
    with aside():
        print("a table")
log.say("recommend: completed", "x")
"""


def terminal(script: str) -> str:
    """What a script writes to a terminal that is standard output and error."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen([sys.executable, "-c", script], stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        shown = io.BytesIO()
        while select.select([ours], [], [], 60)[0]:
            try:
                shown.write(os.read(ours, 4096))
            except OSError:
                break
        assert process.wait() == 0
    os.close(ours)
    return shown.getvalue().decode()


def test_a_terminal_has_one_live_line_per_stage():
    shown = terminal(ON_A_TERMINAL)
    assert "2/4" in shown and "7 rejected" in shown and "1/9" in shown and "requests/s" in shown
    assert "something happened" in shown and "a table" in shown and "recommend: started" not in shown
    *_, table, last = shown.replace("\r\n", "\n").rstrip("\n").split("\n")
    assert last.endswith("recommend: completed") and "recommend" not in table.rsplit("\x1b[2K", 1)[-1]
