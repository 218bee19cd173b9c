"""Co-occurrence and transitions against a slow readable reference."""

import math
import random
from collections import Counter, defaultdict

import pytest
from pyspark.sql import DataFrame, SparkSession

from mmsrarec.config import Config
from mmsrarec.preparation import cooccurrence

HUB_USERS = 100_000


def config(**settings: object) -> Config:
    return Config(inputs={"items": "", "interactions": ""}, build_cf=settings)


def random_histories(users: int, items: int, longest: int) -> list[list[str]]:
    chance = random.Random(5)
    names = [f"i{number}" for number in range(items)]
    return [chance.choices(names, k=chance.randint(1, longest)) for _ in range(users)]


def reference(histories: list[list[str]], settings: Config, directed: bool) -> dict[tuple[str, str], tuple]:
    """(item, other) -> (count, score, rank), by two loops over every history."""
    window, decay, top_n = settings.build_cf.window, settings.build_cf.decay, settings.build_cf.top_n
    counts, weights, taken = Counter(), defaultdict(float), Counter()
    for items in (history[-settings.build_cf.max_history :] for history in histories):
        taken.update(items)
        for first, before in enumerate(items):
            for distance, after in enumerate(items[first + 1 : first + 1 + window], start=1):
                ways = [(before, after)] if directed else [(before, after), (after, before)]
                for way in ways if before != after else []:
                    counts[way] += 1
                    weights[way] += decay ** (distance - 1)
    outgoing = defaultdict(float)
    for (item, _), weight in weights.items():
        outgoing[item] += weight
    scores = {
        (item, other): weight / (outgoing[item] if directed else math.sqrt(taken[item] * taken[other]))
        for (item, other), weight in weights.items()
        if weight > 0
    }
    found = {}
    for item in {item for item, _ in scores}:
        others = sorted((-round(score, 9), other) for (first, other), score in scores.items() if first == item)
        for rank, (_, other) in enumerate(others[:top_n], start=1):
            found[item, other] = (counts[item, other], scores[item, other], rank)
    return found


def tables_of(spark: SparkSession, histories: list[list[str]], settings: Config) -> tuple[DataFrame, DataFrame]:
    training = spark.createDataFrame(
        [(str(n), items) for n, items in enumerate(histories)], "user_id string, item_ids array<string>"
    )
    latest = cooccurrence.bounded(training, settings)
    pairs = cooccurrence.pairs(latest, settings)
    counts = cooccurrence.interactions(latest)
    return cooccurrence.cooccurrence(pairs, counts, settings), cooccurrence.transitions(pairs, settings)


@pytest.mark.parametrize(
    "settings",
    [
        config(),
        config(window=1, decay=0.0, top_n=3),
        config(window=3, decay=0.5, top_n=2, max_history=6),
        config(window=50, decay=1.0, max_history=4),
    ],
    ids=["defaults", "adjacent only", "cut", "window beyond every history"],
)
def test_both_tables_agree_with_the_reference(spark: SparkSession, settings: Config) -> None:
    histories = [*random_histories(users=60, items=12, longest=15), ["lonely"], ["twice", "twice"], []]
    for directed, table in zip((False, True), tables_of(spark, histories, settings), strict=True):
        expected = reference(histories, settings, directed)
        found = {(row[0], row[1]): (row["count"], row["score"], row["rank"]) for row in table.collect()}
        assert found.keys() == expected.keys() and len(found) > 12
        for pair, (count, score, rank) in expected.items():
            assert found[pair] == (count, pytest.approx(score, abs=1e-8), rank)


def test_scores_stay_within_one_where_an_item_is_taken_once(spark: SparkSession) -> None:
    histories = [list(dict.fromkeys(history)) for history in random_histories(users=200, items=8, longest=8)]
    pairs, moves = tables_of(spark, histories, config(decay=1.0))
    assert 0 < max(row["score"] for row in pairs.collect()) <= 1
    sums = defaultdict(float)
    for row in moves.collect():
        sums[row["item_id"]] += row["score"]
    assert all(total == pytest.approx(1) for total in sums.values())


def test_a_hub_item_costs_its_interactions_and_not_their_square(spark: SparkSession) -> None:
    """Everybody took the hub, then one of 100 items: 10^5 pairs, where all pairs of its users would be 5 * 10^9."""
    training = spark.range(HUB_USERS).selectExpr(
        "cast(id as string) user_id", "array('hub', concat('i', cast(id % 100 as string))) item_ids"
    )
    settings = config()
    latest = cooccurrence.bounded(training, settings)
    pairs = cooccurrence.pairs(latest, settings)
    near = cooccurrence.cooccurrence(pairs, cooccurrence.interactions(latest), settings).collect()
    hub = [row for row in near if row["item_id"] == "hub"]
    assert pairs.count() == 100 and len(hub) == settings.build_cf.top_n
    assert {row["count"] for row in hub} == {HUB_USERS // 100}
    assert hub[0]["score"] == pytest.approx(1000 / math.sqrt(HUB_USERS * 1000))


def test_equal_scores_are_ranked_by_id(spark: SparkSession) -> None:
    near, _ = tables_of(spark, [["a", "c"], ["a", "b"], ["a", "d"]], config())
    ranks = {row["neighbor_id"]: row["rank"] for row in near.collect() if row["item_id"] == "a"}
    assert ranks == {"b": 1, "c": 2, "d": 3}


def test_what_the_bound_cuts_is_counted(spark: SparkSession) -> None:
    training = spark.createDataFrame([("u", list("abcde")), ("v", ["a"])], "user_id string, item_ids array<string>")
    rows = {row["user_id"]: row for row in cooccurrence.bounded(training, config(max_history=3)).collect()}
    assert (rows["u"]["item_ids"], rows["u"]["cut"]) == (["c", "d", "e"], 2)
    assert (rows["v"]["item_ids"], rows["v"]["cut"]) == (["a"], 0)
