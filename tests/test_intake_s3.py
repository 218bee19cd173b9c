"""init and check on s3://, against a real S3 server over HTTP that the usual AWS variables name."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from botocore.config import Config as Retries
from conftest import command
from deltalake import write_deltalake
from exports import ITEMS, german, written

from mmsrarec.config import Config, load
from mmsrarec.errors import InputError
from mmsrarec.intake import data, machine
from mmsrarec.intake.init import Places, init

ORDERS = {
    "order_id": list(range(400)),
    "customer": [f"c{n % 50}" for n in range(400)],
    "Artikelnummer": [f"A-{n * 7 % ITEMS:05d}" for n in range(400)],
    "created": [1_750_000_000 + 3600 * n for n in range(400)],
}


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A bucket with a CSV export, the same orders as Parquet parts and as a Delta table."""
    folder = tmp_path_factory.mktemp("bucket")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # A process of its own: delta-rs keeps the interpreter's lock while it waits for an answer.
    program = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    variables = {"ENDPOINT_URL": f"http://127.0.0.1:{port}", "ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": "secret"}
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in (variables | {"REGION": "eu-central-1"}).items():
                patch.setenv(f"AWS_{name}", value)
            patch.delenv("AWS_ALLOW_HTTP", raising=False)
            patience = Retries(retries={"total_max_attempts": 12, "mode": "standard"})
            store = boto3.client(
                "s3", endpoint_url=variables["ENDPOINT_URL"], region_name="eu-central-1", config=patience
            )
            store.create_bucket(Bucket="shop", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
            items, _ = german(folder / "export")
            store.upload_file(str(items), "shop", "export/artikel.csv")
            for part in range(2):
                pq.write_table(pa.table(ORDERS).slice(part * 200, 200), folder / "part.parquet")
                store.upload_file(str(folder / "part.parquet"), "shop", f"orders/part-{part}.parquet")
            write_deltalake("s3://shop/delta", pa.table(ORDERS), storage_options={"aws_allow_http": "true"})
            yield "s3://shop"
    finally:
        server.terminate()
        server.wait()


@pytest.mark.parametrize("orders", ["orders", "delta"])
def test_init_then_check(orders: str, bucket: str, tmp_path: Path) -> None:
    places = Places(f"{bucket}/export/artikel.csv", f"{bucket}/{orders}", out=tmp_path / "shop.yaml")
    init(places, {})
    config = load(places.out)
    assert config.inputs.columns["user_id"] == "customer" and config.inputs.csv.items.delimiter == ";"
    found = list(data.check(config))
    assert [f"{ITEMS} rows (CSV, ';', utf-8)" in one.what for one in found].count(True) == 1
    kind = {"orders": "Parquet", "delta": "Delta"}[orders]
    assert [f"400 rows ({kind})" in one.what for one in found].count(True) == 1
    assert {one.where for one in found if one.level != "ok"} <= {"inputs.images", "build_cf.test_fraction"}


def test_what_is_not_there_is_an_error(bucket: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        init(Places(f"{bucket}/nothing.csv", f"{bucket}/orders", out=tmp_path / "shop.yaml"), {})
    with pytest.raises(InputError, match="inputs.items=s3://other/x.csv: "):
        init(Places("s3://other/x.csv", f"{bucket}/orders", out=tmp_path / "shop.yaml"), {})


def test_places_on_s3_are_reached_or_named(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = {"items": f"{bucket}/export/artikel.csv", "interactions": f"{bucket}/orders", "images": "s3://none/p"}
    config = Config(inputs=inputs, lake={"root": f"{bucket}/lake"})
    found = {one.where: one for one in machine.about_s3(config)}
    assert found["lake.root"].level == "ok"
    assert found["inputs.images"].level == "error" and "no such bucket" in found["inputs.images"].what
    assert found["spark"].level == "error" and "hadoop-aws" in found["spark"].remedy
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    found = {one.where: one for one in machine.about_s3(config)}
    assert found["lake.root"].level == "error" and "AWS_ENDPOINT_URL" in found["lake.root"].remedy


def test_the_commands_find_the_store_by_the_environment(bucket: str, tmp_path: Path) -> None:
    out = tmp_path / "shop.yaml"
    given = "--items", f"{bucket}/export/artikel.csv", "--interactions", f"{bucket}/delta", "--out", str(out)
    done = command("init", *given)
    assert done.returncode == 0, done.stderr
    assert "secret" not in done.stdout + done.stderr + out.read_text()
    rows = [["item_id", "title"], ["A-00001", "x"]]
    (tmp_path / "items.csv").write_text(written(rows, ","))
    done = command(
        "init", *given[2:], "--items", str(tmp_path / "items.csv"), "--force", "--column", "category=nothing"
    )
    assert done.returncode == 2 and "--items has no column nothing" in done.stderr
