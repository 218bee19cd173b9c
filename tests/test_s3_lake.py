"""A lake on S3, over HTTP: tables, the lock, the ledger, resuming, staging, checkpoints and forgetting hold as on a
disk; nothing of it needs the driver's."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from s3_fixtures import KEY, SECRET, Server

from mmsrarec.collaborative import checkpoint, fusion, text
from mmsrarec.collaborative.index import UserIndex
from mmsrarec.config import Config
from mmsrarec.engines import delivery
from mmsrarec.engines.delivery import Delivery, Origin
from mmsrarec.engines.types import Answer
from mmsrarec.errors import ConfigError, GateError, LockError, StoreError, UserError, explained
from mmsrarec.planning.lake import tonight
from mmsrarec.preparation.build_cf import build_cf
from mmsrarec.publishing.clean import clean
from mmsrarec.publishing.forget import forget
from mmsrarec.publishing.publish import publish
from mmsrarec.reports import metrics
from mmsrarec.storage import files, lock, rules, runs, s3, tables
from mmsrarec.storage.resume import Run
from mmsrarec.training.bookmark import Bookmark

ROOT = "s3://shop/lake"


def settings(**sections) -> Config:
    inputs = {"items": "-", "interactions": "-"} | sections.pop("inputs", {})
    return Config(inputs=inputs, lake={"root": ROOT}, run={"date": "2026-03-01"}, **sections)


def rejected(run_id: str) -> pa.Table:
    return tables.from_rows("rejects", [{"run_id": run_id, "stage": "s", "key": "k"}])


def test_tables_are_replaced_appended_and_committed_once(s3_server: Server) -> None:
    assert tables.read(ROOT, "rejects").num_rows == 0 and tables.version(ROOT, "rejects") is None
    tables.append(ROOT, "rejects", rejected("a"))
    for _ in range(2):
        tables.append(ROOT, "rejects", rejected("b"), tables.Commit("b", "work", 0))
    tables.replace(ROOT, "rejects", pa.concat_tables([rejected("a")] * 2), "run_id = 'a'")
    assert sorted(tables.read(ROOT, "rejects")["run_id"].to_pylist()) == ["a", "a", "b"]
    assert [batch.num_rows for batch in tables.stream(ROOT, "rejects", filters=[("run_id", "=", "b")])] == [1]


def test_a_process_that_read_a_table_ends_in_peace(s3_server: Server) -> None:
    """Also where it has not read all of it: Arrow's threads have more in hand then."""
    for _ in range(3):
        tables.append(ROOT, "rejects", pa.concat_tables([rejected("a")] * 10_000))
    code = f"from mmsrarec.storage import tables; print(next(tables.stream({ROOT!r}, 'rejects')).num_rows)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "8192\n")


def test_of_many_that_swap_at_once_exactly_one_wins(s3_server: Server) -> None:
    for seen in (None, 0, 1):
        rows = [tables.from_rows("locks", [{"token": str(number)}]) for number in range(8)]
        with ThreadPoolExecutor(8) as threads:
            won = list(threads.map(lambda row, seen=seen: tables.swap(ROOT, "locks", row, seen), rows))
        assert won.count(True) == 1 and tables.snapshot(ROOT, "locks")[1].equals(rows[won.index(True)])


