"""mmsrarec init: from files as shops export them to a configuration that build_cf takes as it is."""

import os
import pty
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROOT, command
from deltalake import write_deltalake
from exports import ITEMS, USERS, german, spanish
from pyspark.sql import SparkSession

from mmsrarec.config import Config, load
from mmsrarec.demo.shop import write_shop
from mmsrarec.errors import ConfigError, InputError
from mmsrarec.intake import dialect, names
from mmsrarec.intake.init import Places, init
from mmsrarec.preparation.build_cf import build_cf
from mmsrarec.storage import tables


def parquet(folder: Path, **files: dict) -> Places:
    for name, columns in files.items():
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")
    return Places(str(folder / "items.parquet"), str(folder / "taken.parquet"), out=folder / "shop.yaml")


def taken(**names_of: str) -> dict:
    """300 events of 60 users on 50 items; the names of the columns are given."""
    rows = range(300)
    columns = {
        "user": [f"u{row % 60}" for row in rows],
        "item": [f"i{row * 7 % 50}" for row in rows],
        "time": [1_700_000_000 + 60 * row for row in rows],
    }
    return {names_of.get(name, name): values for name, values in columns.items()}


def items(**more: list) -> dict:
    return {"sku": [f"i{row}" for row in range(50)], "title": [f"A red thing {row}" for row in range(50)], **more}


def mapped(places: Places, given: dict | None = None) -> Config:
    init(places, given or {})
    return load(places.out)


@pytest.mark.parametrize("export", [german, spanish])
def test_an_export_with_odd_names_runs_as_it_is(export, tmp_path: Path, spark: SparkSession) -> None:
    first, second = export(tmp_path / "export")
    images = str(tmp_path / "export" / "fotos") if export is german else None
    init(Places(str(first), str(second), images, out=tmp_path / "shop.yaml"), {})
    config = load(tmp_path / "shop.yaml", [f"lake.root={tmp_path / 'lake'}"])
    build_cf(config, "first")
    catalog = {row["item_id"]: row for row in tables.read(config.lake.root, "catalog").to_pylist()}
    histories = tables.read(config.lake.root, "histories").to_pylist()
    assert len(catalog) == ITEMS and len(histories) in (USERS, USERS - 1)
    assert tables.count(config.lake.root, "rejects") == 0
    if export is german:
        row = catalog["A-00003"]
        assert row["title"] == 'Schöner "Stuhl" 3; grün' and row["image"] == "A-00003.jpg"
        assert row["text"].startswith(f"{row['title']}. Für draußen,\nNummer 3. ") and row["text"].endswith(
            ("Müller", "Groß")
        )
        assert {row["available"] for row in catalog.values()} == {True, False}
    else:
        assert catalog["7"]["text"] == "Niño 6. Descripción larga número 6. Niños"


def test_every_line_says_why_and_columns_of_our_names_stay(tmp_path: Path) -> None:
    write_shop(tmp_path, seed=7, items=60, users=80)
    places = Places(str(tmp_path / "items.parquet"), str(tmp_path / "interactions.parquet"), str(tmp_path / "pictures"))
    text = init(Places(places.items, places.interactions, places.images, out=tmp_path / "a" / "my shop.yaml"), {})
    config = load(tmp_path / "a" / "my shop.yaml")
    assert {name: config.inputs.columns[name] for name in ("item_id", "user_id", "timestamp", "title", "image")} == {
        name: name for name in ("item_id", "user_id", "timestamp", "title", "image")
    }
    assert config.inputs.interactions_columns == {} and config.dataset == "my shop"
    values = [line for line in text.splitlines() if not line.startswith("#") and not line.endswith(":")]
    assert values and all("  # " in line for line in values)
    assert "100% of the first 20 open" in text


def test_ids_are_found_by_what_the_files_share(tmp_path: Path) -> None:
    """Nothing is named like ids; ratings lie among the items' numbers, and so do the users."""
    numbers = {"c1": list(range(1, 201)), "c2": [f"Words about thing {n}" for n in range(200)]}
    rows = range(2000)
    events = {
        "a": [1 + n % 5 for n in rows],
        "b": [1 + n * 13 % 200 for n in rows],
        "c": [f"p{n % 90}" for n in rows],
        "d": [1_600_000_000 + n for n in rows],
    }
    config = mapped(parquet(tmp_path, items=numbers, taken=events))
    assert config.inputs.columns | config.inputs.interactions_columns == {
        "item_id": "b", "user_id": "c", "timestamp": "d", "title": "c2",
    }  # fmt: skip
    assert config.inputs.columns["item_id"] == "c1"


