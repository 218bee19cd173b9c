"""The configuration rejects nonsense with a message for the person who wrote it."""

from pathlib import Path

import pytest

from mmsrarec.config import BUNDLED_MODEL, load
from mmsrarec.errors import ConfigError

MINIMAL = "inputs:\n  items: items.csv\n  interactions: events.csv\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "job.yaml"
    path.write_text(text)
    return path


def test_defaults_and_overrides(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL)
    config = load(path, ["lake.root=/data/lake", "inputs.columns.user_id=customer", "run.date=2026-03-01"])
    assert (config.lake.root, config.run.run_date) == ("/data/lake", "2026-03-01")
    assert config.inputs.columns == {"user_id": "customer"}
    assert config.table("histories") == "/data/lake/histories"
    assert config.model_path == str(BUNDLED_MODEL)


def test_the_file_holds_dates_and_numbers_as_people_write_them(tmp_path: Path) -> None:
    config = load(write(tmp_path, MINIMAL + "  columns: {user_id: 0}\nrun:\n  date: 2026-03-01\n"))
    assert config.run.run_date == "2026-03-01"
    assert config.inputs.columns == {"user_id": "0"}


@pytest.mark.parametrize(
    ("text", "overrides", "words"),
    [
        (MINIMAL + "recomend:\n  top_k: 3\n", [], ["recomend", "recommend", "job.yaml"]),
        (MINIMAL + "recommend:\n  topk: 3\n", [], ["recommend.topk", "recommend.top_k"]),
        (MINIMAL, ["retrieve.similar_user=3"], ["retrieve.similar_user", "retrieve.similar_users", "--set"]),
        (MINIMAL + "recommend:\n  top_k: many\n", [], ["recommend.top_k", "many"]),
        (MINIMAL, ["summarize_items.summarizer=tuned"], ["summarize_items.summarizer", "untuned", "tuned"]),
        (MINIMAL, ["retrieve.similar_by=bert4rec"], ["retrieve.similar_by", "gru4rec", "bert4rec"]),
        (MINIMAL, ["recommend.training=sft"], ["recommend.training", "multi_task", "sft"]),
        (MINIMAL, ["recommend.evidence=some"], ["recommend.evidence", "some"]),
        (MINIMAL, ["recommend.prompt=title"], ["recommend.prompt", "compressed", "title"]),
        (MINIMAL, ["recommend.scoring=listwise"], ["recommend.scoring", "choice", "listwise"]),
        (MINIMAL, ["recommend.scoring=choice", "recommend.candidate_image=true"], ["recommend", "scoring=pointwise"]),
        (MINIMAL, ["recommend.top_k=0"], ["recommend.top_k", "greater than or equal to 1"]),
        (MINIMAL, ["build_cf.test_fraction=0.95"], ["build_cf", "no training users"]),
        (MINIMAL, ["nonsense"], ["nonsense", "a.b=value"]),
        ("inputs:\n  items: a.csv\n", [], ["inputs.interactions", "missing"]),
        (MINIMAL + "  csv: {items: {encoding: utf-9}}\n", [], ["inputs.csv.items.encoding", "utf-9", "windows-1252"]),
        (MINIMAL, ["inputs.csv.items.delimiter=;;"], ["inputs.csv.items.delimiter", "at most 1 character"]),
        (MINIMAL, ["inputs.interactions_columns.a.b=x"], ["inputs.interactions_columns.OURS=THEIRS"]),
        ("- a\n- b\n", [], ["expected sections"]),
        ("a: [1\n", [], ["not valid YAML"]),
    ],
)
def test_problems_are_named(tmp_path: Path, text: str, overrides: list[str], words: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        load(write(tmp_path, text), overrides)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: no such file"):
        load(tmp_path / "nowhere.yaml")


def test_money_needs_a_price(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL + "budget:\n  money: 5\n")
    with pytest.raises(ConfigError, match=r"budget\.money needs plan\.price_per_hour$"):
        load(path)
    assert load(path, ["plan.price_per_hour=2.5"]).budget.limited
    assert not load(write(tmp_path, MINIMAL)).budget.limited


CLUSTER = Path(__file__).parent.parent / "conf" / "cluster.yaml"


@pytest.mark.parametrize(
    "engine",
    [
        [],
        ["num_gpus=0.5", "gpu_memory_utilization=0.45"],
        ["num_gpus=2", "tensor_parallel_size=2"],
        ["num_gpus=4", "tensor_parallel_size=2", "extra={pipeline_parallel_size: 2}"],
        ["replicas=8", "max_replicas=null"],
    ],
)
def test_the_cluster_s_configuration_on_gpus_of_many_kinds(engine: list[str]) -> None:
    config = load(CLUSTER, [f"engine.{setting}" for setting in engine])
    assert config.model == "Qwen/Qwen2.5-VL-7B-Instruct"
    assert config.lake.root.startswith("s3://") and config.index.uri.startswith("http://")
    assert config.engine.num_gpus > 0 and config.engine.most_replicas == 8


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        (["max_replicas=2", "replicas=3"], ["max_replicas=2", "replicas=3"]),
        (["num_gpus=2"], ["num_gpus=2", "tensor_parallel_size=1"]),
        (["num_gpus=1.5"], ["num_gpus=1.5"]),
        (["num_gpus=1", "tensor_parallel_size=2"], ["tensor_parallel_size=2"]),
        (["num_gpus=0.5", "tensor_parallel_size=2"], ["tensor_parallel_size=2"]),
        (["num_gpus=0.5"], ["gpu_memory_utilization=0.9", "num_gpus=0.5"]),
    ],
)
def test_gpus_that_do_not_fit_the_engine(engine: list[str], words: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        load(CLUSTER, [f"engine.{setting}" for setting in engine])
    assert "engine" in str(error.value) and all(word in str(error.value) for word in words), str(error.value)


@pytest.mark.parametrize("run_id", ["a b", "x' OR 'a'='a", "../up", "", "é"])
def test_a_run_id_is_a_plain_name(run_id: str) -> None:
    with pytest.raises(ConfigError, match=r"run\.id"):
        load(CLUSTER, [f"run.id={run_id!r}" if run_id else "run.id=''"])


def test_networks_are_named_once(tmp_path: Path) -> None:
    """The main one, those of the evidence, and that of the similar users where it is neither."""
    path = write(tmp_path, MINIMAL)
    for given, names, similar in [
        ([], ["sasrec"], "sasrec"),
        (["retrieve.similar_by=sasrec"], ["sasrec"], "sasrec"),
        (["retrieve.similar_by=gru4rec"], ["sasrec", "gru4rec"], "gru4rec"),
        (["retrieve.similar_by=gru4rec", "retrieve.fusion.networks=[gru4rec]"], ["sasrec", "gru4rec"], "gru4rec"),
        (["retrieve.similar_by=sasrec", "sasrec.network=gru4rec"], ["gru4rec", "sasrec"], "sasrec"),
        (["retrieve.similar_by=none"], ["sasrec"], "sasrec"),
    ]:
        config = load(path, given)
        assert [each.sasrec.name for each in config.networks] == names
        assert config.similar_network.sasrec.name == similar
        assert config.retrieve.similar_users == (0 if "none" in str(given) else 3)
        assert len(config.evidence_networks) == 1 + len(config.retrieve.fusion.networks)
