"""S3 as it is on a bad day: a real server behind a proxy that makes trouble."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from s3_fixtures import KEY, SECRET, Server

from mmsrarec import log, redact
from mmsrarec.cli import endings
from mmsrarec.config import Config
from mmsrarec.errors import InputError, ModelError, StoreError
from mmsrarec.storage import files, models, s3, transfer
from mmsrarec.storage.objects import PictureError, Pictures
from mmsrarec.storage.transfer import FetchError

FOLDER = "s3://shop/photos"


@pytest.fixture(autouse=True, scope="module")
def _impatient():
    """The same rules, with less time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transfer, "GRACE_SECONDS", 0.5)
        patch.setattr(transfer, "BACKOFF_SECONDS", 0.05)
        patch.setattr(s3, "READ_SECONDS", 1.0)
        s3._client.cache_clear()
        yield
    s3._client.cache_clear()


def picture() -> bytes:
    content = BytesIO()
    values = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(values).save(content, "PNG")
    return content.getvalue()


def shop(**inputs) -> Pictures:
    return Pictures(Config(inputs={"items": "-", "interactions": "-", "images": FOLDER} | inputs))


def reason(pictures: Pictures, address: str) -> str:
    with pytest.raises(PictureError) as caught:
        pictures.open(address)
    return caught.value.reason


def test_objects_are_written_found_listed_and_deleted(s3_server: Server) -> None:
    for number in range(3):
        s3.write(f"{FOLDER}/a b/{number}+%ü.png", b"x" * number)
    assert s3.read(f"{FOLDER}/a b/2+%ü.png") == b"xx"
    assert [one.size for one in s3.listing(FOLDER)] == [0, 1, 2]
    assert s3.find(f"{FOLDER}/a b/1+%ü.png").size == 1 and s3.find(f"{FOLDER}/none") is None
    s3.delete([f"{FOLDER}/a b/0+%ü.png", f"{FOLDER}/none"])
    assert [one.name for one in s3.listing(FOLDER)] == ["a b/1+%ü.png", "a b/2+%ü.png"]


def test_more_than_a_page_is_listed_and_deleted(s3_server: Server, monkeypatch) -> None:
    monkeypatch.setattr(s3, "PAGE", 10)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: s3.write(f"{FOLDER}/{number:04}", b""), range(25)))
    assert [one.name for one in s3.listing(FOLDER)] == [f"{number:04}" for number in range(25)]
    files.delete_folder(FOLDER)
    assert files.listing(FOLDER) == []


@pytest.mark.parametrize("kind", ["503", "reset", "truncated", "slow", "stall"])
def test_what_goes_wrong_twice_is_asked_for_again(s3_server: Server, kind: str) -> None:
    content = picture()
    s3.write(f"{FOLDER}/a.png", content)
    s3_server.trouble(kind, "a.png", times=2)
    assert s3.read(f"{FOLDER}/a.png") == content
    assert sum("GET /shop/photos/a.png" in line for line in s3_server.requests()) == 3


@pytest.mark.parametrize("kind, expected", [("503", "unreachable"), ("403", "forbidden"), ("404", "missing")])
def test_what_stays_wrong_is_a_reason_in_bounded_time(s3_server: Server, kind: str, expected: str) -> None:
    s3.write(f"{FOLDER}/a.png", picture())
    pictures = shop()
    s3_server.trouble(kind, "a.png")
    started = time.monotonic()
    assert reason(pictures, "a.png") == expected
    assert time.monotonic() - started < 20
    assert sum("a.png" in line and "GET" in line for line in s3_server.requests()) == (4 if kind == "503" else 1)


@pytest.mark.parametrize("kind", ["slow", "truncated"])
def test_a_body_that_never_comes_ends_after_three_attempts(s3_server: Server, kind: str) -> None:
    s3.write(f"{FOLDER}/a.png", picture())
    pictures = shop()
    s3_server.trouble(kind, "a.png")
    started = time.monotonic()
    assert reason(pictures, "a.png") == "unreachable"
    assert time.monotonic() - started < 20


def test_what_is_too_large_is_not_read(s3_server: Server) -> None:
    s3.write(f"{FOLDER}/a.png", b"x" * 100_000)
    with pytest.raises(FetchError) as caught:
        s3.read(f"{FOLDER}/a.png", limit=99_999)
    assert caught.value.reason == "too_large"
    assert len(s3.read(f"{FOLDER}/a.png", limit=100_000)) == 100_000


def test_pictures_of_a_folder_and_of_allowed_places(s3_server: Server, tmp_path: Path) -> None:
    s3.write(f"{FOLDER}/a.png", picture())
    s3.write("s3://shop/other/b.png", picture())
    s3.write("s3://shop/photos-private/c.png", picture())
    pictures = shop()
    assert pictures.open("a.png").size == pictures.open(f"{FOLDER}/a.png").size == (50, 40)
    assert [why for _, why in pictures.hashes(["a.png", None, "b.png"])] == [None, "no_picture", "missing"]
    for address in ("s3://shop/other/b.png", "s3://shop/photos-private/c.png", "s3://elsewhere/photos/a.png"):
        assert reason(pictures, address) == "not_allowed"
    for address in ("../other/b.png", "/other/b.png", f"{FOLDER}/../other/b.png"):
        assert reason(pictures, address) == "outside_folder"
    local = shop(images=str(tmp_path), image_sources=["s3://shop/other"])
    assert local.open("s3://shop/other/b.png").size == (50, 40)
    assert reason(local, f"{FOLDER}/a.png") == "not_allowed"