def test_each_file_may_have_an_id_of_its_own_rows(tmp_path: Path) -> None:
    """`id` is the item in one file and the event in the other."""
    events = {"id": list(range(300)), **taken(user="customer_id", item="product_id", time="created_at")}
    both = items() | {"id": [f"i{row}" for row in range(50)]}
    del both["sku"]
    config = mapped(parquet(tmp_path, items=both, taken=events))
    assert config.inputs.columns["item_id"] == "id"
    assert config.inputs.interactions_columns == {"item_id": "product_id"}
    assert config.inputs.columns["user_id"] == "customer_id"


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (taken(user="kunde") | {"account_id": [f"x{n % 50}" for n in range(300)]},
         ["user_id", "several columns are named like users", "kunde", "account_id", "--column user_id="]),
        (taken(user="who") | {"session": [f"s{n % 40}" for n in range(300)]},
         ["user_id", "no column is named like users", "who (u0, u1, u2)", "session", "--column user_id=who"]),
        (taken(time="paid_at") | {"sent_at": [1_700_000_000 + n for n in range(300)]},
         ["timestamp", "several columns hold times", "paid_at", "sent_at", "--column timestamp="]),
        (taken() | {"time": ["31.12.2024"] * 300}, ["timestamp", "no column holds times", "--column timestamp="]),
        (taken() | {"item": [f"other{n}" for n in range(300)]},
         ["item_id", "no ids of one file are found in the other", "--column items.item_id="]),
        (taken() | {"item 2": taken()["item"]}, ["item_id", "several columns fit", "item 2", "interactions.item_id"]),
    ],
)  # fmt: skip
def test_what_cannot_be_guessed_is_named_with_candidates_and_the_option(columns, words, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        init(parquet(tmp_path, items=items(), taken=columns), {})
    assert not [word for word in words if word not in str(caught.value)], str(caught.value)
    assert not (tmp_path / "shop.yaml").exists()


def test_what_is_given_is_taken(tmp_path: Path) -> None:
    columns = taken(user="who") | {"session": [f"s{n % 40}" for n in range(300)], "item 2": taken()["item"]}
    places = parquet(tmp_path, items=items(genre=["a", "b"] * 25), taken=columns)
    config = mapped(places, {"user_id": "session", "interactions.item_id": "item 2", "category": ""})
    assert config.inputs.columns["user_id"] == "session" and "category" not in config.inputs.columns
    assert config.inputs.interactions_columns == {"item_id": "item 2"}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"user": "who"}, "--column user=who: not a column of ours; did you mean user_id"),
        ({"user_id": "usr"}, "--interactions has no column usr; did you mean user"),
        ({"items.item_id": "user"}, "--items has no column user"),
    ],
)
def test_a_wrong_option_is_explained(given, words, tmp_path: Path) -> None:
    with pytest.raises((InputError, ConfigError), match=words):
        init(parquet(tmp_path, items=items(), taken=taken()), given)


def test_equal_signs_of_an_optional_column_are_a_question_too(tmp_path: Path) -> None:
    both = items(photo_1=[f"{n}.jpg" for n in range(50)], photo_2=[f"{n}.png" for n in range(50)])
    with pytest.raises(InputError, match=r"which column is image\?.*photo_1.*photo_2.*or --column image= for none"):
        init(parquet(tmp_path, items=both, taken=taken()), {})


def test_only_pictures_that_build_cf_takes_and_words_that_it_knows_are_mapped(tmp_path: Path) -> None:
    odd = items(
        photo=[b"\xff\xd8"] * 50, in_stock=["perhaps", "yes"] * 25, stock=[0, 3] * 25, image_path=["a.jpg"] * 50
    )
    config = mapped(parquet(tmp_path, items=odd, taken=taken()))
    assert config.inputs.columns["available"] == "stock" and config.inputs.columns["image"] == "image_path"


def test_a_column_of_our_name_that_build_cf_refuses_stops_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"column image \(image\) holds binary, expected the address"):
        init(parquet(tmp_path, items=items(image=[b"\xff\xd8"] * 50), taken=taken()), {})
    assert [path.suffix for path in tmp_path.iterdir()] == [".parquet"] * 2


def test_a_model_of_ones_own_goes_to_the_gpus_that_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 81559\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    places = parquet(tmp_path, items=items(), taken=taken())
    assert mapped(replace(places, model="org/model")).engine.num_gpus == 1
    assert mapped(replace(places, out=tmp_path / "b.yaml")).engine.num_gpus == 0


def test_a_configuration_is_not_overwritten(tmp_path: Path) -> None:
    places = parquet(tmp_path, items=items(), taken=taken())
    init(places, {})
    with pytest.raises(ConfigError, match="--force"):
        init(places, {})
    init(places, {}, force=True)


