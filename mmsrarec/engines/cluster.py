"""The Ray that the engines run on: a cluster that is there, or one of our own on this machine while it is needed.

With batch.py the only file that knows Ray.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from mmsrarec import log
from mmsrarec.config import Config
from mmsrarec.config.models import node_address
from mmsrarec.engines.vllm import environment
from mmsrarec.errors import ConfigError, ModelError
from mmsrarec.storage.scratch import Scratch

START_ATTEMPTS = 3
OBJECT_STORE_BYTES = 256 * 2**20
LONGEST_FOLDER = 40  # characters of Ray's folder: the names of its sockets, at most 107 characters, start with it


@contextmanager
def joined(config: Config, processes: int | None = None) -> Iterator[None]:
    """Ray as it runs already, else the cluster of engine.address or RAY_ADDRESS, else one of our own, in which so many
    processes (default: engines) share the cores.

    Raises ConfigError where that is no address of a cluster, ModelError where none is there.
    """
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")  # workers run the environment that is there
    os.environ.setdefault("RAY_COLOR_PREFIX", "0")
    address = config.engine.cluster
    with _cluster(config, address) if address else _own(config, processes or config.engine.most_replicas):
        try:
            yield
        finally:
            ray.shutdown()


@contextmanager
def _cluster(config: Config, address: str) -> Iterator[None]:
    try:
        ray.init(address=node_address(address), runtime_env={"env_vars": environment(config)}, **_said())
    except ValueError as error:
        raise ConfigError(f"RAY_ADDRESS={address}: {error}") from None
    except Exception as error:  # Ray raises plain ConnectionError, RuntimeError and Exception
        ray.shutdown()
        raise ModelError(
            f"no Ray cluster at {address}: {_words(error)}; is its head up, and this machine one of its nodes?"
        ) from error
    if not any(_fits(config, resources) for resources in _nodes()):
        log.say(f"{room(config)}; waiting for a larger one", "waiting_for_nodes", logging.WARNING)
    yield


def room(config: Config) -> str:
    """What an engine takes, and what the cluster has, in words."""
    nodes = _nodes()
    fit = sum(_fits(config, resources) for resources in nodes)
    return (
        f"an engine takes 1 CPU and {config.engine.num_gpus:g} GPUs of a node; {fit} of the {len(nodes)} nodes of the "
        "cluster are that large"
    )


def _nodes() -> list[dict[str, float]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _fits(config: Config, resources: dict[str, float]) -> bool:
    return resources.get("CPU", 0) >= 1 and resources.get("GPU", 0) >= config.engine.num_gpus


@contextmanager
def _own(config: Config, processes: int) -> Iterator[None]:
    """It dies with this process, by Ray's own doing; its files, with the next scratch folder."""
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "warning" if log.diverted() else "fatal")
    os.environ.setdefault("RAY_worker_niceness", "0")  # by default Ray's workers give way to everything else
    # Ray without its head is lost, here: nobody need wait a minute for that to come back.
    os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", "10")
    variables = environment(config)
    with Scratch("ray") as scratch:
        own = {"address": "local", "num_cpus": processes + 1, "include_dashboard": False}
        own["object_store_memory"] = OBJECT_STORE_BYTES
        if len(str(scratch.path)) <= LONGEST_FOLDER:
            own["_temp_dir"] = str(scratch.path)
        if not config.engine.num_gpus:  # Ray would give an engine one thread
            threads = max(1, len(os.sched_getaffinity(0)) // processes)
            variables["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", str(threads))
        _start({"runtime_env": {"env_vars": variables}, **_said(), **own})
        yield


def _start(arguments: dict) -> None:
    """Ray waits a fixed 30 s for its own processes, which a busy machine may need longer for."""
    for attempt in range(1, START_ATTEMPTS + 1):
        try:
            ray.init(**arguments)
            return
        except Exception as error:  # Ray raises plain Exception where its processes do not come up
            ray.shutdown()
            if attempt == START_ATTEMPTS:
                raise ModelError(f"Ray does not start: {_words(error)}; run again when less is going on") from error


def _said() -> dict:
    """How much Ray tells on this terminal."""
    level = logging.WARNING if log.diverted() else logging.ERROR
    return {"log_to_driver": bool(log.diverted()), "logging_level": level}


def _words(error: Exception) -> str:
    return " ".join(str(error).split())[:500]
