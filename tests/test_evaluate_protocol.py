"""Who is tested, on what, against what: the same whatever the order of the tables, never an item of the user's own."""

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mmsrarec.config import Config
from mmsrarec.errors import InputError
from mmsrarec.evaluation import metrics, outcome, protocol
from mmsrarec.storage import tables

ITEMS = [f"item {number:02d}" for number in range(40)]
GONE = {"item 07"}


def make_config(root: Path, **evaluate: int) -> Config:
    return Config(
        inputs={"items": "items.csv", "interactions": "interactions.csv"},
        lake={"root": str(root)},
        evaluation={"negatives": 5, **evaluate},
    )


def make_histories() -> list[dict]:
    generator = np.random.default_rng(4)
    rows = []
    for number in range(60):
        items = generator.choice(ITEMS, size=generator.integers(3, 12), replace=False).tolist()
        split = ("train", "test", "validation")[number % 3]
        rows.append(
            {"user_id": f"u/{number} 'é'", "item_ids": items, "timestamps": [*range(len(items))], "split": split}
        )
    rows.append({"user_id": "repeats", "item_ids": ["item 01", "item 02", "item 01"], "split": "test"})
    rows.append({"user_id": "gone", "item_ids": ["item 01", "item 02", "item 07"], "split": "test"})
    rows.append({"user_id": "has everything", "item_ids": ITEMS, "split": "test"})
    rows.append({"user_id": "has all but two", "item_ids": ITEMS[2:], "split": "test"})
    return rows


def write(root: Path, histories: list[dict]) -> None:
    catalog = [
        {"item_id": item, "title": item, "available": item not in GONE, "interactions": number}
        for number, item in enumerate(ITEMS)
    ]
    tables.replace(str(root), "catalog", tables.from_rows("catalog", catalog))
    tables.replace(str(root), "histories", tables.from_rows("histories", histories))


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("protocol")
    write(root, make_histories())
    return root


def test_the_last_item_is_the_target_and_not_in_the_history(lake: Path) -> None:
    test = protocol.load(make_config(lake))
    whole = {row["user_id"]: row["item_ids"] for row in make_histories()}
    assert test.items == sorted(set(ITEMS) - GONE)
    for row, target in zip(test.users.to_pylist(), test.targets, strict=True):
        assert [*row["item_ids"], test.items[target]] == whole[row["user_id"]]
        assert test.items[target] not in row["item_ids"]


def test_only_test_users_that_a_list_could_satisfy(lake: Path) -> None:
    test = protocol.load(make_config(lake))
    splits = {row["user_id"]: row["split"] for row in make_histories()}
    users = test.users["user_id"].to_pylist()
    assert {splits[user] for user in users} == {"test"}
    reached = {row["user_id"] for row in make_histories() if row["split"] == "test" and row["item_ids"][-1] not in GONE}
    assert set(users) == reached - {"repeats", "has everything"}
    assert test.left_out["target_seen_before"] == 1
    assert test.left_out["nothing_to_rank_against"] == 1
    assert test.left_out["target_unavailable"] >= 1


def test_negatives_are_distinct_available_items_outside_the_whole_history(lake: Path) -> None:
    test = protocol.load(make_config(lake))
    whole = {row["user_id"]: set(row["item_ids"]) for row in make_histories()}
    for user, columns in zip(test.users["user_id"].to_pylist(), test.negatives, strict=True):
        drawn = [test.items[column] for column in columns if column >= 0]
        assert len(drawn) == len(set(drawn)) == (2 if user == "has all but two" else 5)
        assert not set(drawn) & (whole[user] | GONE)


def test_the_same_questions_whatever_the_row_order_and_other_users(lake: Path, tmp_path: Path) -> None:
    config = make_config(lake)
    first = protocol.candidates_table(protocol.load(config))
    shuffled = list(reversed(make_histories()))
    newcomer = {"user_id": "new", "item_ids": ["item 03", "item 04", "item 05"], "split": "test"}
    write(tmp_path, [*shuffled, newcomer])
    second = protocol.candidates_table(protocol.load(make_config(tmp_path)))
    assert [row for row in second.to_pylist() if row["user_id"] != "new"] == first.to_pylist()
    assert protocol.candidates_table(protocol.load(config)).equals(first)


def test_another_seed_draws_other_negatives(lake: Path) -> None:
    config = make_config(lake)
    other = config.model_copy(update={"run": config.run.model_copy(update={"seed": 18})})
    a, b = (protocol.candidates_table(protocol.load(c)).to_pylist() for c in (config, other))
    assert [row["target_item_id"] for row in a] == [row["target_item_id"] for row in b]
    assert [row["negative_item_ids"] for row in a] != [row["negative_item_ids"] for row in b]


def test_max_users_draws_a_subset(lake: Path) -> None:
    everybody = protocol.load(make_config(lake)).users["user_id"].to_pylist()
    some = protocol.load(make_config(lake, max_users=7)).users["user_id"].to_pylist()
    assert some == everybody[:7]
    assert some != sorted(everybody)[:7]


def test_negatives_are_uniform(tmp_path: Path) -> None:
    rows = [{"user_id": str(n), "item_ids": ["item 00", "item 01", "item 02"], "split": "test"} for n in range(800)]
    write(tmp_path, rows)
    test = protocol.load(make_config(tmp_path, max_users=800))
    counts = Counter(test.negatives.ravel().tolist())
    allowed = len(test.items) - 3
    assert len(counts) == allowed
    expected = 800 * 5 / allowed
    chi_square = sum((count - expected) ** 2 / expected for count in counts.values())
    assert chi_square < 70  # 35 degrees of freedom: p = 0.0004


