"""Publishing on real Delta tables: gates, one commit per night, replays, the way back, and what readers see."""

import json
from pathlib import Path

import duckdb
import pytest
from deltalake import DeltaTable

from mmsrarec.cli import endings
from mmsrarec.config import Config
from mmsrarec.errors import GateError, InputError
from mmsrarec.publishing import figures
from mmsrarec.publishing.publish import publish, rollback
from mmsrarec.schemas import TABLES
from mmsrarec.storage import tables
from mmsrarec.storage.spool import Spool

USERS = [f"u{number}" for number in range(10)]
ITEMS = [f"i{number}" for number in range(12)]
FIRST, SECOND, THIRD = "2026-03-01", "2026-03-02", "2026-03-03"
CURRENT = "SELECT * FROM recommendations WHERE run_date = (SELECT max(run_date) FROM recommendations)"


def settings(folder: Path, date: str = FIRST, **sections: dict) -> Config:
    options = {"recommend": {"top_k": 3}, "run": {"date": date}} | sections
    return Config(inputs={"items": "", "interactions": ""}, lake={"root": str(folder)}, **options)


def stage(
    config: Config, shift: int = 2, score: float = 0.5, drop: tuple = (), **changed: dict[str, list[str]]
) -> None:
    """Every user has taken i0 and gets i(shift), i(shift + 1), i(shift + 2)."""
    rows = []
    for user in USERS:
        listed = changed.get(user, ITEMS[shift : shift + 3]) if user not in drop else []
        for rank, item in enumerate(listed, 1):
            row = {"run_date": config.run.run_date, "user_id": user, "rank": rank, "item_id": item}
            rows.append(row | {"score": score, "because": ["red"], "run_id": "recommended"})
    data = tables.from_rows("staged_recommendations", rows)
    tables.replace(config.lake.root, "staged_recommendations", data, f"run_date = '{config.run.run_date}'")


def seen(config: Config) -> list[dict]:
    """What a reader who follows the rule sees."""
    with duckdb.connect() as base:
        base.register("recommendations", DeltaTable(config.table("recommendations")).to_pyarrow_dataset())
        found = base.execute(CURRENT)
        names = [column[0] for column in found.description]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def ledger(config: Config, run_id: str) -> dict:
    (row,) = tables.read(config.lake.root, "runs", filters=[("run_id", "=", run_id)]).to_pylist()
    return row | {"notes": json.loads(row["notes"])}


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    root = str(tmp_path)
    catalog = [{"item_id": item, "available": item != "i11", "category": f"c{n % 2}"} for n, item in enumerate(ITEMS)]
    histories = [{"user_id": user, "item_ids": ["i0", "i0"], "split": "train"} for user in USERS]
    for name, rows in {"catalog": catalog, "histories": histories}.items():
        tables.replace(root, name, tables.from_rows(name, rows))
    return tmp_path


def test_a_first_night_is_published_by_one_commit_that_carries_the_run(lake: Path) -> None:
    config = settings(lake)
    stage(config)
    assert not tables.exists(config.lake.root, "recommendations")
    publish(config, "r1")
    assert {row["user_id"] for row in seen(config)} == set(USERS) and len(seen(config)) == 30
    (commit,) = DeltaTable(config.table("recommendations")).history()
    assert commit["run_id"] == "r1"
    row = ledger(config, "r1")
    assert (row["stage"], row["status"], row["rows_out"]) == ("publish", "completed", 30)
    assert row["notes"]["gates"]["users_covered"] == 1 and "mean_shift" not in row["notes"]["gates"]


def test_nothing_staged_is_told(lake: Path) -> None:
    with pytest.raises(InputError, match="no lists of 2026-03-01; run recommend first"):
        publish(settings(lake), "r1")


