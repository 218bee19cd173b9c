"""The whole job on a small shop with the real engines: once, then again with nothing changed."""

import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest
import yaml
from conftest import ROOT, Shop, command
from deltalake import DeltaTable

from mmsrarec.config import Config, load
from mmsrarec.pipeline import STAGES
from mmsrarec.schemas import KEYS, TABLES
from mmsrarec.storage import tables

WRITTEN = [name for name in TABLES if name not in ("rejects", "forgotten", "item_vectors", "ablation")]


@pytest.fixture(scope="module")
def settings(shop: Shop) -> list[str]:
    return [argument for setting in shop.settings for argument in ("--set", setting)]


@pytest.fixture(scope="module")
def config(shop: Shop) -> Config:
    return load(ROOT / "conf" / "local.yaml", shop.settings)


@pytest.fixture(scope="module")
def first(shop: Shop) -> subprocess.CompletedProcess:
    return shop.first


def rows(config: Config, name: str) -> list[dict]:
    """Rows in the order of their key, without the run that wrote them."""
    found = tables.read(config.lake.root, name).to_pylist()
    return sorted(({k: v for k, v in row.items() if k != "run_id"} for row in found), key=lambda r: json.dumps(r))


def test_the_job_completes_and_every_stage_is_in_the_ledger(first: subprocess.CompletedProcess, config: Config) -> None:
    assert first.returncode == 0, first.stderr[-3000:]
    ledger = {row["stage"]: row for row in tables.read(config.lake.root, "runs").to_pylist()}
    stages = "build_cf train_sasrec index_cf tune_summarizer summarize_items train_fusion retrieve".split()
    stages += "tune_recommender recommend publish evaluate clean report".split()
    assert list(ledger) and set(ledger) == set(stages)
    assert {row["status"] for row in ledger.values()} == {"completed"}
    assert ledger["summarize_items"]["prompt_tokens"] > 0 and ledger["recommend"]["output_tokens"] > 0


def test_the_plan_was_near_what_was_taken(first: subprocess.CompletedProcess, config: Config) -> None:
    for row in tables.read(config.lake.root, "runs").to_pylist():
        planned, taken = json.loads(row["notes"]).get("planned"), row["prompt_tokens"] + row["output_tokens"]
        assert bool(planned) == bool(taken), row["stage"]
        if planned:
            assert abs(planned["tokens"] - taken) <= 0.1 * taken, (row["stage"], planned, taken)
            assert planned["requests"] == json.loads(row["notes"])["engine_requests"]


def test_every_item_has_keywords_or_a_reject(first: subprocess.CompletedProcess, config: Config) -> None:
    items = set(pq.read_table(config.inputs.items)["item_id"].to_pylist())
    done = set(tables.read(config.lake.root, "item_keywords")["item_id"].to_pylist())
    rejected = set(tables.read(config.lake.root, "rejects")["key"].to_pylist())
    assert items <= done | rejected and not done & rejected


def test_keywords_say_what_the_picture_shows_and_the_text_says(
    first: subprocess.CompletedProcess, config: Config
) -> None:
    truth = {row["item_id"]: row for row in json.loads(Path(config.inputs.items).with_name("truth.json").read_text())}
    scores: dict[str, list[float]] = {"image": [], "text": []}
    for row in tables.read(config.lake.root, "item_keywords").to_pylist():
        item = truth[row["item_id"]]
        for kind, shown in (("image", row["image_ok"]), ("text", item["has_text"])):
            found = row[f"{kind}_keywords"]
            if shown:
                scores[kind].append(2 * len(set(item[kind]) & set(found)) / (len(item[kind]) + len(found)))
    for kind, values in scores.items():
        assert sum(values) / len(values) >= 0.9, kind


def test_every_user_has_a_full_list_of_unseen_items(first: subprocess.CompletedProcess, config: Config) -> None:
    lists: dict[str, list[dict]] = {}
    for row in tables.read(config.lake.root, "recommendations").to_pylist():
        lists.setdefault(row["user_id"], []).append(row)
    histories = tables.read(config.lake.root, "histories").to_pylist()
    assert {row["user_id"] for row in histories} == set(lists)
    for history in histories:
        found = sorted(lists[history["user_id"]], key=lambda row: row["rank"])
        items = [row["item_id"] for row in found]
        assert [row["rank"] for row in found] == list(range(1, config.recommend.top_k + 1))
        assert len(set(items)) == config.recommend.top_k and not set(items) & set(history["item_ids"])
        assert all(0 <= row["p_yes"] <= 1 and row["index_version"] for row in found)
        scores = [row["score"] for row in found]
        assert scores == sorted(scores, reverse=True)
        assert (found[0]["marks"] == "short_history") == (len(history["item_ids"]) < 2)


def test_the_engine_shared_prefixes(first: subprocess.CompletedProcess, config: Config) -> None:
    ledger = {row["stage"]: row for row in tables.read(config.lake.root, "runs").to_pylist()}
    assert json.loads(ledger["recommend"]["notes"])["prefix_cache_hit_rate"] > 0.3


def count_by_duckdb(table: DeltaTable) -> int:
    with duckdb.connect() as base:
        base.register("rows", table.to_pyarrow_dataset())
        return base.execute("SELECT count(*) FROM rows").fetchall()[0][0]


