"""The ledger: rows from the start of a stage on, what it read, refusals, and what people and Prometheus are shown."""

import json
import re
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from mmsrarec import log
from mmsrarec.config import Config
from mmsrarec.errors import InputError, UnfinishedError, UserError
from mmsrarec.progress import Progress
from mmsrarec.reports import ledger, metrics
from mmsrarec.storage import runs, tables

ROOT = Path(__file__).parent.parent


@pytest.fixture
def config(tmp_path) -> Config:
    return Config(inputs={"items": "-", "interactions": "-"}, lake={"root": str(tmp_path / "lake")})


@pytest.fixture
def json_lines():
    log.use("json")
    yield
    log.use("people")


def night(config: Config, run_id: str = "night-1") -> None:
    with runs.stage(config, "summarize_items", run_id, ("catalog",)) as stage:
        stage.rows_in, stage.rows_out, stage.prompt_tokens, stage.output_tokens = 10, 8, 1234, 56
        stage.versions["model"] = "m-1"
        stage.reject("a", "engine_error", "too long")
        stage.count_rejected("nothing_to_summarize", 1)
        (row,) = runs.ledger(config, run_id)
        assert row["status"] == "running" and row["finished_at"] is None


def test_a_stage_has_its_row_from_the_start_and_one_at_the_end(config):
    tables.replace(config.lake.root, "catalog", tables.from_rows("catalog", [{"item_id": "a"}]))
    night(config)
    (row,) = runs.ledger(config)
    assert row["status"] == "completed" and row["finished_at"] >= row["started_at"]
    assert (row["rows_in"], row["rows_out"], row["rows_rejected"], row["prompt_tokens"]) == (10, 8, 2, 1234)
    assert row["versions"] == {"mmsrarec": runs.code_version(), "tables": {"catalog": 0}, "model": "m-1"}
    assert row["notes"]["rejected"] == {"engine_error": 1, "nothing_to_summarize": 1}
    assert re.fullmatch(r"\d+\.\d+\.\d+\+[0-9a-f]{10}", runs.code_version())


@pytest.mark.parametrize("error, status", [(ValueError, "failed"), (KeyboardInterrupt, "interrupted")])
def test_a_stage_that_did_not_complete_is_no_input(config, error, status):
    with pytest.raises(error), runs.stage(config, "retrieve", "night-1"):
        raise error("why")
    with (
        pytest.raises(UnfinishedError, match=f"candidates.*retrieve.*night-1: {status}.*again"),
        runs.stage(config, "recommend", "night-1", ("catalog", "candidates")),
    ):
        raise AssertionError("the stage has begun")
    found = {row["stage"]: row for row in runs.ledger(config)}
    assert found["recommend"]["status"] == "failed" and "why" in found["retrieve"]["notes"]["error"]
    with runs.stage(config, "retrieve", "night-2"):
        pass
    with runs.stage(config, "recommend", "night-2", ("catalog", "candidates")) as stage:
        assert stage.tables_read == {"catalog": None, "candidates": None}


def test_the_metrics_are_those_of_the_latest_runs(config):
    night(config)
    with pytest.raises(ValueError), runs.stage(config, "recommend", "night-1"):
        raise ValueError
    with runs.stage(config, "recommend", "night-2"):
        metrics.write(config)
    text = Path(config.table("metrics.prom")).read_text()
    values = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert values["mmsrarec_stage_rows", "rejected", "summarize_items"] == 2
    assert values["mmsrarec_stage_rejected_rows", "engine_error", "summarize_items"] == 1
    assert values["mmsrarec_stage_tokens", "prompt", "summarize_items"] == 1234
    assert values["mmsrarec_stage_seconds", "summarize_items"] >= 0
    assert values["mmsrarec_stage_status", "completed", "summarize_items"] == 1
    assert values["mmsrarec_stage_status", "recommend", "running"] == 1
    assert values["mmsrarec_stage_status", "failed", "recommend"] == 0
    assert values["mmsrarec_stage_run_info", "night-2", "recommend"] == 1
    assert [file.name for file in Path(config.lake.root).glob("metrics*")] == ["metrics.prom"]


def test_people_see_the_runs_and_the_last_line(config, capsys):
    night(config)
    with pytest.raises(ValueError), runs.stage(config, "recommend", "night-2"):
        raise ValueError("no candidates today")
    shown = StringIO()
    ledger.show(config, None, Console(file=shown, width=200))
    assert "no run holds it" in shown.getvalue() and "night-1" in shown.getvalue() and "failed" in shown.getvalue()
    ledger.show(config, "night-2", Console(file=(one := StringIO()), width=200))
    assert "night-1" not in one.getvalue() and "no candidates today" in one.getvalue()
    with pytest.raises(InputError, match="no run night-9"):
        ledger.show(config, "night-9")
    ledger.last_line(config, "night-1", 0, 12.3)
    ledger.last_line(config, "night-2", 1, 0.1)
    first, second = capsys.readouterr().err.splitlines()[-2:]
    assert first == (
        "run night-1: completed; wrote summarize_items 8; rejected engine_error 1, nothing_to_summarize 1; "
        "engine tokens 1,234 in, 56 out; 12.3 s"
    )
    assert second.startswith("run night-2: failed in recommend; wrote nothing")


def test_json_lines_carry_run_stage_and_progress(config, capsys, json_lines):
    with runs.stage(config, "retrieve", "night-1"), Progress("retrieve", 2, "users") as progress:
        progress.advance(2)
    ledger.last_line(config, "night-1", 0, 1.0)
    done, last = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert (done["run_id"], done["stage"], done["event"], done["level"]) == ("night-1", "retrieve", "progress", "info")
    expected = {"done": 2, "total": 2, "unit": "users", "per_second": 0, "note": "done", "rejected": 0}
    assert done["fields"] | {"per_second": 0} == expected
    assert last["event"] == "run_finished" and last["fields"]["exit_status"] == 0


def test_every_cause_has_its_exit_status():
    def below(kind: type) -> list[type]:
        return [kind, *(found for child in kind.__subclasses__() for found in below(child))]

    documented = (ROOT / "README.md").read_text()
    for kind in below(UserError):
        assert f"\n| {kind.exit_status} |" in documented, kind
    own = [kind.exit_status for kind in below(UserError) if "exit_status" in vars(kind)]
    assert len(set(own)) == len(own) and not {0, 1, 130} & set(own)


def test_an_interrupted_command_says_so(tmp_path):
    said = "import os, signal, sys; from mmsrarec.cli import endings; sys.exit(endings.guarded(lambda: {}))"
    script = said.format("os.kill(os.getpid(), signal.SIGTERM)")
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 130 and "interrupted" in done.stderr
