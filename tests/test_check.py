"""mmsrarec check: a finding for each kind of defect, rows judged as build_cf judges them, reports and exit status."""

import io
import json
import os
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import command
from exports import written
from milvus_lite.adapter.grpc.server import start_server_in_thread
from PIL import Image
from pyspark.sql import SparkSession
from rich.console import Console

from mmsrarec.config import BUNDLED_MODEL, Config
from mmsrarec.demo.shop import write_shop
from mmsrarec.intake import data, facts, findings, machine, model
from mmsrarec.intake.findings import Finding
from mmsrarec.intake.model import Size
from mmsrarec.intake.sources import Table
from mmsrarec.preparation.build_cf import build_cf
from mmsrarec.storage import tables

NOW = int(time.time())
GOOD_ITEMS = [{"item_id": f"i{n}", "title": f"Thing {n}", "image": "", "available": "yes"} for n in range(40)]
GOOD_TAKEN = [
    {"user_id": f"u{n % 25}", "item_id": f"i{n * 7 % 40}", "timestamp": str(NOW - 86400 * (n % 50) - n)}
    for n in range(500)
]


def config(folder: Path, items: list[dict], taken: list[dict], **more) -> Config:
    pq.write_table(pa.Table.from_pylist(items), folder / "items.parquet")
    pq.write_table(pa.Table.from_pylist(taken), folder / "taken.parquet")
    inputs = {"items": str(folder / "items.parquet"), "interactions": str(folder / "taken.parquet")}
    return Config(
        inputs=inputs | more.pop("inputs", {}),
        lake={"root": str(folder / "lake")},
        build_cf={"test_fraction": 0},
        spark={"shuffle_partitions": 2},
        **more,
    )


def problems(found) -> list[Finding]:
    return [finding for finding in found if finding.level != "ok"]


def one(found, *words: str) -> Finding:
    """The one finding that has all the words."""
    fitting = [f for f in found if all(word in f"{f.level} {f.where}: {f.what} → {f.remedy}" for word in words)]
    assert len(fitting) == 1, (words, fitting, found)
    return fitting[0]


def test_good_data_has_no_problem(tmp_path: Path) -> None:
    assert problems(data.check(config(tmp_path, GOOD_ITEMS, GOOD_TAKEN))) == []


ODD_TIMES = [
    "2026-01-05", "2026-1-5 3:04", " 2026-01-05T12:00:00+01:00 ", "2026-01-05 12:00:00 Europe/Berlin", "1700000000",
    "1700000000123", "1700000000123456", "1700000000123456789", "1.7e9", "0", "-1", "", " ", None, "31.12.2024",
    "2026-13-01", "2026-02-30", "yesterday", "2024", "2024-05", "2026/01/05", "2026-01-05T12:00:00.123456789Z", "NaN",
    "9999999999", "2099-01-01", "2026-01-05 12", "2026-01-05 12:30 -0130",
    "2026-01-05T12:30+01:00", "2026-01-05 12:30:00 -0130", "2026-01-05T24:00:00", "1,700",
]  # fmt: skip
ODD_AVAILABLE = [
    "yes",
    "NO",
    "ja",
    "Nein",
    "sí",
    " 1 ",
    "0",
    "3.5",
    "-2",
    "",
    " ",
    None,
    "perhaps",
    "true",
    "1e2",
    "oui",
]


def odd_rows() -> tuple[list[dict], list[dict]]:
    items = [{"item_id": f"a{n}", "title": "t", "image": None, "available": a} for n, a in enumerate(ODD_AVAILABLE)]
    for ident, title in (
        (None, "x"),
        ("", "y"),
        ("i1", "Thing 1"),
        ("i1", "Thing 1"),
        ("i2", "other"),
        ("L" * 1025, "z"),
    ):
        items.append({"item_id": ident, "title": title, "image": None, "available": "yes"})
    items.append({"item_id": "i1", "title": "Thing 1", "image": "p.jpg", "available": "yes"})
    taken = [{"user_id": f"o{n}", "item_id": "i1", "timestamp": moment} for n, moment in enumerate(ODD_TIMES)]
    for user, item in (
        (None, "i1"),
        ("", "i1"),
        ("u1", None),
        ("u1", ""),
        ("u1", "nobody"),
        ("u1", "a12"),
        ("U" * 1025, "i1"),
    ):
        taken.append({"user_id": user, "item_id": item, "timestamp": str(NOW)})
    return GOOD_ITEMS + items, GOOD_TAKEN + taken


