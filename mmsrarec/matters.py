"""What matters of the noise of Spark, Ray and vLLM: the rules by which a line of theirs becomes one of ours.

Only what a person would want to know while the job goes on: a process that died and was replaced, work that is done
again, memory or a disk that runs out. What ends the job comes up as an error and needs no rule.
"""

import re
import time
from dataclasses import dataclass
from logging import WARNING

from mmsrarec import log

SAY_EVERY_SECONDS = 60.0  # per rule; what comes between is counted
MAX_CHARS = 2000  # of a line that are looked at
COLOR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Rule:
    """Lines that `pattern` finds are said as `message`, which may use the pattern's named groups."""

    event: str
    pattern: re.Pattern
    message: str


def _rule(event: str, pattern: str, message: str) -> Rule:
    return Rule(event, re.compile(pattern), message)


RULES = (
    _rule(
        "spark_executor_lost",
        r"Lost executor (?P<id>\S+) on (?P<host>[^\s:]+): (?P<why>.{0,150})",
        "Spark lost executor {id} on {host}, its work is done again: {why}",
    ),
    _rule(
        "spark_task_retried",
        # In local mode there is one executor, the driver, and no second attempt.
        r"Lost task (?P<task>\S+) in stage (?P<stage>\S+) \(TID \d+\) \((?P<host>\S+) executor (?!driver)\S+\): "
        r"(?P<why>.{0,150})",
        "Spark does task {task} of stage {stage} again, it failed on {host}: {why}",
    ),
    _rule(
        "spark_memory",
        r"java\.lang\.OutOfMemoryError: (?P<why>.{0,80})|WARN (?:TaskMemoryManager|MemoryStore|MemoryManager|"
        r"BlockManager): (?P<what>.{0,150})",
        "Spark is short of memory (see spark.driver_memory): {why}{what}",
    ),
    _rule(
        "ray_memory",
        r"(?P<count>\d+) Workers \(tasks / actors\) killed due to memory pressure",
        "Ray killed {count} worker(s) because the machine's memory ran out; their work is done again",
    ),
    _rule(
        "ray_worker_died",
        r"A worker died or was killed while executing a task.*?Worker PID: (?P<pid>\d+)",
        "Ray lost process {pid}, which died or was killed",
    ),
    _rule(
        "ray_task_retried",
        r"Task (?P<task>\S+) failed\. There are (?P<left>\d+) retries remaining, so the task will be retried\. "
        r"Error: (?P<why>.{0,120})",
        "Ray does {task} again ({left} attempts left): {why}",
    ),
    _rule(
        "ray_engine_restarted",
        r"an actor died during initialization and will be replaced \((?P<count>\d+)",
        "an engine died while it was started ({count} in a row) and is started again",
    ),
    _rule(
        "ray_spilled",
        r"Spilled (?P<size>\d+ \S+), (?P<count>\d+) objects",
        "Ray's memory for objects is full: {size} in {count} objects were written to disk",
    ),
    _rule(
        "disk_nearly_full",
        r"(?P<place>\S+) is over (?P<share>[\d.]+)% full, available space: (?P<left>[^;,]+)",
        "a disk is nearly full: {place} to {share}%, {left} left",
    ),
    _rule(
        "disk_full",
        r"No space left on device|Disk quota exceeded",
        "a disk is full",
    ),
    _rule(
        "engine_memory",
        r"(?P<why>(?:CUDA out of memory|HIP out of memory)[^.]{0,100})",
        "the GPU's memory ran out (see engine.gpu_memory_utilization, engine.max_num_seqs): {why}",
    ),
    _rule(
        "engine_process_failed",
        r"\((?:EngineCore|Worker)[^)]*\) ERROR [^\]]*\] (?P<why>[\w.]*(?:Error|Exception): .{0,300})",
        "a process of the engine failed: {why}",
    ),
    _rule(
        "engine_process_died",
        r"(?:the engine's process (?P<pid>\d+)|Worker proc (?P<name>\S+)) (?:has )?died",
        "the engine's process {pid}{name} died; the engine is started again",
    ),
)


class Matters:
    """Sees the lines of the log file one by one; says what matters, each kind at most once a minute."""

    def __init__(self, file: str | None):
        self._file = file
        self._said: dict[str, float] = {}
        self._between: dict[str, tuple[int, str]] = {}

    def see(self, line: str, number: int) -> None:
        """`number` is that of the line in the file."""
        line = COLOR.sub("", line.rsplit("\r", 1)[-1][:MAX_CHARS])
        if log.OWN in line[:50]:
            return
        for rule in RULES:
            if found := rule.pattern.search(line):
                values = {name: text or "" for name, text in found.groupdict().items()}
                self._found(rule.event, f"{rule.message.format_map(values).strip()}{self._where(number)}", number)
                return

    def close(self) -> None:
        """Say what has been seen and not been said, the last of each kind."""
        for event, (count, last) in self._between.items():
            before = f" (and {count - 1:,} before)" if count > 1 else ""
            log.say(f"{last}{before}", event, WARNING, file=self._file, more=count - 1)
        self._between = {}

    def _found(self, event: str, message: str, number: int) -> None:
        now = time.monotonic()
        if now - self._said.get(event, float("-inf")) < SAY_EVERY_SECONDS:
            self._between[event] = self._between.get(event, (0, ""))[0] + 1, message
            return
        self._said[event] = now
        more, _ = self._between.pop(event, (0, ""))
        again = f" (and {more:,} before)" if more else ""
        log.say(f"{message}{again}", event, WARNING, file=self._file, line=number, more=more)

    def _where(self, number: int) -> str:
        return f" ({self._file}:{number})" if self._file else ""
