"""Clusters of several nodes on this machine: Ray's and Spark's own processes, in the end by whatever end of the tests.

A node has a folder of its own as working directory, home and temporary folder, so that what a stage leaves on one node
another does not find. `Node.kill` ends all processes of one at once, as when a machine is taken away.
"""

import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import psutil
import pyspark

BIN = Path(sys.executable).parent
KEPT = str(Path(__file__).parent / "kept.py")
SPARK_HOME = Path(os.environ.get("SPARK_HOME") or pyspark.__path__[0])
PATIENCE_SECONDS = 300.0


@cache
def unshared() -> list[str]:
    """The command before a command that has mounts of its own; none where that is not allowed."""
    for way in (["unshare", "--mount"], ["unshare", "--user", "--map-root-user", "--mount"]):
        if shutil.which("unshare") and subprocess.run([*way, "true"], capture_output=True, check=False).returncode == 0:
            return way
    return []


def apart(command: list[str], hidden: Iterable[Path]) -> list[str]:
    """The command with these folders empty, as on another machine, if that is allowed."""
    mounts = [f"mount -t tmpfs none {shlex.quote(str(folder))}" for folder in hidden]
    if not mounts or not unshared():
        return command
    return [*unshared(), "sh", "-c", " && ".join([*mounts, 'exec "$@"']), "apart", *command]