def test_rows_are_judged_as_build_cf_judges_them(tmp_path: Path, spark: SparkSession) -> None:
    made = config(tmp_path, *odd_rows(), run={"error_budget": 1})
    items = facts.read_items(Table(made, "items"), made, 10**6)
    taken = facts.read_interactions(Table(made, "interactions"), made, items, 10**6)
    build_cf(made, "first")
    rejects = tables.read(made.lake.root, "rejects").to_pylist()
    by_error = Counter(row["error"] for row in rejects)
    assert items.errors + taken.errors == by_error
    assert {"duplicate_item_id", "bad_available", "bad_timestamp", "future_timestamp", "unknown_item"} <= set(by_error)
    assert sorted(items.ids.to_pylist()) == sorted(tables.read(made.lake.root, "catalog")["item_id"].to_pylist())
    histories = tables.read(made.lake.root, "histories")
    assert sorted(taken.lengths) == sorted(map(len, histories["item_ids"].to_pylist()))
    moments = [moment for row in histories["timestamps"].to_pylist() for moment in row]
    assert set(moments) <= set(taken.times.tolist())
    assert items.identical == 2 and taken.dropped == len(taken.times) - len(moments)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1_700_000_000, None, -5], pa.int64()),
        pytest.param([1.7e9, float("nan"), 1.7e12], pa.float64(), marks=pytest.mark.slow),
        pytest.param([0, 10**15, -(10**6)], pa.timestamp("us"), marks=pytest.mark.slow),
        ([10**18, 1_700_000_000 * 10**9, None], pa.timestamp("ns", "UTC")),
        pytest.param([0, 20_000, None], pa.date32(), marks=pytest.mark.slow),
    ],
)
def test_times_of_every_type_are_read_as_build_cf_reads_them(values, kind, tmp_path: Path, spark: SparkSession) -> None:
    made = config(tmp_path, GOOD_ITEMS, GOOD_TAKEN, run={"error_budget": 1})
    ids = pa.array([7.0, 8.5, 9.0])
    columns = {"user_id": ids, "item_id": pa.array(["i1"] * 3), "timestamp": pa.array(values, kind)}
    pq.write_table(pa.table(columns), tmp_path / "taken.parquet")
    items = facts.read_items(Table(made, "items"), made, 10**6)
    taken = facts.read_interactions(Table(made, "interactions"), made, items, 10**6)
    build_cf(made, "first")
    assert taken.errors == Counter(tables.read(made.lake.root, "rejects")["error"].to_pylist())
    histories = tables.read(made.lake.root, "histories")
    assert sorted(taken.times) == sorted(moment for row in histories["timestamps"].to_pylist() for moment in row)


DEFECTS = {
    "an unknown item": (GOOD_ITEMS, [*GOOD_TAKEN, {**GOOD_TAKEN[0], "item_id": "gone"}],
                        ["warning", "1 of 501 (0.2%)", "u0/gone", "unknown_item", "add these items"]),
    "duplicates": ([*GOOD_ITEMS, {**GOOD_ITEMS[3], "title": "Other"}], GOOD_TAKEN,
                   ["warning", "'i3'", "duplicate_item_id"]),
    "no available item": ([{**row, "available": "no"} for row in GOOD_ITEMS], GOOD_TAKEN,
                          ["error", "no item is available"]),
    "neither text nor picture": ([*GOOD_ITEMS, {**GOOD_ITEMS[3], "item_id": "bare", "title": " "}], GOOD_TAKEN,
                                 ["warning", "1 of 41", "neither text nor picture"]),
    "one time": (GOOD_ITEMS, [{**row, "timestamp": "2026-01-01"} for row in GOOD_TAKEN],
                 ["warning", "same time, 2026-01-01", "no order"]),
    "a clock at zero": (GOOD_ITEMS, [{**row, "timestamp": "0"} for row in GOOD_TAKEN[:9]] + GOOD_TAKEN[9:],
                        ["warning", "9 of 500", "before 1973"]),
    "the future": (GOOD_ITEMS, [{**GOOD_TAKEN[0], "timestamp": "2199-01-01"}, *GOOD_TAKEN],
                   ["warning", "future_timestamp", "unit"]),
    "too many bad rows": (GOOD_ITEMS, [{**row, "item_id": "gone"} for row in GOOD_TAKEN[:200]] + GOOD_TAKEN[200:],
                          ["error", "run.error_budget", "200 of 540"]),
    "no good row": (GOOD_ITEMS, [{**row, "item_id": "gone"} for row in GOOD_TAKEN],
                    ["error", "interactions", "no row is valid"]),
    "short histories": (GOOD_ITEMS, [{**row, "user_id": f"v{n}"} for n, row in enumerate(GOOD_TAKEN)],
                        ["warning", "500 of 500", "fewer than 2 items", "short_history"]),
}  # fmt: skip


