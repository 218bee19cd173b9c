"""What is lifted out of the noise, by lines as Ray, vLLM and Spark really wrote them (shortened where "…" stands)."""

import pytest

from mmsrarec import matters
from mmsrarec.matters import Matters

RAY = "(raylet) "
SPARK = "26/11/21 16:13:31 "
ENGINE = "(MapWorker(MapBatches(Replica)) pid=27662) "
LINES = {
    SPARK + "ERROR TaskSchedulerImpl: Lost executor 1 on 192.0.2.2: Command exited with code 137": (
        "Spark lost executor 1 on 192.0.2.2, its work is done again: Command exited with code 137"
    ),
    SPARK + "WARN TaskSetManager: Lost task 1.0 in stage 0.0 (TID 1) (192.0.2.2 executor 1): ExecutorLostFailure "
    "(executor 1 exited caused by one of the running tasks) Reason: Command exited with code 137": (
        "Spark does task 1.0 of stage 0.0 again, it failed on 192.0.2.2: ExecutorLostFailure (executor 1 exited caused "
        "by one of the running tasks) Reason: Command exited with code 137"
    ),
    RAY + "A worker died or was killed while executing a task by an unexpected system error. To troubleshoot the "
    "problem, check the logs for the dead worker. Lease ID: 00000000271cfb01 Worker ID: 15ad71e9 Node ID: e9ab09c0 "
    "Worker IP address: 192.0.2.2 Worker port: 38599 Worker PID: 9931 Worker exit type: SYSTEM_ERROR Worker exit "
    "detail: Worker unexpectedly exits with a connection error code 2. End of file. …": (
        "Ray lost process 9931, which died or was killed"
    ),
    RAY + "Task A.work failed. There are 3 retries remaining, so the task will be retried. Error: The actor is "
    "temporarily unavailable: RpcError: RPC error: Socket closed rpc_code: 14": (
        "Ray does A.work again (3 attempts left): The actor is temporarily unavailable: RpcError: RPC error: Socket "
        "closed rpc_code: 14"
    ),
    "2026-11-21 15:45:54,588\tWARNING actor_pool_map_operator.py:421 -- MapBatches(Replica): an actor died during "
    "initialization and will be replaced (1 consecutive death(s) so far; max_consecutive_actor_init_deaths=3).": (
        "an engine died while it was started (1 in a row) and is started again"
    ),
    "\x1b[33m(raylet)\x1b[0m Spilled 80 MiB, 4 objects, write throughput 144 MiB/s. Set RAY_verbose_spill_logs=0 to "
    "disable this message.": "Ray's memory for objects is full: 80 MiB in 4 objects were written to disk",
    RAY + "[2026-11-21 15:37:42,962 E 12557 12570] (raylet) file_system_monitor.cc:116: /tmp/qr/session_2026-11-21 is "
    "over 10% full, available space: 48.4594 GB; capacity: 251.972 GB. Object creation will fail if spilling is "
    "required.": "a disk is nearly full: /tmp/qr/session_2026-11-21 to 10%, 48.4594 GB left",
    ENGINE + "(Worker pid=9494) ERROR 11-21 15:49:23 [multiproc_executor.py:944] RuntimeError: Cannot find any model "
    "weights with `/models/noweights`": (
        "a process of the engine failed: RuntimeError: Cannot find any model weights with `/models/noweights`"
    ),
    ENGINE + "the engine's process 10109 has died": "the engine's process 10109 died; the engine is started again",
}
# What looks alarming and is not.
NOISE = (
    SPARK + "WARN TaskSetManager: Lost task 0.0 in stage 1.0 (TID 1) (192.0.2.2 executor driver): "
    "org.apache.spark.SparkException: [FAILED_READ_FILE.NO_HINT] Encountered error while reading file …",
    SPARK + "WARN Master: Got status update for unknown executor app-20261121161308-0000/1",
    ENGINE + "Loading safetensors checkpoint shards: 100% Completed | 1/1 [00:00<00:00, 13.30it/s]",
    ENGINE
    + "WARNING 11-21 15:31:17 [cpu_worker.py:127] libtcmalloc is not found in LD_PRELOAD. For best performance, …",
    "[2026-11-21 15:30:54,736 E 26411 26411] core_worker.cc:2465: Actor with class name: 'MapWorker(MapBatches)' "
    "and ID: 'acda00b4' has constructor arguments in the object store and max_restarts > 0. …",
    "2026-11-21 15:30:45,372\tWARNING authentication_token_setup.py:85 -- Token authentication is enabled …",
    ENGINE + "(EngineCore pid=9206) ERROR 11-21 15:49:25 [core.py:1374] Traceback (most recent call last):",
    "WARNING: Using incubator modules: jdk.incubator.vector",
    'Setting default log level to "WARN".',
    "2026-11-21 15:36:44,568 mmsrarec Ray lost process 9931, which died or was killed, Lost executor 3 on a: b",
)


@pytest.mark.parametrize("line", LINES, ids=lambda line: line[:30])
def test_what_matters_is_said_in_a_line_with_its_place(line, capsys):
    Matters("night.log").see(line, 17)
    assert capsys.readouterr().err == f"{LINES[line]} (night.log:17)\n"


@pytest.mark.parametrize("line", NOISE, ids=lambda line: line[:30])
def test_what_does_not_matter_is_not_said(line, capsys):
    Matters("night.log").see(line, 17)
    assert capsys.readouterr().err == ""


def test_the_same_again_is_counted_not_said(capsys, monkeypatch):
    now = 1000.0
    monkeypatch.setattr(matters.time, "monotonic", lambda: now)
    seen = Matters("night.log")
    for number in range(1, 51):
        seen.see("Lost executor 3 on node-7: gone", number)
    now += 61
    seen.see("Lost executor 4 on node-7: gone", 99)
    seen.see("Lost executor 5 on node-7: gone", 100)
    seen.close()
    assert capsys.readouterr().err.splitlines() == [
        "Spark lost executor 3 on node-7, its work is done again: gone (night.log:1)",
        "Spark lost executor 4 on node-7, its work is done again: gone (night.log:99) (and 49 before)",
        "Spark lost executor 5 on node-7, its work is done again: gone (night.log:100)",
    ]


def test_a_line_of_any_length_costs_little(capsys):
    Matters("").see("x" * 10_000_000 + "Lost executor 3 on node-7: gone", 1)
    Matters("").see("A worker died or was killed while executing a task" + " x" * 1_000_000, 1)
    assert capsys.readouterr().err == ""
