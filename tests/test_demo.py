"""The sample shop's truth and the teacher of the small backbone's lessons."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from mmsrarec.config import BUNDLED_MODEL
from mmsrarec.demo import teacher
from mmsrarec.demo.shop import HOUSE, WEIGHTS, make_shop, write_shop

SIZE = {"items": 50, "users": 40, "groups": 3}


def test_a_shop_follows_from_its_seed(tmp_path: Path) -> None:
    for folder, seed in (("one", 5), ("again", 5), ("other", 6)):
        write_shop(tmp_path / folder, seed, pictures=False, **SIZE)
    tables = {name: pq.read_table(tmp_path / name / "interactions.parquet") for name in ("one", "again", "other")}
    assert tables["one"].equals(tables["again"])
    assert not tables["one"].equals(tables["other"])


def test_pictures_follow_from_the_seed_and_differ(tmp_path: Path) -> None:
    for folder in ("one", "again"):
        write_shop(tmp_path / folder, 5, **SIZE)
    files = sorted((tmp_path / "one" / "pictures").iterdir())
    contents = [file.read_bytes() for file in files]
    assert contents == [(tmp_path / "again" / "pictures" / file.name).read_bytes() for file in files]
    assert len(set(contents)) == len(contents)


def test_the_text_says_what_the_truth_says_and_not_the_color_or_pattern(tmp_path: Path) -> None:
    write_shop(tmp_path, 5, pictures=False, **SIZE)
    truth = {row["item_id"]: row for row in json.loads((tmp_path / "truth.json").read_text())}
    described = [row for row in pq.read_table(tmp_path / "items.parquet").to_pylist() if row["description"]]
    assert len(described) > 40
    for row in described:
        text = f"{row['title']} {row['description']}".lower()
        assert all(word in text for word in truth[row["item_id"]]["text"])
        assert not [word for word in truth[row["item_id"]]["image"][:2] if word in text]


def test_a_house_sentence_stands_under_every_text_and_changes_nothing_else(tmp_path: Path) -> None:
    for folder, house in (("plain", ""), ("house", HOUSE)):
        write_shop(tmp_path / folder, 5, pictures=False, house=house, **SIZE)
    plain, ending = (pq.read_table(tmp_path / name / "items.parquet").to_pylist() for name in ("plain", "house"))
    for without, within in zip(plain, ending, strict=True):
        said = without["description"]
        assert within == without | {"description": f"{said} {HOUSE}" if said else None}
    known = [(tmp_path / name / "interactions.parquet").read_bytes() for name in ("plain", "house")]
    assert known[0] == known[1]


def test_pull_is_the_sum_of_what_fits() -> None:
    shop = make_shop(5, **SIZE)
    sums = {
        sum(weight * (mask >> bit & 1) for bit, weight in enumerate(WEIGHTS.values()))
        for mask in range(2 ** len(WEIGHTS))
    }
    assert set(np.concatenate(shop.pull).tolist()) <= sums
    assert all(len(set(journey)) == len(journey) for journey in shop.journeys)


def test_shares_count_later_items_more() -> None:
    own, similar = teacher.shares([["red"], ["blue"], ["red", "mug"]], [["red"], ["oak"]], "red")
    weights = np.array([teacher.RECENCY**2, teacher.RECENCY, 1])
    assert own == pytest.approx((weights[0] + weights[2]) / weights.sum())
    assert similar == 0.5
    assert teacher.shares([], [], "red") == (0, 0)


def test_the_teacher_learns_what_goes_with_the_fit() -> None:
    rng = np.random.default_rng(0)
    words = ["red", "blue", "oak", "mug"]
    features, fits = [], []
    for _ in range(400):
        history, keywords = ([rng.choice(words, 2, replace=False).tolist()] for _ in range(2))
        features.append(teacher.counts(history, [], keywords[0], "rank top 1, popular low"))
        fits.append(0.9 if set(history[0]) == set(keywords[0]) else 0.1)
    answers = teacher.fit(features, fits)(features)
    fitting = np.array(fits) > 0.5
    assert min(np.array(answers)[fitting]) > 0.6 > 0.4 > max(np.array(answers)[~fitting])


def test_the_backbone_was_taught_with_the_tokens_that_an_engine_sees() -> None:
    """transformers builds Qwen2's own normalizer and pre-tokenizer whatever the file says: another one in the file
    means that the lessons were cut into other tokens."""
    taught, served = (
        Tokenizer.from_file(str(BUNDLED_MODEL / "tokenizer.json")),
        AutoTokenizer.from_pretrained(BUNDLED_MODEL),
    )
    for text in ("1. red, plain, mug\nEvidence: like history 7, rank top 10", "It's 20 cm\n\n  wide, cafe\u0301 42%"):
        assert taught.encode(text).ids == served(text).input_ids