def test_delta_tables_and_folders_are_read(tmp_path: Path) -> None:
    write_deltalake(str(tmp_path / "items"), pa.table(items()))
    (tmp_path / "events").mkdir()
    for part in range(3):
        pq.write_table(pa.table(taken()).slice(part * 100, 100), tmp_path / "events" / f"part-{part}.parquet")
    text = init(Places(str(tmp_path / "items"), str(tmp_path / "events"), out=tmp_path / "shop.yaml"), {})
    assert "Delta" in text and "Parquet" in text and "300 rows" in text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"1,2\n3,4\n", "first row holds values"),
        (b"\x00\x01" * 99, "Delta table, Parquet"),
        (b"a,b\n", "empty"),
    ],
)
def test_files_that_are_no_tables(content: bytes, words: str, tmp_path: Path) -> None:
    places = parquet(tmp_path, taken=taken())
    (tmp_path / "things.csv").write_bytes(content)
    with pytest.raises(InputError, match=words):
        init(Places(str(tmp_path / "things.csv"), places.interactions, out=tmp_path / "x.yaml"), {})
    with pytest.raises(InputError, match="no such file"):
        init(Places(str(tmp_path / "nothing.csv"), places.interactions, out=tmp_path / "x.yaml"), {})


@pytest.mark.parametrize(
    ("text", "encoding", "delimiter"),
    [
        ("a;b\n1,5;2\n", "utf-8", ";"),
        ("a\tb,c\n1\t2\n", "utf-16", "\t"),
        ("name|größe\nTür|groß\nFuß|10\n" * 20, "windows-1252", "|"),
        ("código|nombre|descripción\n1|Niño 1|Descripción larga número 1\n" * 20, "windows-1252", "|"),
        ("Preis €;Größe\n12,50;groß\n", "windows-1252", ";"),
        ("nazwa;opis\nżółte krzesło;na świeże powietrze, dłuższy opis\n" * 20, "windows-1250", ";"),
        ("имя;пользователь\nкрасный стул;для дома и сада\n" * 20, "windows-1251", ";"),
        ("商品名,説明\n赤い椅子,庭のための椅子です\n" * 20, "shift_jis", ","),
    ],
)
def test_dialects(text: str, encoding: str, delimiter: str) -> None:
    found = dialect.guess(text.encode(encoding))
    assert found.delimiter == delimiter
    assert dialect.decoded(text.encode(encoding), found.encoding) == text


@pytest.mark.parametrize(
    ("role", "name", "expected"),
    [
        ("user_id", "KUNDEN_NR", 1.0), ("user_id", "customerId", 1.0), ("user_id", "order_id", 0.0),
        ("item_id", "Artikelnummer", 1.0), ("item_id", "id", 0.6), ("timestamp", "Kaufdatum", 0.8),
        ("title", "product_name", 1.0), ("available", "Verfügbar", 1.0), ("image", "image_url", 0.6),
    ],
)  # fmt: skip
def test_names(role: str, name: str, expected: float) -> None:
    assert names.score(role, name) == expected


def test_the_command_stops_in_a_pipe_and_names_what_comes_next(tmp_path: Path) -> None:
    places = parquet(tmp_path, items=items(), taken=taken(user="who") | {"session": [f"s{n % 40}" for n in range(300)]})
    given = "--items", places.items, "--interactions", places.interactions, "--out", str(places.out)
    refused = command("init", *given)
    assert refused.returncode == 2 and "--column user_id=who" in refused.stderr and not refused.stdout
    done = command("init", *given, "--column", "user_id=who")
    assert done.returncode == 0, done.stderr
    assert [f"mmsrarec {name} {places.out}" in done.stdout for name in ("check", "plan", "run")] == [True] * 3


def test_on_a_terminal_it_asks(tmp_path: Path) -> None:
    places = parquet(tmp_path, items=items(), taken=taken(user="who") | {"session": [f"s{n % 40}" for n in range(300)]})
    program = Path(sys.executable).parent / "mmsrarec"
    ours, theirs = pty.openpty()
    given = "--items", places.items, "--interactions", places.interactions, "--out", str(places.out)
    process = subprocess.Popen([program, "init", *given], stdin=theirs, stdout=theirs, stderr=theirs, cwd=ROOT)
    os.close(theirs)
    said = b""
    while b"is user_id" not in said:
        said += os.read(ours, 4096)
    os.write(ours, b"session\n")
    assert process.wait(timeout=60) == 0
    os.close(ours)
    assert load(places.out).inputs.columns["user_id"] == "session"
