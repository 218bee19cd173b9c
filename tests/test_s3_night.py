"""A whole night with lake, pictures and model on S3: the same lists as with everything on a disk."""

from pathlib import Path

import pytest
from conftest import Shop, command
from s3_fixtures import KEY, SECRET, Server, uploaded

from mmsrarec.config.settings import BUNDLED_MODEL
from mmsrarec.storage import files, tables

ROOT = "s3://shop/lake"
COLUMNS = ["user_id", "rank", "item_id", "score", "because", "model"]


@pytest.mark.slow
def test_a_night_on_s3_makes_the_lists_of_a_night_on_a_disk(
    s3_server: Server, shop: Shop, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    given = dict(setting.split("=", 1) for setting in shop.settings)
    given |= {
        "lake.root": ROOT,
        "index.uri": str(tmp_path / "milvus.db"),  # Milvus Lite needs a disk
        "model": uploaded(BUNDLED_MODEL, f"s3://shop/models/{BUNDLED_MODEL.name}"),
        "inputs.images": uploaded(Path(given["inputs.images"]), "s3://shop/pictures"),
    }
    arguments = [argument for name, value in given.items() for argument in ("--set", f"{name}={value}")]
    for match in ("pictures", "staging", "models", "lake/answers"):
        s3_server.trouble("503", match, times=2)
        s3_server.trouble("truncated", f"{match}/", times=1)
    night = command("run", "conf/local.yaml", *arguments)
    assert night.returncode == 0, night.stderr[-3000:]
    local = str(shop.folder / "lake")
    for name, columns in {"item_keywords": ["item_id", "keywords", "image_ok"], "recommendations": COLUMNS}.items():
        keys = [(column, "ascending") for column in columns[:2]]
        here, there = (
            tables.read(root, name, columns).sort_by(keys[:1] if name == "item_keywords" else keys)
            for root in (local, ROOT)
        )
        assert there.equals(here) and there.num_rows
    assert files.listing(f"{ROOT}/staging") == [] and files.find(f"{ROOT}/unfinished.json") is None
    again = command("run", "conf/local.yaml", *arguments)
    assert again.returncode == 0 and "engine tokens 0 in" in again.stderr
    told = night.stdout + night.stderr + str(tables.read(ROOT, "runs").to_pylist())
    assert KEY not in told and SECRET not in told
