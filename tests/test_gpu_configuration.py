"""conf/cluster.yaml without a GPU: vLLM takes what it says, the model fits, and Ray places the engines as it means.

Ray believes a node that says it has GPUs, so the places are real; what stands there in a test tells where it is.
"""

import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
import ray
from conftest import ROOT
from nodes import RayCluster, ray_cluster

from mmsrarec.config import BUNDLED_MODEL, Config, load
from mmsrarec.engines import batch, cluster
from mmsrarec.engines.delivery import Origin
from mmsrarec.engines.vllm import alone, engine_arguments, environment
from mmsrarec.errors import ConfigError
from mmsrarec.intake import model
from mmsrarec.intake.model import Size

SEVEN = Size(weights=15.5, kv_token=57_344)  # of Qwen2.5-VL-7B-Instruct, in GiB and bytes
TEXT = {"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28}
TEXT |= {"num_key_value_heads": 4, "vocab_size": 152064, "max_position_embeddings": 128000, "dtype": "bfloat16"}
TEXT |= {"rope_parameters": {"rope_type": "default", "mrope_section": [16, 24, 24], "rope_theta": 1e6}}
TEXT |= {"layer_types": ["full_attention"] * 28, "max_window_layers": 28, "tie_word_embeddings": False}
VISION = {"depth": 32, "hidden_size": 1280, "out_hidden_size": 3584, "intermediate_size": 3420, "num_heads": 16}
VISION |= {"fullatt_block_indexes": [7, 15, 23, 31]}
WHOLE = ["engine.num_gpus=1", "engine.gpu_memory_utilization=0.9"]
SHARED = ["engine.num_gpus=0.5", "engine.gpu_memory_utilization=0.45"]
SPREAD = ["engine.num_gpus=2", "engine.tensor_parallel_size=2"]


def configured(*settings: str) -> Config:
    return load(ROOT / "conf" / "cluster.yaml", list(settings))


def test_it_names_a_model_of_seven_billion_and_places_on_s3() -> None:
    config = configured()
    assert config.model == "Qwen/Qwen2.5-VL-7B-Instruct" and config.engine.dtype == "bfloat16"
    assert config.engine.most_replicas > config.engine.replicas >= 1
    assert all(place.startswith("s3://") for place in (config.lake.root, config.inputs.items, config.inputs.images))
    assert config.index.uri.startswith("http")


def test_a_gpu_engine_overlaps_scheduling_and_computing() -> None:
    assert "VLLM_ENABLE_V1_MULTIPROCESSING" not in environment(configured())


@pytest.mark.parametrize(
    ("settings", "gpu", "words"),
    [(WHOLE, 24.0, "room for"), (SHARED, 80.0, "room for"), (SPREAD, 16.0, "room for"), (WHOLE, 16.0, "not enough")],
)
def test_the_model_fits_the_gpus_that_the_file_names(settings: list[str], gpu: float, words: str) -> None:
    config = configured(*settings, "engine.address=local", "engine.replicas=1")
    (found,) = [one for one in model.about_gpus(config, SEVEN, [gpu, gpu]) if one.where != "engine.num_gpus"]
    assert words in found.what, found


def test_engines_that_do_not_share_fairly_are_refused() -> None:
    for settings in (["engine.num_gpus=0.5"], ["engine.num_gpus=2"], ["engine.tensor_parallel_size=2"]):
        with pytest.raises(ConfigError, match="num_gpus"):
            configured(*settings)


@pytest.mark.parametrize(("settings", "waits"), [(SHARED, True), (WHOLE, False)])
def test_engines_that_share_a_gpu_start_one_after_the_other(settings, waits: bool, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    config, started = configured(*settings), threading.Event()

    def another() -> None:
        with alone(config):
            started.set()

    thread = threading.Thread(target=another)
    with alone(config):
        thread.start()
        assert started.wait(0.5 if waits else 10) is not waits
    assert started.wait(10)
    thread.join()


@pytest.fixture(scope="module")
def seven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model of that size, without its weights."""
    folder = tmp_path_factory.mktemp("Qwen2.5-VL-7B-Instruct")
    for path in BUNDLED_MODEL.iterdir():
        if path.suffix != ".safetensors":
            (folder / path.name).write_bytes(path.read_bytes())
    config = json.loads((BUNDLED_MODEL / "config.json").read_text())
    config["text_config"] |= TEXT
    config["vision_config"] |= VISION
    (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    return folder


@pytest.mark.parametrize("settings", [WHOLE, SHARED, SPREAD], ids=["whole", "shared", "spread"])
def test_vllm_takes_the_arguments(seven: Path, settings: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    config = configured(*settings, f"model={seven}")
    for name, value in environment(config).items():
        monkeypatch.setenv(name, value)
    from vllm.engine.arg_utils import EngineArgs

    made = EngineArgs(**engine_arguments(config)).create_engine_config()
    assert made.model_config.max_model_len == config.engine.max_model_len
    assert str(made.model_config.dtype) == "torch.bfloat16"
    assert made.parallel_config.tensor_parallel_size == config.engine.tensor_parallel_size
    assert made.cache_config.gpu_memory_utilization == config.engine.gpu_memory_utilization
    assert made.cache_config.enable_prefix_caching


class Where:
    """In an engine's place: tells which GPUs of which node it has."""

    def __init__(self, *_: object):
        assert not os.environ.get("VLLM_ENABLE_V1_MULTIPROCESSING")

    def __call__(self, rows: pa.Table) -> pa.Table:
        time.sleep(0.5)  # as long as others need to be asked, too
        context = ray.get_runtime_context()
        return pa.table({"file": [json.dumps([context.get_node_id(), ray.get_gpu_ids(), context.get_actor_id()])]})


@pytest.fixture(scope="module")
def gpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    """One node with a GPU, one with two."""
    with ray_cluster(tmp_path_factory.mktemp("gpus"), "--num-cpus=4 --num-gpus=1", "--num-cpus=4 --num-gpus=2") as made:
        yield made


@pytest.fixture
def engines(gpus: RayCluster, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, tuple]]:
    """Which node and GPUs every engine of a configuration gets that has so many files to answer."""
    monkeypatch.setattr(batch, "Replica", Where)
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # nodes have no tests to import
    monkeypatch.delenv("VLLM_ENABLE_V1_MULTIPROCESSING", raising=False)

    def placed(files: int, *settings: str) -> dict[str, tuple]:
        config = configured(*settings, f"engine.address={gpus.address}")
        work = batch.Work([f"{number}" for number in range(files)], files, Origin("2026-01-01", "asking", "night"))
        with cluster.joined(config):
            told = [json.loads(line) for line in batch._engine_answers(config, work)]
        assert len(told) == files
        return {actor: (node, *gpus) for node, gpus, actor in told}

    return placed


@pytest.mark.slow
def test_whole_gpus_have_one_engine_each(engines: Callable) -> None:
    found = engines(24, *WHOLE, "engine.replicas=3", "engine.max_replicas=3")
    assert len(found) == len(set(found.values())) == 3
    assert all(len(place) == 2 for place in found.values())


@pytest.mark.slow
def test_two_engines_share_a_gpu(engines: Callable) -> None:
    found = Counter(engines(48, *SHARED, "engine.replicas=6", "engine.max_replicas=6").values())
    assert len(found) == 3 and set(found.values()) == {2}


@pytest.mark.slow
def test_an_engine_over_two_gpus_has_them_on_one_node(engines: Callable) -> None:
    ((place,),) = (set(engines(4, *SPREAD, "engine.replicas=1", "engine.max_replicas=1").values()),)
    assert sorted(place[1:]) == [0, 1]


def test_engines_are_added_up_to_the_most(engines: Callable) -> None:
    found = engines(60, *WHOLE, "engine.replicas=1", "engine.max_replicas=8")
    assert 1 < len(found) <= 3


def test_what_no_node_can_hold_is_waited_for_and_then_told(engines: Callable, capsys, monkeypatch) -> None:
    monkeypatch.setattr(ray.data.DataContext.get_current(), "execution_no_progress_timeout_s", 5)
    with pytest.raises(ray.data.exceptions.ExecutionTimeoutError):
        engines(1, "engine.num_gpus=4", "engine.tensor_parallel_size=4")
    said = capsys.readouterr().err
    assert "an engine takes 1 CPU and 4 GPUs of a node; 0 of the 3 nodes of the cluster are that large" in said