@pytest.mark.parametrize("name", DEFECTS)
def test_each_defect_of_the_rows_is_found(name: str, tmp_path: Path) -> None:
    items, taken, words = DEFECTS[name]
    one(data.check(config(tmp_path, items, taken)), *words)


@pytest.mark.parametrize(
    ("inputs", "items", "words"),
    [
        ({"columns": {"user_id": "kunde"}}, GOOD_ITEMS, ["inputs.columns", "kunde", "mmsrarec init"]),
        ({"interactions_columns": {"item_id": "sku"}}, GOOD_ITEMS, ["interactions_columns.item_id=sku"]),
        ({"interactions": "nothing.parquet"}, GOOD_ITEMS, ["inputs.interactions", "no such file"]),
        ({}, [{"sku": "1", "title": "t"}], ["inputs.items", "no column item_id"]),
        ({}, [{"item_id": ["1"], "title": "t"}], ["inputs.items", "expected text or numbers"]),
        ({}, [{"item_id": "1", "image": b"x"}], ["inputs.items", "expected the address of a picture"]),
        ({"text": ["overview"]}, GOOD_ITEMS, ["inputs.items", "no column overview"]),
    ],
)  # fmt: skip
def test_each_defect_of_the_columns_is_an_error(inputs: dict, items: list, words: list, tmp_path: Path) -> None:
    assert one(data.check(config(tmp_path, items, GOOD_TAKEN, inputs=inputs)), *words).level == "error"


def test_an_export_is_read_as_the_configuration_says(tmp_path: Path) -> None:
    made = config(tmp_path, GOOD_ITEMS, GOOD_TAKEN)
    rows = [["item_id", "title"], *[[f"i{n}", f"Größe {n}"] for n in range(40)]]
    (tmp_path / "items.csv").write_bytes(written(rows, ";").encode("windows-1252"))
    inputs = made.inputs.model_dump(exclude_unset=True) | {"items": str(tmp_path / "items.csv")}
    wrong = Config(**made.model_dump(exclude_unset=True) | {"inputs": inputs})
    one(data.check(wrong), "error", "no column item_id", "delimited by ';'", "inputs.csv.items.delimiter")
    inputs["csv"] = {"items": {"delimiter": ";", "encoding": "windows-1252"}}
    assert problems(data.check(Config(**made.model_dump(exclude_unset=True) | {"inputs": inputs}))) == []
    (tmp_path / "items.csv").write_bytes(written([*rows, ["i40", "a", "b"], ["i41"]], ";").encode("windows-1252"))
    one(
        data.check(Config(**made.model_dump(exclude_unset=True) | {"inputs": inputs})),
        "warning",
        "2 rows have more or fewer values",
    )


def test_large_tables_are_cut_and_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "MOST_ROWS", 30)
    found = list(data.check(config(tmp_path, GOOD_ITEMS, GOOD_TAKEN)))
    one(found, "only the first 30 of 40 rows")
    one(found, "only the first 30 of 500 rows")
    one(found, "warning", "not judged: whether every item is known")
    assert not [finding for finding in found if "unknown_item" in finding.what]


def test_pictures_are_opened_as_the_run_opens_them(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "pictures" / "good.png")
    (tmp_path / "pictures" / "bad.jpg").write_text("no picture")
    names = ["good.png", "bad.jpg", "gone.jpg", "https://shop.example/x.jpg"]
    items = [{**row, "image": names[n % 4]} for n, row in enumerate(GOOD_ITEMS)]
    inputs = {"images": str(tmp_path / "pictures")}
    found = list(data.check(config(tmp_path, items, GOOD_TAKEN, inputs=inputs)))
    one(found, "warning", "40 of 40", "10 are missing", "gone.jpg", "right folder")
    one(found, "warning", "10 are not_a_picture", "bad.jpg")
    one(found, "warning", "10 are not_allowed", "inputs.image_sources")
    items = [{**row, "image": "gone.jpg"} for row in GOOD_ITEMS]
    one(data.check(config(tmp_path, items, GOOD_TAKEN, inputs=inputs)), "error", "40 are missing")
    one(data.check(config(tmp_path, items, GOOD_TAKEN)), "error", "set inputs.images")
    inputs = {"images": str(tmp_path / "nowhere")}
    one(data.check(config(tmp_path, items, GOOD_TAKEN, inputs=inputs)), "error", "no such folder or .zip")
    one(data.check(config(tmp_path, GOOD_ITEMS, GOOD_TAKEN, inputs={"images": str(tmp_path)})), "inputs.columns.image")


