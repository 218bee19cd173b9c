"""Whatever writes to standard output and error of a command ends in its log file; its own lines and results do not."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from mmsrarec import noise
from mmsrarec.config import Config

NOISY = """
import logging, os, subprocess, sys, warnings
from mmsrarec import log, noise
log.use({form!r})
with noise.diverted({file!r}):
    log.say("our own line", "own")
    print("by print")
    print("by print to stderr", file=sys.stderr)
    os.write(1, b"by descriptor 1\\n")
    os.write(2, b"by descriptor 2\\n")
    subprocess.run(["sh", "-c", "echo by a child; echo by its stderr >&2"])
    warnings.warn("by a warning")
    logging.getLogger("transformers").warning("by a logger")
    print("Lost executor 3 on node-7: gone", file=sys.stderr)
    print("our result", file=log.results())
import atexit
atexit.register(lambda: os.system("echo at the end >&2"))
"""
WAYS = ["print", "print to stderr", "descriptor 1", "descriptor 2", "a child", "its stderr", "a warning", "a logger"]


def run(script: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, **options)


def test_noise_goes_to_the_file_and_nothing_else_does(tmp_path: Path):
    file = tmp_path / "made" / "run.log"
    done = run(NOISY.format(form="people", file=str(file)))
    written = file.read_text().splitlines()
    assert done.returncode == 0 and done.stdout == "our result\n"
    number = written.index("Lost executor 3 on node-7: gone") + 1
    lifted = f"Spark lost executor 3 on node-7, its work is done again: gone ({file}:{number})"
    assert done.stderr.splitlines() == ["our own line", lifted]
    for way in WAYS:
        assert [line for line in written if f"by {way}" in line], way
    assert written[0].endswith("mmsrarec our own line") and written[-1] == "at the end"


def test_machines_read_json_and_nothing_else(tmp_path: Path):
    done = run(NOISY.format(form="json", file=str(tmp_path / "run.log")))
    own, lifted = map(json.loads, done.stderr.splitlines())
    assert own["event"] == "own" and done.stdout == "our result\n"
    assert (lifted["event"], lifted["level"]) == ("spark_executor_lost", "warning")
    assert lifted["fields"]["file"] == str(tmp_path / "run.log") and lifted["fields"]["line"] > 1


@pytest.mark.parametrize("file", [None, "/dev/null"])
def test_a_log_without_a_name_is_as_quiet(file: str | None):
    done = run(NOISY.format(form="people", file=file))
    assert done.returncode == 0 and done.stdout == "our result\n"
    assert "by " not in done.stderr and done.stderr.startswith("our own line\n")


def test_the_run_goes_on_in_the_same_file(tmp_path: Path):
    file = tmp_path / "run.log"
    for _ in range(2):
        done = run(NOISY.format(form="people", file=str(file)))
    written = file.read_text().splitlines()
    numbers = [number for number, line in enumerate(written, 1) if line.startswith("Lost executor")]
    assert len(numbers) == 2 and done.stderr.endswith(f"{file}:{numbers[1]})\n") and done.stderr.count("Lost") == 0


def test_standard_output_that_is_closed_is_no_trouble(tmp_path: Path):
    script = NOISY.format(form="people", file=str(tmp_path / "run.log"))
    done = subprocess.run(["sh", "-c", '"$0" -c "$1" >&-', sys.executable, script], capture_output=True, timeout=60)
    assert done.returncode == 0 and b"our own line" in done.stderr


def test_a_file_that_cannot_be_written_names_the_setting(tmp_path: Path):
    (tmp_path / "file").touch()
    done = run(NOISY.format(form="people", file=str(tmp_path / "file" / "run.log")))
    last = done.stderr.splitlines()[-1]
    assert "ConfigError: run.log:" in last and str(tmp_path / "file") in last


def test_a_kill_leaves_no_process_and_no_open_pipe(tmp_path: Path):
    script = f"""
import subprocess, time
from mmsrarec import log, noise
with noise.diverted({str(tmp_path / "run.log")!r}):
    log.say("up", "up")
    time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True)
    assert process.stderr.readline() == "up\n"
    children = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGKILL)
    assert process.stderr.read() == "" and process.wait() == -signal.SIGKILL and children == []


def test_old_logs_are_deleted_and_others_are_not(tmp_path: Path):
    config = Config(inputs={"items": "-", "interactions": "-"}, lake={"root": str(tmp_path)})
    assert noise.log_file(config, "night-1") == str(tmp_path / "logs" / "night-1.log")
    assert noise.delete_old(config, 24) == 0
    (tmp_path / "logs").mkdir()
    for name, days in {"old.log": 8, "new.log": 6, "notes.txt": 100}.items():
        (tmp_path / "logs" / name).touch()
        os.utime(tmp_path / "logs" / name, (then := time.time() - days * 86_400, then))
    assert noise.delete_old(config, 7 * 24) == 1
    assert sorted(os.listdir(tmp_path / "logs")) == ["new.log", "notes.txt"]


def test_a_lake_in_an_object_store_keeps_its_logs_here():
    config = Config(inputs={"items": "-", "interactions": "-"}, lake={"root": "s3://bucket/lake"})
    assert noise.log_file(config, "night-1").startswith("/") and "s3:" not in noise.log_file(config, "night-1")
    named = config.model_copy(update={"run": config.run.model_copy(update={"log": "here.log"})})
    assert noise.log_file(named, "night-1") == "here.log"