def test_a_replay_commits_nothing(lake: Path) -> None:
    config = settings(lake)
    stage(config)
    publish(config, "r1")
    version = tables.version(config.lake.root, "recommendations")
    publish(config, "r1")  # by its mark
    publish(config, "r2")  # by what it would write
    assert tables.version(config.lake.root, "recommendations") == version
    stage(config, shift=3)
    publish(config, "r2")
    assert tables.version(config.lake.root, "recommendations") == version + 1
    assert {row["item_id"] for row in seen(config)} == {"i3", "i4", "i5"}


@pytest.mark.parametrize(
    ("night", "sections", "words"),
    [
        ({"drop": ("u3",)}, {}, ["users covered: 0.9, allowed is at least 0.99 (publish.users_covered)"]),
        ({"u1": ["i1"]}, {}, ["lists full: 0.9,", "at least 0.95 (publish.lists_full)"]),
        ({"u1": ["i1", "i2", "i11"]}, {}, ["unavailable in the lists: 1,", "no setting loosens it"]),
        ({"u1": ["i1", "i2", "gone"]}, {}, ["unavailable in the lists: 1,"]),
        ({"u1": ["i1", "i2", "i0"]}, {}, ["seen in the lists: 1,"]),
        ({"u1": ["i1", "i2", "i2"]}, {}, ["repeated in the lists: 1,"]),
        ({}, {"rules": {"exclude_items": ["i3"]}}, ["excluded in the lists: 10,"]),
        ({}, {"rules": {"exclude_users": ["u1", "u2"]}}, ["excluded in the lists: 6,"]),
        ({}, {"rules": {"categories": ["c0"]}}, ["excluded in the lists: 10,"]),
        ({"score": 0.75}, {}, ["shift of the mean score: 0.25,", "at most 0.1 (publish.mean_shift)", "quantile_shift"]),
        ({"shift": 6}, {}, ["overlap with the night before: 0,", "at least 0.1 (publish.overlap_min)"]),
        ({}, {"publish": {"overlap_max": 0.9}}, ["overlap with the night before: 1,", "(publish.overlap_max)"]),
        ({"shift": 6, "drop": ("u3",)}, {}, ["fail 2 gate(s)", "users_covered", "overlap_min"]),
    ],
)
def test_a_failed_gate_changes_nothing_for_readers(lake: Path, night: dict, sections: dict, words: list[str]) -> None:
    stage(settings(lake))
    publish(settings(lake), "good")
    before, version = seen(settings(lake)), tables.version(str(lake), "recommendations")
    config = settings(lake, SECOND, **sections)
    stage(config, **night)
    with pytest.raises(GateError) as refused:
        publish(config, "bad")
    told = str(refused.value)
    assert all(word in told for word in [*words, "staged_recommendations", SECOND]), told
    assert tables.version(str(lake), "recommendations") == version and seen(config) == before
    assert tables.count(str(lake), "staged_recommendations", [("run_date", "=", SECOND)]) > 0
    row = ledger(config, "bad")
    assert row["status"] == "failed" and row["notes"]["failed"]


def test_a_failed_gate_has_an_exit_status_of_its_own(lake: Path, capsys: pytest.CaptureFixture) -> None:
    stage(settings(lake), drop=("u1",))
    assert endings.guarded(lambda: publish(settings(lake), "bad")) == GateError.exit_status not in (0, 1, 2)
    assert "publish.users_covered" in capsys.readouterr().err


def test_missing_ranks_are_found(lake: Path) -> None:
    config = settings(lake)
    stage(config)
    rows = [row | {"rank": row["rank"] + 1} for row in tables.read(str(lake), "staged_recommendations").to_pylist()]
    tables.replace(str(lake), "staged_recommendations", tables.from_rows("staged_recommendations", rows))
    with pytest.raises(GateError, match="lists with missing ranks: 10,"):
        publish(config, "r1")


def test_a_limit_may_be_changed_for_a_night(lake: Path) -> None:
    stage(settings(lake))
    publish(settings(lake), "r1")
    config = settings(lake, SECOND, publish={"overlap_min": 0})
    stage(config, shift=6)
    publish(config, "r2")
    assert {row["run_date"] for row in seen(config)} == {SECOND}