def test_categories_of_the_rules_exist(tmp_path: Path) -> None:
    one(
        data.check(config(tmp_path, GOOD_ITEMS, GOOD_TAKEN, rules={"categories": ["Shose"]})),
        "warning",
        "Shose",
        "spelling",
    )


def test_the_bundled_model_is_fine(tmp_path: Path) -> None:
    found = list(model.check(config(tmp_path, GOOD_ITEMS, GOOD_TAKEN)))
    one(found, "ok", "'yes' and 'no'")
    assert problems(found) == []


def test_defects_of_the_model(tmp_path: Path) -> None:
    made = config(tmp_path, GOOD_ITEMS, GOOD_TAKEN)
    folder = tmp_path / "model"
    folder.mkdir()
    for file in BUNDLED_MODEL.iterdir():
        if file.suffix != ".safetensors" and file.name != "preprocessor_config.json":
            (folder / file.name).symlink_to(file)
    parts = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(parts))
    (folder / "model-1.safetensors").write_bytes(b"x")
    found = list(model.about_files(made, folder))
    one(found, "error", "1 of 2 files of weights are missing", "model-2.safetensors")
    (folder / "model.safetensors.index.json").unlink()
    (folder / "model-1.safetensors").rename(folder / "pytorch_model.bin")
    one(model.about_files(made, folder), "error", "pickled")
    wanted = config(tmp_path, GOOD_ITEMS, GOOD_TAKEN, engine={"extra": {"load_format": "auto"}})
    one(model.about_files(wanted, folder), "warning", "pickled")
    (folder / "pytorch_model.bin").unlink()
    one(model.about_files(made, folder), "error", "no weights in safetensors")
    one(
        model.about_template(config(tmp_path, GOOD_ITEMS, GOOD_TAKEN, model=str(tmp_path))), "error", "cannot be loaded"
    )
    long = config(tmp_path, GOOD_ITEMS, GOOD_TAKEN, engine={"max_model_len": 10**8, "tensor_parallel_size": 7})
    found = list(model.check(long))
    one(found, "error", "engine.max_model_len")
    one(found, "error", "engine.tensor_parallel_size", "heads")


def test_gpus_and_memory_are_compared_with_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    seven = Size(weights=15.5, kv_token=57_344)

    def gpus(here: list[float], **engine) -> list[Finding]:
        return list(model.about_gpus(config(tmp_path, GOOD_ITEMS, GOOD_TAKEN, engine=engine), seven, here))

    one(gpus([79.6], num_gpus=1), "ok", "15.50 GiB of 71.6 GiB")
    one(gpus([15.0], num_gpus=1), "error", "not enough for one prompt", "smaller or quantized")
    one(gpus([18.6], num_gpus=1), "warning", "prompts at a time")
    one(gpus([79.6], num_gpus=1, replicas=2), "error", "2 x 1 GPUs are asked for, 1 are here")
    one(gpus([15.0, 15.0], num_gpus=2, tensor_parallel_size=2), "ok", "of 27.0 GiB")
    on_cpu = config(tmp_path, GOOD_ITEMS, GOOD_TAKEN, engine={"replicas": 500})
    one(model.about_memory(on_cpu, seven), "error", "500 engines take about 8750.0 GiB")
    one(model.about_memory(on_cpu, seven), "warning", "on a CPU")


def test_the_gpus_of_this_machine_are_read_from_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 143771\necho 81559\n")  # as H200 and H100 print
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert [round(size) for size in model.gpus()] == [140, 80]
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nexit 9\n")
    assert model.gpus() == []


