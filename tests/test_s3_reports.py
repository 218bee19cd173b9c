"""What reads S3 beside the stages: the report page, old versions, and check with pictures, model and index."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from s3_fixtures import KEY, SECRET, Server
from small_night import BEFORE, TONIGHT
from small_night import config as small

from mmsrarec import log, noise
from mmsrarec.config import Config
from mmsrarec.config.data import Lake
from mmsrarec.config.settings import BUNDLED_MODEL
from mmsrarec.errors import LakeError, explained
from mmsrarec.intake import data, machine, model
from mmsrarec.intake.findings import Finding, show
from mmsrarec.reports.cards import ItemCard
from mmsrarec.reports.page import stage
from mmsrarec.reports.page.thumbnails import Thumbnails
from mmsrarec.storage import delta, files, models, remote, runs, s3, tables

ROOT = "s3://shop/lake"


def uploaded(folder: Path, address: str) -> str:
    for path in folder.rglob("*"):
        if path.is_file():
            s3.write(f"{address}/{path.relative_to(folder)}", path.read_bytes())
    return address


def settings(**sections) -> Config:
    inputs = {"items": "-", "interactions": "-"} | sections.pop("inputs", {})
    return Config(inputs=inputs, lake={"root": ROOT}, **sections)


def one(found: Iterator[Finding], *words: str) -> Finding:
    (chosen,) = [finding for finding in found if all(word in str(finding) for word in words)]
    return chosen


@pytest.fixture
def night(s3_server: Server, small_night: Config) -> Config:
    """The small night with its pictures on S3."""
    folder = Path(small_night.lake.root).parent
    images = uploaded(folder / "pictures", "s3://shop/pictures")
    made = small(folder)
    return made.model_copy(update={"inputs": made.inputs.model_copy(update={"images": images})})


@pytest.mark.slow
def test_the_page_of_a_night_is_in_the_lake(night: Config, capsys: pytest.CaptureFixture) -> None:
    uploaded(Path(night.lake.root), ROOT)
    night = night.model_copy(update={"lake": Lake(root=ROOT)})
    stage.report(night, "run-2")
    page = files.content(f"{ROOT}/report.html")
    assert page.startswith(b"<!doctype html>") and TONIGHT.encode() in page and b"data:image/webp" in page
    (row,) = [row for row in runs.ledger(night, "run-2") if row["stage"] == "report"]
    assert row["notes"] == {"bytes": len(page), "page": f"{ROOT}/report.html"}
    assert f"report: {ROOT}/report.html" in capsys.readouterr().err


def test_a_page_may_go_to_s3_from_a_lake_on_a_disk(night: Config, capsys: pytest.CaptureFixture) -> None:
    stage.write(night, "run-1", ["u0"], "s3://shop/elsewhere.html")
    assert BEFORE.encode() in files.content("s3://shop/elsewhere.html")
    assert "report: s3://shop/elsewhere.html" in capsys.readouterr().err


def test_a_page_is_made_where_its_pictures_do_not_come(
    night: Config, s3_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "FAILURES", 1)
    here, item = Thumbnails(night), ItemCard("i1", image="i1.png")
    s3_server.trouble("403", "pictures")
    assert here._open(item) == (None, "unreachable")
    assert Thumbnails(night)._open(item) == (None, "no_pictures_here")


def test_an_old_version_is_read_and_a_lost_file_is_told(s3_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ALLOW_HTTP", "")  # so that it is put back
    monkeypatch.delenv("AWS_ALLOW_HTTP")  # as the endpoint says http://
    for key in "ab":
        tables.append(ROOT, "rejects", tables.from_rows("rejects", [{"run_id": "r", "stage": "s", "key": key}]))
    (first, last) = sorted(commit["timestamp"] for commit in delta.open_table(f"{ROOT}/rejects").history())
    between = datetime.fromtimestamp((first + last) / 2000, UTC)
    assert tables.read_before(ROOT, "rejects", between)["key"].to_pylist() == ["a"]
    assert tables.read_before(ROOT, "rejects", datetime(2020, 1, 1, tzinfo=UTC)) is None
    s3.delete(f"{ROOT}/rejects/{one.name}" for one in s3.listing(f"{ROOT}/rejects") if one.name.startswith("part-"))
    with pytest.raises(FileNotFoundError) as caught:
        tables.read(ROOT, "rejects")
    told = explained(caught.value)
    assert isinstance(told, LakeError) and "rejects" in str(told) and "is damaged or gone" in str(told)


def test_check_opens_pictures_on_s3_as_a_run_does(night: Config, s3_server: Server, tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item_id,title,image\n" + "".join(f"i{n},t,i{n}.png\n" for n in range(10)))
    (tmp_path / "taken.csv").write_text("user_id,item_id,timestamp\nu,i1,1\n")
    inputs = {name: str(tmp_path / f"{file}.csv") for name, file in (("items", "items"), ("interactions", "taken"))}

    def found() -> Iterator[Finding]:
        return data.check(settings(inputs=inputs | {"images": "s3://shop/pictures"}))

    assert one(found(), "all of 10 that were opened are fine").level == "ok"
    s3_server.trouble("404", "/pictures/i3.png")
    assert "right folder" in one(found(), "1 are missing", "i3.png").remedy
    s3_server.trouble("403", "/pictures/")
    refused = one(found(), "pictures in a row cannot be read")
    assert refused.level == "error" and refused.where == "inputs.images"


def test_check_fetches_no_model(s3_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert one(model.check(settings(model="s3://shop/none")), "no .safetensors").level == "error"
    config = settings(model=uploaded(BUNDLED_MODEL, "s3://shop/models/small"))
    (told,) = model.check(config)
    assert told.level == "warning" and "not on this machine yet" in told.what
    assert not (tmp_path / "mmsrarec").exists()
    models.fetched(config.model_path)
    assert one(model.check(config), "chat template").level == "ok"
    assert not [finding for finding in model.check(config) if finding.level == "error"]


def test_check_says_what_milvus_lite_and_spark_cannot(s3_server: Server) -> None:
    assert one(machine.about_milvus(settings()), "index.uri").level == "error"
    assert not list(machine.about_milvus(settings(index={"uri": "milvus.db"})))
    assert {finding.where for finding in machine.about_s3(settings())} == {"lake.root"}
    assert one(machine.about_s3(settings(spark={"master": "yarn"})), "hadoop-aws").level == "error"


def test_no_credential_is_kept_or_found(
    s3_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    said = f"{KEY} {SECRET} https://me:secret@host/a"
    try:
        raise RuntimeError(said)
    except RuntimeError as error:
        kept = noise.keep_trace(error)
    show([Finding("error", "here", said, said)], 0.1, as_json=True)
    show([Finding("error", "here", said, said)], 0.1, as_json=False)
    copy = log._Copy(tmp_path / "run.log")
    copy.setFormatter(log._Marked("%(message)s"))
    copy.emit(log._logger.makeRecord("mmsrarec", 20, "", 0, said, None, None))
    copy.close()
    told = capsys.readouterr().out + Path(kept).read_text() + (tmp_path / "run.log").read_text()
    assert "https://***@host/a" in told and not [secret for secret in (KEY, SECRET, "me:secret") if secret in told]