def test_three_readers_agree(first: subprocess.CompletedProcess, config: Config, spark) -> None:
    for name in WRITTEN:
        path = config.table(name)
        counts = {
            "deltalake": DeltaTable(path).to_pyarrow_table().num_rows,
            "spark": spark.read.format("delta").load(path).count(),
            "duckdb": count_by_duckdb(DeltaTable(path)),
        }
        assert len(set(counts.values())) == 1 and counts["spark"] > 0, (name, counts)
        assert not DeltaTable(path).protocol().reader_features, name
        keys = tables.read(config.lake.root, name, list(KEYS[name]))
        assert keys.group_by(keys.column_names).aggregate([]).num_rows == keys.num_rows, f"{name}: repeated key"


def test_the_evaluation_has_every_method(first: subprocess.CompletedProcess, config: Config) -> None:
    found = tables.read(config.lake.root, "evaluation").to_pylist()
    assert {row["method"] for row in found} >= {"mmsrarec", "sasrec", "popularity", "item_cooccurrence"}
    sure = [row for row in found if row["low"] is not None]
    assert {"hr", "ndcg", "auc", "ratio_ndcg"} <= {row["metric"] for row in sure}
    assert all(row["low"] <= row["value"] <= row["high"] for row in sure)


def test_explain_tells_the_story(first: subprocess.CompletedProcess, config: Config, settings: list[str]) -> None:
    user = tables.read(config.lake.root, "recommendations").slice(0, 1).to_pylist()[0]
    told = command("explain", "conf/local.yaml", "--user", user["user_id"], *settings)
    assert told.returncode == 0 and user["item_id"] in told.stdout
    item = command("explain", "conf/local.yaml", "--item", user["item_id"], *settings)
    assert item.returncode == 0 and "keywords of the picture" in item.stdout
    named = command("explain", "conf/local.yaml", "--user", user["user_id"], "--why-not", user["item_id"], *settings)
    assert named.returncode == 0 and "It passed every step" in named.stdout
    unknown = command("explain", "conf/local.yaml", "--user", "nobody", *settings)
    assert unknown.returncode == 2 and "nobody" in unknown.stderr and "Traceback" not in unknown.stderr


def in_a_notebook(config: Config, folder: Path) -> subprocess.CompletedProcess:
    """What the README shows for one, within a running event loop as cells are; the last expression is printed."""
    code = re.search(
        r"^```python\n(from mmsrarec.*?)^```$", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE
    )[1]
    *lines, last = code.rstrip().splitlines()
    cell = textwrap.indent("\n".join([*lines, f"print(({last}).to_json(orient='records'))"]), "    ")
    (folder / "conf").mkdir()
    (folder / "conf" / "local.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json", exclude_unset=True)))
    program = f"import asyncio\n\nasync def cell():\n{cell}\n\nasyncio.run(cell())\n"
    return subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, timeout=900)


def test_a_second_run_asks_no_engine_and_changes_nothing(
    first: subprocess.CompletedProcess, config: Config, settings: list[str], tmp_path: Path
) -> None:
    before = {name: rows(config, name) for name in WRITTEN if name not in ("runs", "evaluation", "locks")}
    again = in_a_notebook(config, tmp_path)
    assert again.returncode == 0, again.stderr[-3000:]
    shown = json.loads(again.stdout.splitlines()[-1])
    assert [row["rank"] for row in shown] == list(range(1, 11)) and all(row["title"] for row in shown)
    for name, known in before.items():
        assert rows(config, name) == known, name
    ledger = tables.read(config.lake.root, "runs").to_pylist()
    latest = max(row["run_id"] for row in ledger)
    ledger = [row for row in ledger if row["run_id"] == latest]
    assert latest in again.stderr and len(ledger) == len(STAGES)
    assert sum(row["prompt_tokens"] + row["output_tokens"] for row in ledger) == 0
    plan = command("plan", "conf/local.yaml", *settings, "--set", "budget.tokens=0")
    assert plan.returncode == 0 and "Within budget" in plan.stdout, plan.stderr[-3000:] + plan.stdout


@pytest.mark.slow
def test_a_plan_with_a_pilot_is_within_a_tenth_of_what_the_night_took(
    first: subprocess.CompletedProcess, config: Config, settings: list[str], tmp_path: Path
) -> None:
    nothing_known = ["--set", f"lake.root={tmp_path / 'lake'}", "--set", "plan.answer_tokens=null"]
    limit = ["--set", "budget.tokens=1"]
    plan = command("plan", "conf/local.yaml", *settings, *nothing_known, *limit, "--pilot")
    assert plan.returncode == 0 and not (tmp_path / "lake").exists(), plan.stderr[-3000:]
    told = int(re.search(r"the plan is ([\d,]+) tokens", " ".join(plan.stdout.split()))[1].replace(",", ""))
    ledger = tables.read(config.lake.root, "runs").to_pylist()
    first_run = min(row["run_id"] for row in ledger)
    took = sum(row["prompt_tokens"] + row["output_tokens"] for row in ledger if row["run_id"] == first_run)
    assert abs(told / took - 1) < 0.1


def test_messages_not_traces(settings: list[str], tmp_path: Path) -> None:
    for arguments, words in [
        (("run", "nowhere.yaml"), "nowhere.yaml"),
        (("run", "conf/local.yaml", "--set", "recomend.top_k=3"), "recommend"),
        (("build_cf", "conf/local.yaml", *settings, "--set", "inputs.columns.user_id=kunde",
          "--set", f"lake.root={tmp_path}", "--set", "inputs.interactions=nothing.csv"), "nothing.csv"),
    ]:  # fmt: skip
        result = command(*arguments)
        assert result.returncode == 2 and words in result.stderr and "Traceback" not in result.stderr