class Node:
    """The processes that a command makes, in a folder of their own; they do not see what is in the hidden ones."""

    def __init__(self, folder: Path, command: list[str], hidden: Iterable[Path] = (), **variables: str):
        self.folder = folder
        for name in ("home", "tmp"):
            (folder / name).mkdir(parents=True)
        own = {"HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp"), "PWD": str(folder)}
        if "RAY_AUTH_MODE" in os.environ:  # as a Ray of this process's own has left it; the token is in this home
            own["RAY_AUTH_TOKEN_PATH"] = str(Path.home() / ".ray" / "auth_token")
        environment = {**os.environ, **own, **variables}
        environment.pop("XDG_CACHE_HOME", None)
        with open(folder / "log", "w") as log:
            self._process = subprocess.Popen(
                [sys.executable, KEPT, *apart(command, hidden)],
                stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=folder, env=environment, start_new_session=True,
            )  # fmt: skip

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def processes(self) -> list[psutil.Process]:
        return psutil.Process(self._process.pid).children(recursive=True)

    def alive(self) -> bool:
        return self._process.poll() is None

    def wait(self, seconds: float) -> int:
        """The status that the command ends with."""
        return self._process.wait(seconds)

    def kill(self) -> None:
        """All at once: none has the time to tell anyone."""
        for process in self.processes():
            try:
                process.kill()
            except psutil.NoSuchProcess:
                pass
        self.close()

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(60)
        self._process.stdin.close()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def answers(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


def close(nodes: list[Node]) -> None:
    for node in nodes:
        node.close()


def until(what: str, holds: Callable[[], object], nodes: list[Node], patience: float = PATIENCE_SECONDS) -> None:
    end = time.monotonic() + patience
    while not holds():
        dead = [node for node in nodes if not node.alive()]
        if dead or time.monotonic() > end:
            said = "\n".join(node.log[-2000:] for node in nodes)
            raise AssertionError(f"{what}: not within {patience:.0f} s; {said}")
        time.sleep(0.2)


class RayCluster:
    """A head that does no work, as in k8s/, and workers that are added."""

    # A loaded machine is slow, above all to start a node, but a dead node should be found in seconds.
    CAREFUL = {"RAY_health_check_initial_delay_ms": "10000", "RAY_health_check_period_ms": "500"}
    CAREFUL |= {"RAY_health_check_timeout_ms": "5000", "RAY_health_check_failure_threshold": "5"}
    SMALL = ["--object-store-memory=80000000", "--disable-usage-stats", "--block", "--log-color=false"]

    def __init__(self, folder: Path, hidden: Iterable[Path]):
        self.nodes: list[Node] = []
        self.address = f"127.0.0.1:{free_port()}"
        self._folder, self._hidden = folder, tuple(hidden)
        self.sessions = Path(tempfile.mkdtemp(prefix="n"))  # short: the names of Ray's sockets start with it

    def start(self) -> None:
        port = int(self.address.split(":")[1])
        client = f"--ray-client-server-port={free_port()}"
        self._start("head", "--head", f"--port={port}", client, "--num-cpus=0", "--include-dashboard=false")
        until("Ray's head answers", lambda: answers(port), self.nodes)

    @property
    def workers(self) -> list[Node]:
        return self.nodes[1:]

    def add(self, *resources: str) -> Node:
        """One more worker, soon: `--num-cpus=1` and the like."""
        told = [f"--address={self.address}", "--include-log-monitor=false", *resources]
        return self._start(f"worker-{len(self.nodes)}", *told)

    def wait(self) -> None:
        for node in self.nodes:
            until("Ray's node is up", lambda node=node: "Ray runtime started" in node.log, [node])

    def _start(self, name: str, *arguments: str) -> Node:
        folder = self._folder / name
        ports = [f"--{which}={free_port()}" for which in ("dashboard-agent-listen-port", "runtime-env-agent-port")]
        # Each its own, so that the driver, at the machine's, joins the head.
        host = [] if "--head" in arguments else [f"--node-ip-address=127.0.0.{len(self.nodes) + 1}"]
        own = [*host, f"--node-name={name}", f"--temp-dir={self.sessions / name}"]
        command = [str(BIN / "ray"), "start", *arguments, *self.SMALL, *ports, *own]
        hidden = () if "--head" in arguments else self._hidden  # on the head is the driver
        self.nodes.append(Node(folder, command, hidden, **self.CAREFUL))
        return self.nodes[-1]


@contextmanager
def ray_cluster(folder: Path, *workers: str, hidden: Iterable[Path] = ()) -> Iterator[RayCluster]:
    """A cluster with one worker for each of `workers`, its resources, from whom folders are hidden."""
    cluster = RayCluster(folder, hidden)
    try:
        cluster.start()
        for resources in workers:
            cluster.add(*resources.split())
        cluster.wait()
        yield cluster
    finally:
        close(cluster.nodes)
        shutil.rmtree(cluster.sessions, ignore_errors=True)


class SparkCluster:
    """Spark's standalone master and its workers, of one core each."""

    def __init__(self, folder: Path, hidden: Iterable[Path]):
        self.nodes: list[Node] = []
        self._port, self._web, self._folder, self._hidden = free_port(), free_port(), folder, tuple(hidden)
        self.address = f"spark://127.0.0.1:{self._port}"

    def start(self) -> None:
        self._start("master", "master.Master", "--port", str(self._port), "--webui-port", str(self._web))
        until("Spark's master answers", lambda: answers(self._web), self.nodes)

    @property
    def workers(self) -> list[Node]:
        return self.nodes[1:]

    def add(self) -> Node:
        """One more worker, soon."""
        name = f"spark-worker-{len(self.nodes)}"
        work = self._folder / name / "tmp" / "work"
        size = ["--cores", "1", "--memory", "1g", "--webui-port", "0", "--work-dir", str(work)]
        return self._start(name, "worker.Worker", *size, self.address)

    def wait(self) -> None:
        until("Spark's workers are there", lambda: self._alive() == len(self.workers), self.nodes)

    def _alive(self) -> int:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._web}/json/", timeout=10) as said:
            return json.load(said)["aliveworkers"]

    def _start(self, name: str, role: str, *arguments: str) -> Node:
        command = [str(SPARK_HOME / "bin" / "spark-class"), f"org.apache.spark.deploy.{role}"]
        command += ["--host", f"127.0.0.{len(self.nodes) + 1}"]
        quick = {"SPARK_DAEMON_MEMORY": "256m", "SPARK_DAEMON_JAVA_OPTS": "-XX:TieredStopAtLevel=1"}
        self.nodes.append(Node(self._folder / name, [*command, *arguments], self._hidden, **quick))
        return self.nodes[-1]


@contextmanager
def spark_cluster(folder: Path, workers: int, hidden: Iterable[Path] = ()) -> Iterator[SparkCluster]:
    cluster = SparkCluster(folder, hidden)
    try:
        cluster.start()
        for _ in range(workers):
            cluster.add()
        cluster.wait()
        yield cluster
    finally:
        close(cluster.nodes)