def test_the_size_of_a_model_is_read_from_its_files(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    os.truncate(tmp_path / "model.safetensors", 16 * 2**30)  # sparse
    described = {"dtype": "bfloat16", "num_attention_heads": 28, "num_key_value_heads": 4, "num_hidden_layers": 28}
    described["hidden_size"] = 3584
    made = config(tmp_path, GOOD_ITEMS, GOOD_TAKEN)
    assert model.size_of(made, tmp_path, described) == Size(16.0, 57_344)
    wide = config(tmp_path, GOOD_ITEMS, GOOD_TAKEN, engine={"dtype": "float32"})
    assert model.size_of(wide, tmp_path, described) == Size(32.0, 114_688)
    assert model.size_of(made, tmp_path, {}) is None


def test_java_is_there_and_new_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one(machine.about_java(), "ok", "version 17")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "java").write_text("#!/bin/sh\necho 'openjdk version \"1.8.0_402\"' >&2\n")
    (tmp_path / "bin" / "java").chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    one(machine.about_java(), "error", "version 8", "install a JDK 17")
    (tmp_path / "bin" / "java").unlink()
    one(machine.about_java(), "error", "there is none in JAVA_HOME")


def test_the_lake_has_room_and_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = config(tmp_path, GOOD_ITEMS, GOOD_TAKEN)
    one(machine.about_disk(made), "ok", str(tmp_path))
    (tmp_path / "lake").write_text("a file")
    one(machine.about_disk(made), "error", "no folder that can be written")
    (tmp_path / "lake").unlink()
    monkeypatch.setattr(machine, "LEAST_ROOM", 10**6)
    one(machine.about_disk(made), "error", "make room")


def test_a_milvus_server_is_asked(tmp_path: Path) -> None:
    server, database, port = start_server_in_thread(str(tmp_path / "milvus"))
    try:
        made = config(tmp_path, GOOD_ITEMS, GOOD_TAKEN, index={"uri": f"http://127.0.0.1:{port}"})
        one(machine.about_milvus(made), "ok", "Milvus")
    finally:
        server.stop(grace=None)
        database.close()
    one(machine.about_milvus(made), "error", "index.uri", "does not answer", "start the server")


def test_worst_first_and_rows_of_people_are_no_markup(capsys: pytest.CaptureFixture) -> None:
    found = [
        Finding("ok", "a", "fine"),
        Finding("warning", "b", "so\nso [red]", "mend"),
        Finding("error", "c", "bad", "stop"),
    ]
    found = findings.ordered(found)
    assert [finding.where for finding in found] == ["c", "b", "a"]
    findings.show(found, 1.0, as_json=False)
    assert capsys.readouterr().out == (
        "error   c: bad → stop\nwarning b: so so [red] → mend\nok      a: fine\n1 error, 1 warning, 1 ok; 1.0 s\n"
    )
    screen = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    screen.print(findings.table(found))
    assert "so [red]" in screen.file.getvalue() and "[/]" not in screen.file.getvalue()
    findings.show([replace(found[1], what="ü")], 1.0, as_json=True)
    said = json.loads(capsys.readouterr().out)
    assert said["findings"] == [{"level": "warning", "where": "b", "what": "ü", "remedy": "mend"}]
    assert said["counts"] == {"error": 0, "warning": 1, "ok": 0}


def test_the_command(tmp_path: Path) -> None:
    write_shop(tmp_path / "shop", seed=7, items=60, users=80)
    paths = {"items": "items.parquet", "interactions": "interactions.parquet", "images": "pictures"}
    given = [f"inputs.{name}={tmp_path / 'shop' / file}" for name, file in paths.items()] + [
        f"lake.root={tmp_path}/lake"
    ]
    arguments = [argument for setting in given for argument in ("--set", setting)]
    done = command("check", "conf/local.yaml", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("0 errors, ")
    assert not (tmp_path / "lake").exists()
    done = command("check", "conf/local.yaml", *arguments, "--set", "inputs.items=nothing.csv", "--json")
    assert done.returncode == 2
    first = json.loads(done.stdout)["findings"][0]
    assert first["level"] == "error" and first["where"] == "inputs.items" and "nothing.csv" in first["what"]


def test_a_sample_of_many_rows_takes_seconds(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    rows = 1_000_000
    columns = {"user_id": chance.integers(0, 50_000, rows), "item_id": [f"i{n}" for n in chance.integers(0, 40, rows)]}
    made = config(tmp_path, GOOD_ITEMS, GOOD_TAKEN)
    pq.write_table(pa.table(columns | {"timestamp": 1_700_000_000 + np.arange(rows)}), tmp_path / "taken.parquet")
    started = time.process_time()
    assert problems(data.check(made)) == []
    assert time.process_time() - started < 20