def test_a_folder_that_is_not_there_is_said_at_once(s3_server: Server) -> None:
    for images in ("s3://shop/nothing", "s3://no-such-bucket/photos", "s3://"):
        with pytest.raises(InputError):
            shop(images=images)


@pytest.mark.parametrize("kind, expected", [("503", "unreachable"), ("403", "forbidden")])
def test_a_store_that_is_down_stops_the_work(s3_server: Server, monkeypatch, kind: str, expected: str) -> None:
    s3.write(f"{FOLDER}/a.png", picture())
    pictures = shop()
    s3_server.trouble(kind, "a.png")
    monkeypatch.setattr("mmsrarec.storage.remote.FAILURES", 2)
    monkeypatch.setattr(s3, "REQUESTS", 1)
    s3._client.cache_clear()
    assert reason(pictures, "a.png") == expected
    with pytest.raises(StoreError, match="run the same command to go on"):
        pictures.open("a.png")
    s3._client.cache_clear()


def test_a_process_has_a_bounded_number_of_connections(s3_server: Server) -> None:
    assert s3._client(os.getpid()).meta.config.max_pool_connections == transfer.CONNECTIONS


def model(files_: dict[str, bytes]) -> str:
    for name, content in files_.items():
        s3.write(f"s3://shop/models/small/{name}", content)
    return "s3://shop/models/small"


def test_a_model_is_fetched_once_whole_and_without_what_could_run(
    s3_server: Server, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    place = model(
        {"config.json": b"{}", "model.safetensors": b"w" * 3_000_000, "model.bin": b"pickle", "code.py": b"x"}
    )
    s3_server.trouble("truncated", "model.safetensors", times=1)
    copy = models.fetched(place)
    assert sorted(path.name for path in copy.iterdir()) == ["config.json", "model.safetensors"]
    assert (copy.name, (copy / "model.safetensors").stat().st_size) == ("small", 3_000_000)
    s3_server.calm()
    with ThreadPoolExecutor(4) as threads:
        assert set(threads.map(lambda _: models.fetched(place), range(4))) == {copy}
    assert not [line for line in s3_server.requests() if "safetensors" in line]
    s3.write(f"{place}/config.json", b"{ }")
    assert models.fetched(place) != copy
    assert (models.fetched(place, trusted=True) / "code.py").exists()


def test_a_model_whose_fetch_breaks_off_is_not_there(s3_server: Server, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    place = model({"config.json": b"{}", "model.safetensors": b"w" * 1000})
    s3_server.trouble("truncated", "model.safetensors")
    with pytest.raises(StoreError, match="s3://shop/models/small"):
        models.fetched(place)
    s3_server.calm()
    assert (models.fetched(place) / "model.safetensors").read_bytes() == b"w" * 1000


def test_a_model_without_safetensors_is_refused(s3_server: Server, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(ModelError, match="safetensors"):
        models.fetched(model({"config.json": b"{}", "pytorch_model.bin": b"pickle"}))


def test_no_credentials_is_an_error_with_a_remedy(s3_server: Server, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.delenv(name)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("HOME", "/nonexistent")
        s3._client.cache_clear()
        with pytest.raises(StoreError, match="AWS_PROFILE"):
            s3.read(f"{FOLDER}/a.png")
    s3._client.cache_clear()


def test_no_credential_leaves_the_program(s3_server: Server, monkeypatch, capsys, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    signed = f"https://h/a?X-Amz-Credential={KEY}%2F2026&X-Amz-Signature=abcdef0123&X-Amz-Security-Token=FwoGZX"
    said = f"{KEY} {SECRET} {signed} https://me:secret@host/a <StringToSign>AWS4 {KEY}</StringToSign>"

    def fail() -> None:
        raise RuntimeError(said)

    log.say(said, "event", what=said)
    endings.guarded(fail)
    log.use("json")
    log.say(said, "event", what=said)
    log.use("people")
    told = capsys.readouterr().err + (tmp_path / "mmsrarec-error.log").read_text()
    for secret in (KEY, SECRET, "abcdef0123", "FwoGZX", "me:secret", "AWS4"):
        assert secret not in told
    assert "https://h/a" in told and redact.hidden("an ordinary line: 1+1=2") == "an ordinary line: 1+1=2"
    assert SECRET not in repr(s3._client(os.getpid())) and SECRET not in repr(files.find("s3://shop/a"))
    for section in ({"lake": {"root": "s3://me:secret@shop/lake"}}, {"model": "s3://me:secret@shop/model"}):
        with pytest.raises(ValueError) as caught:
            Config(inputs={"items": "-", "interactions": "-"}, **section)
        assert "do not belong" in str(caught.value)