def test_excluded_users_are_not_expected(lake: Path) -> None:
    config = settings(lake, rules={"exclude_users": ["u3"]})
    stage(config, drop=("u3",))
    publish(config, "r1")
    assert len({row["user_id"] for row in seen(config)}) == 9


def test_rollback_makes_an_earlier_night_the_current_one(lake: Path) -> None:
    for date, shift in ((FIRST, 2), (SECOND, 3), (THIRD, 4)):
        stage(settings(lake, date), shift=shift)
        publish(settings(lake, date), date)
    config = settings(lake, THIRD)
    reader = DeltaTable(config.table("recommendations"))  # in the middle of the third night
    version = reader.version()
    rollback(config, "back", FIRST)
    assert {(row["run_date"], row["item_id"]) for row in seen(config)} == {(FIRST, i) for i in ("i2", "i3", "i4")}
    assert DeltaTable(config.table("recommendations")).history(1)[0]["run_id"] == "back"
    assert tables.version(str(lake), "recommendations") == version + 1
    assert reader.to_pyarrow_table().num_rows == 90
    assert ledger(config, "back")["notes"] == {"to": FIRST, "taken_back": [SECOND, THIRD]}
    rollback(config, "again", FIRST)
    assert tables.version(str(lake), "recommendations") == version + 1
    with pytest.raises(InputError, match="no lists of 2026-03-02 to go back to; published are 2026-03-01"):
        rollback(config, "no", SECOND)
    publish(config, THIRD)  # a replay of the run that published it does not bring it back
    assert {row["run_date"] for row in seen(config)} == {FIRST}
    publish(config, "anew")
    assert {row["run_date"] for row in seen(config)} == {THIRD}


def test_a_reader_in_the_middle_keeps_its_night(lake: Path) -> None:
    config = settings(lake)
    stage(config)
    publish(config, "r1")
    opened = DeltaTable(config.table("recommendations"))
    stage(config, shift=3)
    publish(config, "r2")
    assert {row["item_id"] for row in opened.to_pyarrow_table().to_pylist()} == {"i2", "i3", "i4"}


def test_old_staged_nights_go(lake: Path) -> None:
    for date in (FIRST, SECOND, THIRD):
        config = settings(lake, date, publish={"keep_staged": 2})
        stage(config)
        publish(config, date)
    assert tables.partitions(str(lake), "staged_recommendations") == [SECOND, THIRD]
    assert tables.partitions(str(lake), "recommendations") == [FIRST, SECOND, THIRD]


def test_ranges_of_users_say_the_same_as_all_at_once(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage(settings(lake))
    publish(settings(lake), "r1")
    config = settings(lake, SECOND, rules={"exclude_items": ["i4"]})
    stage(config, shift=3, u4=["i0", "i11", "i3"], drop=("u0", "u5"))
    with Spool("recommendations") as spool:
        whole = figures.measure(config, spool)
    monkeypatch.setattr(figures, "USERS", 3)
    with Spool("recommendations") as spool:
        parts = figures.measure(config, spool)
        assert sum(batch.num_rows for batch in spool.batches("recommendations")) == 24
    for name in figures.Figures.__dataclass_fields__:
        if not name.startswith("scores"):
            assert getattr(parts, name) == getattr(whole, name), name
    assert (whole.expected, whole.covered, whole.lists, whole.rows) == (10, 8, 8, 24)
    assert (whole.seen, whole.unavailable, whole.excluded) == (1, 1, 7)
    assert (whole.comparable, whole.again, whole.unchanged) == (24, 15, False)
    assert whole.scores.mean == parts.scores.mean == 0.5
    assert whole.scores.quantile(0.5) == parts.scores.quantile(0.5) == pytest.approx(0.5, abs=1e-3)


def test_the_staged_table_has_the_contract_of_the_published_one() -> None:
    assert TABLES["staged_recommendations"].equals(TABLES["recommendations"])
