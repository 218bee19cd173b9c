"""mmsrarec from Python: light to import, errors instead of exit statuses, one run at a time; and typed throughout."""

import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from conftest import ROOT

import mmsrarec
from mmsrarec import UserError, load_config, read_recommendations, read_table, run
from mmsrarec.errors import ConfigError, InputError, LockError
from mmsrarec.schemas import TABLES
from mmsrarec.storage import lock, tables

EXAMPLES = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
NIGHTS = ("2026-02-27", "2026-02-28")


@pytest.fixture
def config(tmp_path: Path) -> mmsrarec.Config:
    """Of an own lake, whose inputs are not there."""
    path = tmp_path / "shop.yaml"
    path.write_text("inputs: {items: items.csv, interactions: events.csv}\n")
    return load_config(path, {"lake.root": tmp_path / "lake", "run.date": "2026-03-01", "rules.categories": ["Füße"]})


def lists(config: mmsrarec.Config) -> mmsrarec.Config:
    """Two published nights of two users."""
    rows = [
        {"run_date": night, "user_id": user, "rank": rank, "item_id": f"{night}/{rank}"}
        for night in NIGHTS for user in ("b", "a") for rank in (2, 1)
    ]  # fmt: skip
    tables.append(config.lake.root, "recommendations", tables.from_rows("recommendations", rows))
    return config


def test_overrides_by_name_or_as_on_the_command_line(config: mmsrarec.Config, tmp_path: Path) -> None:
    assert config.rules.categories == ["Füße"] and config.run.run_date == "2026-03-01"
    same = ["run.date=2026-03-01", "rules.categories=[Füße]", f"lake.root={tmp_path}/lake"]
    assert load_config(tmp_path / "shop.yaml", same) == config
    with pytest.raises(UserError, match=r"recommend\.top_k"):
        load_config(tmp_path / "shop.yaml", {"recommend.topk": 3})


def test_lists_of_a_night_and_of_users(config: mmsrarec.Config) -> None:
    with pytest.raises(InputError, match="no lists yet"):
        read_recommendations(config)
    found = read_recommendations(lists(config))
    assert set(found["run_date"].to_pylist()) == {NIGHTS[1]} and found.schema.equals(TABLES["recommendations"])
    order = found.select(["user_id", "rank"]).to_pylist()
    assert [tuple(row.values()) for row in order] == [("a", 1), ("a", 2), ("b", 1), ("b", 2)]
    earlier = read_recommendations(config, NIGHTS[0], ["b", "nobody"]).to_pandas()
    assert set(earlier["user_id"]) == {"b"} and set(earlier["run_date"]) == {NIGHTS[0]}
    assert read_recommendations(config, users="ab").num_rows == 0  # one user, not two
    with pytest.raises(InputError, match=f"no lists of 2020-01-01; published are {NIGHTS[0]}, {NIGHTS[1]}"):
        read_recommendations(config, "2020-01-01")


def test_tables_by_name(config: mmsrarec.Config) -> None:
    assert read_table(config, "catalog").schema.equals(TABLES["catalog"])
    found = read_table(lists(config), "recommendations", ["user_id"], [("rank", "=", 1), ("run_date", "=", NIGHTS[0])])
    assert sorted(found["user_id"].to_pylist()) == ["a", "b"] and found.column_names == ["user_id"]
    for arguments, near in ((("katalog",), "catalog"), (("catalog", ["titel"]), "title")):
        with pytest.raises(InputError, match=f"did you mean {near}"):
            read_table(config, *arguments)


def test_what_goes_wrong_is_raised_recorded_and_leaves_no_lock(config: mmsrarec.Config) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(InputError, match="run build_cf first") as raised:
        run(config, "publish", "retrieve")
    assert not raised.value.retry and lock.holder(config.lake.root) is None
    (row,) = read_table(config, "runs").to_pylist()
    assert (row["stage"], row["status"]) == ("retrieve", "failed")  # in their order, whatever that of the names
    assert signal.getsignal(signal.SIGTERM) is before
    with pytest.raises(ConfigError, match="no stage 'recomend'; the stages are build_cf, train_sasrec"):
        run(config, "recomend")


def test_another_thread_is_refused_as_another_process_is(config: mmsrarec.Config) -> None:
    caught: list[UserError] = []

    def other() -> None:
        try:
            run(config, "retrieve")
        except UserError as error:
            caught.append(error)

    with lock.held(config, "mine"):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    (error,) = caught
    assert isinstance(error, LockError) and error.retry and "held by run mine" in str(error)
    assert read_table(config, "runs").num_rows == 0


def test_importing_it_is_light_and_its_surface_complete() -> None:
    code = "import mmsrarec, sys; print('pyarrow' in sys.modules, mmsrarec.load_config and 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == ["False", "False"]
    for name in mmsrarec.__all__:
        assert name in dir(mmsrarec) and (getattr(mmsrarec, name).__doc__ or "").strip(), name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = mmsrarec.nothing


def test_the_package_and_the_examples_have_their_types(tmp_path: Path) -> None:
    files = [tmp_path / f"example_{number}.py" for number, code in enumerate(EXAMPLES) if "from mmsrarec" in code]
    for number, code in enumerate(EXAMPLES):
        (tmp_path / f"example_{number}.py").write_text(code)
    assert len(files) == 3
    command = [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml", "mmsrarec", *map(str, files)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    wrong = tmp_path / "wrong.py"
    wrong.write_text("from mmsrarec import load_config, run\n\nrun(load_config('a.yaml'), stages=3)\n")
    done = subprocess.run([*command, str(wrong)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and 'Unexpected keyword argument "stages"' in done.stdout


def test_errors_of_libraries_come_in_words(config: mmsrarec.Config, tmp_path: Path) -> None:
    log = tmp_path / "lake" / "catalog" / "_delta_log"
    log.mkdir(parents=True)
    (log / f"{0:020}.json").write_text("{broken")
    with pytest.raises(UserError) as raised:
        run(config, "retrieve")
    assert raised.value.__cause__ is not None and "table of the lake" in str(raised.value)