def test_full_ranking_leaves_seen_items_out_and_batches_agree(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    test = protocol.load(make_config(lake))
    preference = np.random.default_rng(6).random(len(test.items)).round(1)

    def scorer(users: pa.Table) -> np.ndarray:
        return np.broadcast_to(preference, (len(users), len(test.items)))

    found = outcome.run("fixed", scorer, test)
    for row, history in enumerate(test.users["item_ids"].to_pylist()):
        own = preference[test.targets[row]]
        rest = [preference[c] for c, item in enumerate(test.items) if item not in history and c != test.targets[row]]
        assert found.full.above[row] == sum(score > own for score in rest)
        assert found.full.tied[row] == sum(score == own for score in rest)
        assert found.full.others[row] == len(rest)
        drawn = [preference[column] for column in test.negatives[row] if column >= 0]
        assert [score for score in found.negatives[row] if score == score] == drawn
    monkeypatch.setattr(outcome, "CELLS", 3 * len(test.items))
    again = outcome.run("fixed", scorer, test)
    assert (again.full.above == found.full.above).all()
    assert np.array_equal(again.negatives, found.negatives, equal_nan=True)
    assert metrics.hit_rate(found.full, len(test.items)).mean() == 1.0


def test_no_test_user_is_an_empty_test_set(tmp_path: Path) -> None:
    write(tmp_path, [row for row in make_histories() if row["split"] != "test" or row["user_id"] == "repeats"])
    test = protocol.load(make_config(tmp_path))
    assert len(test.users) == 0
    assert test.left_out == {"target_seen_before": 1}
    assert len(protocol.candidates_table(test)) == 0


def test_no_histories_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="run build_cf first"):
        protocol.load(make_config(tmp_path))


def write_tail(root: Path, tails: dict[str, tuple[int, int, str]], second: int = 1_000_000) -> None:
    """user -> (length, held out, split); events an hour apart, but the third follows at once."""
    rows = []
    for number, (user, (length, held_out, split)) in enumerate(tails.items()):
        items = [ITEMS[(number + place) % 40] for place in range(length)]
        times = [(1_700_000_000 + 3600 * (place - (place == 2))) * second for place in range(length)]
        rows.append({"user_id": user, "item_ids": items, "timestamps": times, "split": split, "held_out": held_out})
    catalog = [{"item_id": item, "available": True} for item in ITEMS]
    tables.replace(str(root), "catalog", tables.from_rows("catalog", catalog))
    tables.replace(str(root), "histories", tables.from_rows("histories", rows))


TAILS = {"three": (9, 3, "test"), "all": (4, 4, "test"), "one": (5, 1, "test"), "other": (9, 3, "validation")}


def test_held_out_items_are_asked_in_turn_while_the_history_grows(tmp_path: Path) -> None:
    write_tail(tmp_path, TAILS)
    test = protocol.load(make_config(tmp_path, positions=8))
    found: dict[str, list[tuple[int, str]]] = {}
    for row, target in zip(test.users.to_pylist(), test.targets, strict=True):
        found.setdefault(row["user_id"], []).append((len(row["item_ids"]), test.items[target]))
    assert found == {
        "three": [(place, ITEMS[place]) for place in (6, 7, 8)],
        "all": [(place, ITEMS[1 + place]) for place in (1, 2, 3)],
        "one": [(4, ITEMS[2 + 4])],
    }
    assert test.left_out == {"no_history": 1}
    assert test.asked_users == 3 and len(test.owner) == 7
    assert [len(set(test.owner[test.users["user_id"].to_numpy() == user])) for user in found] == [1, 1, 1]
    keys = [(row["user_id"], row["position"]) for row in protocol.candidates_table(test).to_pylist()]
    assert len(set(keys)) == 7


def test_positions_bounds_how_many_are_asked_first_ones_first(tmp_path: Path) -> None:
    write_tail(tmp_path, TAILS)
    test = protocol.load(make_config(tmp_path, positions=2))
    assert sorted(zip(test.users["user_id"].to_pylist(), test.lengths.tolist(), strict=True)) == [
        ("all", 1),
        ("one", 4),
        ("three", 6),
        ("three", 7),
    ]


def test_no_later_item_of_the_user_is_a_negative(tmp_path: Path) -> None:
    write_tail(tmp_path, {f"u{number}": (30, 3, "test") for number in range(6)})
    test = protocol.load(make_config(tmp_path, positions=3))
    whole = {row["user_id"]: row["item_ids"] for row in tables.read(str(tmp_path), "histories").to_pylist()}
    for user, negatives in zip(test.users["user_id"].to_pylist(), test.negatives, strict=True):
        assert not {test.items[column] for column in negatives if column >= 0} & set(whole[user])
    of_first = test.negatives[test.owner == 0]
    assert len({tuple(row) for row in of_first.tolist()}) == 3, "each turn draws its own"


def test_gaps_where_there_is_a_clock_alone(tmp_path: Path) -> None:
    write_tail(tmp_path, TAILS)
    test = protocol.load(make_config(tmp_path, positions=8))
    of_all = test.gaps[[row["user_id"] == "all" for row in test.users.to_pylist()]]
    assert of_all.tolist() == [3600.0, 0.0, 7200.0]
    write_tail(tmp_path, TAILS, second=0)
    assert np.isnan(protocol.load(make_config(tmp_path, positions=8)).gaps).all()


def test_validation_questions_are_those_of_validation_users(tmp_path: Path) -> None:
    write_tail(tmp_path, TAILS)
    assert set(protocol.load(make_config(tmp_path, positions=8), "validation").users["user_id"].to_pylist()) == {
        "other"
    }


def test_the_cut_is_part_of_a_protocol_name(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    assert protocol.full_name(config) == "user-split/full"
    other = config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"protocol": "leave_one_out"})})
    assert protocol.sampled_name(other) == "leave-one-out/sampled-1+5"