def test_a_second_run_is_refused_and_a_stage_is_in_the_ledger(s3_server: Server) -> None:
    config = settings()
    code = "import sys; from mmsrarec.config import Config; from mmsrarec.storage import lock\n"
    code += (
        "with lock.held(Config.model_validate_json(sys.argv[1]), 'other'): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, config.model_dump_json()]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(LockError, match="held by run other"), lock.held(config, "mine"):
            pass
        other.communicate("")
    with runs.stage(config, "retrieve", "mine") as stage:
        stage.reject("k", "why", f"with {SECRET}")
    (row,) = runs.ledger(config)
    assert (row["stage"], row["status"]) == ("retrieve", "completed")
    assert SECRET not in str(tables.read(ROOT, "rejects").to_pylist())


def test_a_run_that_was_stopped_goes_on(s3_server: Server) -> None:
    s3.write("s3://shop/items.csv", b"item_id\n")
    config = settings(inputs={"items": "s3://shop/items.csv"})
    run = Run(config, ["build_cf", "recommend"])
    run.begin()
    with runs.stage(config, "build_cf", run.run_id):
        pass
    again = Run(config, ["build_cf", "recommend"])
    assert (again.run_id, again.begin()) == (run.run_id, ["recommend"])
    s3.write("s3://shop/items.csv", b"item_id\n1\n")
    assert Run(config, ["build_cf", "recommend"]).run_id != run.run_id
    again.finish()
    assert files.listing(ROOT) and files.find(f"{ROOT}/unfinished.json") is None


def test_what_a_dead_driver_was_answered_is_committed_once(s3_server: Server) -> None:
    config = settings()
    driver = Delivery(config, "asking-night")
    assert driver.folder.startswith(f"{ROOT}/staging/")
    for number in range(3):
        staged, answer = f"{driver.folder}/{number:06}.parquet", Answer(f"{number}", "yes_no", None, 0.5, 7, 3, 1)
        assert delivery.written(staged) is None
        place = delivery.write(staged, [answer], Origin("2026-01-01", "asking", "night"))
        assert delivery.written(staged) == place
        if number < 2:
            assert driver.add(place) == [answer]
            driver.commit()
    with pytest.raises(ValueError), driver:
        raise ValueError
    for _ in range(2):
        delivery.recover(config)
    assert sorted(tables.read(ROOT, "answers")["key"].to_pylist()) == ["0", "1", "2"]
    assert files.listing(delivery.folder(config)) == []


def test_checkpoint_bookmark_fusion_and_metrics(s3_server: Server) -> None:
    config = settings(sasrec={"dim": 32, "max_length": 8})
    place, network = checkpoint.folder(config), config.sasrec
    model = checkpoint.build(3, network)
    for facts in ({"first": 1}, {"second": 2}):
        saved = checkpoint.save(place, model, pa.array(["a", "b", "c"]), network, facts)
    loaded = checkpoint.load(place)
    assert (loaded.model_hash, loaded.facts, len(files.listing(place))) == (saved, {"second": 2}, 3)
    assert torch.equal(loaded.model.items.weight, model.items.weight)
    bookmark, chance = Bookmark(f"{place}/training.pt", "this", every=0), np.random.default_rng(0)
    bookmark.save({"epoch": 3}, chance)
    assert bookmark.load(chance) == {"epoch": 3} and Bookmark(f"{place}/training.pt", "that").load(chance) is None
    fixed = fusion.fixed(["sasrec"])
    fusion.save(fusion.place(config), fixed)
    assert fusion.load(fusion.place(config), ["sasrec"]).hash == fixed.hash
    checkpoint.drop_others(settings(sasrec={"network": "gru4rec"}))
    assert checkpoint.describe(place) is None and files.find(fusion.place(config))
    metrics.write(config)
    assert b"mmsrarec_stage_rows" in files.read(f"{ROOT}/metrics.prom")


def test_vectors_of_text_may_be_on_s3(s3_server: Server) -> None:
    content = BytesIO()
    pq.write_table(pa.table({"item_id": ["b", "a"], "vector": [[0.0, 1.0], [2.0, 0.0]]}), content)
    s3.write("s3://shop/vectors/part.parquet", content.getvalue())
    for place in ("s3://shop/vectors", "s3://shop/vectors/part.parquet"):
        config = settings(sasrec={"text": True, "text_vectors": place})
        assert text.read(config, pa.array(["a", "b"])).given.tolist() == [[2.0, 0.0], [0.0, 1.0]]
    with pytest.raises(UserError, match=r"text_vectors"):
        text.read(settings(sasrec={"text": True, "text_vectors": "s3://shop/none"}), pa.array(["a"]))


@pytest.mark.slow
def test_a_night_is_published_and_a_user_forgotten(s3_server: Server, monkeypatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    config = settings(recommend={"top_k": 1})
    tables.replace(ROOT, "histories", tables.from_rows("histories", [_history(user) for user in "uv"]))
    items = [{"item_id": item, "available": True, "interactions": 1} for item in "ab"]
    tables.replace(ROOT, "catalog", tables.from_rows("catalog", items))
    lists = [{"run_date": "2026-03-01", "user_id": user, "rank": 1, "item_id": "b", "score": 0.5} for user in "uv"]
    tables.append(ROOT, "staged_recommendations", tables.from_rows("staged_recommendations", lists[:1]))
    with pytest.raises(GateError):
        publish(config, "night")
    tables.append(ROOT, "staged_recommendations", tables.from_rows("staged_recommendations", lists[1:]))
    publish(config, "night")
    assert tables.count(ROOT, "recommendations") == 2
    forget(config, "gone", ["u"])
    assert tables.read(ROOT, "recommendations")["user_id"].to_pylist() == ["v"]
    assert tables.read(ROOT, "histories")["user_id"].to_pylist() == ["v"]
    held = [one.name for one in s3.listing(f"{ROOT}/recommendations") if one.name.startswith("run_date")]
    assert len(held) == 1, "old versions are gone"
    clean(config, "clean")
    assert {row["status"] for row in runs.ledger(config)} == {"completed"}


def _history(user: str) -> dict:
    return {"user_id": user, "item_ids": ["a"], "timestamps": [1], "split": "train"}


def test_ids_of_a_rule_may_be_on_s3(s3_server: Server, tmp_path: Path) -> None:
    s3.write("s3://shop/ids.csv", b"user_id\n007\n")
    assert rules.load(settings(rules={"exclude_users_file": "s3://shop/ids.csv"})).users == {"007"}
    with pytest.raises(UserError, match="rules.exclude_users_file"):
        rules.load(settings(rules={"exclude_users_file": "s3://shop/none.csv"}))


def test_what_needs_a_disk_says_so(s3_server: Server) -> None:
    with pytest.raises(ConfigError, match="index.uri"):
        UserIndex(settings())
    with pytest.raises(UserError, match="run build_cf first"), tonight(settings(), fresh=True):
        pass


def test_what_breaks_off_for_the_moment_is_asked_again(s3_server: Server) -> None:
    for kind, times in (("503", 2), ("truncated", 2)):
        s3_server.trouble(kind, "rejects/_delta_log/", times=times)
    tables.append(ROOT, "rejects", rejected("a"))
    s3_server.trouble("503", "rejects", times=2)  # delta-rs asks again, too
    s3_server.trouble("truncated", "rejects/_delta_log/", times=2)
    s3_server.trouble("truncated", "rejects/part", times=1)
    assert tables.count(ROOT, "rejects") == 1
    s3_server.trouble("truncated", "rejects/_delta_log/", times=2)
    tables.append(ROOT, "rejects", rejected("b"))
    s3_server.trouble("truncated", "rejects/_delta_log/", times=2)
    tables.replace(ROOT, "rejects", rejected("c"))
    assert tables.read(ROOT, "rejects")["run_id"].to_pylist() == ["c"]


def test_trouble_with_a_table_is_told_without_credentials(s3_server: Server) -> None:
    tables.append(ROOT, "rejects", rejected("a"))
    s3_server.trouble("403", "rejects")
    with pytest.raises(Exception) as caught:
        tables.read(ROOT, "rejects")
    told = explained(caught.value)
    assert isinstance(told, StoreError) and "403" in str(told) and "AWS_REGION" in str(told)
    assert KEY not in str(told) and SECRET not in str(caught.value)


@pytest.mark.slow
def test_spark_hands_its_rows_over_and_one_engine_writes(s3_server: Server, spark, tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item_id,title\n" + "".join(f"i{number},t\n" for number in range(9)) + "i1,x\n")
    taken = [f"u{user},i{(user + step) % 9},{step}" for user in range(30) for step in range(6)]
    (tmp_path / "taken.csv").write_text("\n".join(["user_id,item_id,timestamp", *taken]))
    inputs = {"items": str(tmp_path / "items.csv"), "interactions": str(tmp_path / "taken.csv")}
    config = settings(inputs=inputs)
    for run_id in ("first", "second"):
        build_cf(config, run_id)
    assert tables.count(ROOT, "histories") == 30 and tables.count(ROOT, "catalog") == 9
    assert tables.read(ROOT, "item_cooccurrence").num_rows and tables.read(ROOT, "item_transitions").num_rows
    assert tables.read(ROOT, "rejects")["error"].to_pylist() == ["duplicate_item_id"] * 2
    written = {name: _engines(name) for name in ("histories", "catalog", "item_cooccurrence", "rejects")}
    assert set(map(frozenset, written.values())) == {frozenset({"delta-rs"})}
    with pytest.raises(UserError, match="s3a"):
        build_cf(settings(inputs=inputs | {"items": "s3://shop/items.csv"}), "third")


def _engines(name: str) -> set[str]:
    """Which engines wrote the commits of a table."""
    from deltalake import DeltaTable

    commits = DeltaTable(tables.address(ROOT, name)).history()
    return {
        (commit.get("engineInfo") or commit.get("clientVersion", "")).split(":")[0].split(".")[0] for commit in commits
    }


def test_a_folder_goes_with_the_marks_that_hadoop_makes_of_it(s3_server: Server) -> None:
    for key in ("staging/rows/", "staging/rows/_temporary/0/", "staging/rows/part-0.parquet", "staging/other"):
        s3._asked("s3://shop", "put_object", Bucket=s3_server.bucket, Key=key, Body=b"")
    assert [file.name for file in files.listing("s3://shop/staging/rows")] == ["part-0.parquet"]
    files.delete_folder("s3://shop/staging/rows")
    assert [one.name for one in s3.listing("s3://shop")] == ["staging/other"]


def test_nothing_is_left_in_the_environment_of_a_ray_job() -> None:
    """Ray shows a job's environment to whoever may see the cluster."""
    from mmsrarec.engines.vllm import environment

    assert not [name for name in environment(settings()) if name.startswith("AWS")]
    assert os.environ.get("AWS_SECRET_ACCESS_KEY") != SECRET
