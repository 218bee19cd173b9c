"""A sample of the rows of bench/hostile.py through the stages' own functions: none is lost, none crashes, none gets out
of its place. The whole of them through a whole night is what `make test-all` adds."""

import shutil
from collections import Counter
from io import StringIO
from itertools import islice
from pathlib import Path
from random import Random

import hostile_pictures
import hostile_rows
import numpy as np
import pytest
from hostile_fates import LOST, counts, fates, unexpected
from pyspark.sql import SparkSession
from rich.console import Console

from mmsrarec.collaborative.index import UserIndex
from mmsrarec.config import Config
from mmsrarec.demo.shop import write_shop
from mmsrarec.engines.template import Template
from mmsrarec.engines.untrusted import clean_text
from mmsrarec.errors import InputError, explained
from mmsrarec.intake import facts
from mmsrarec.intake.sources import Table
from mmsrarec.keywords import summarize
from mmsrarec.keywords.prompt import text_messages
from mmsrarec.preparation.build_cf import build_cf
from mmsrarec.publishing.forget import forget
from mmsrarec.reports.explain import explain, render_item, render_user
from mmsrarec.reports.item_story import of_item
from mmsrarec.reports.story import of_users
from mmsrarec.storage import runs, tables
from mmsrarec.storage.objects import PictureError, Pictures

COUNT = 500
KNOWN = [f"item-{number:04d}" for number in range(1, 9)]
RUN = "hostile"


@pytest.fixture(scope="module")
def rows() -> list[hostile_rows.Row]:
    return hostile_rows.make(COUNT, 1, KNOWN)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, rows: list[hostile_rows.Row]) -> Config:
    folder = tmp_path_factory.mktemp("hostile")
    write_shop(folder, seed=7, items=60, users=80)
    hostile_rows.write(folder, rows)
    inputs = {"items": "items.parquet", "interactions": "interactions.csv", "images": "pictures"}
    return Config(
        inputs={name: str(folder / file) for name, file in inputs.items()},
        lake={"root": str(folder / "lake")},
        spark={"shuffle_partitions": 2},
        run={"error_budget": 0.95},
    )


@pytest.fixture(scope="module")
def template(shop: Config) -> Template:
    return Template.of(shop)


@pytest.fixture(scope="module")
def prepared(shop: Config, spark: SparkSession) -> Config:
    build_cf(shop, RUN)
    return shop


@pytest.fixture(scope="module")
def asked(prepared: Config, template: Template) -> list[summarize.Plan]:
    """What summarize_items would ask; what it would not, is in `rejects`."""
    plans: list[summarize.Plan] = []
    with runs.stage(prepared, "summarize_items", RUN, ("catalog",)) as stage:
        for _ in summarize.groups_of(prepared, stage, template, plans):
            pass
    return plans


def ids(config: Config, table: str, column: str) -> list[str]:
    return tables.read(config.lake.root, table, [column])[column].to_pylist()


def test_the_rows_follow_from_the_seed(rows: list[hostile_rows.Row]) -> None:
    assert rows == hostile_rows.make(COUNT, 1, KNOWN) != hostile_rows.make(COUNT, 2, KNOWN)
    assert len(rows) == COUNT and len({row.kind for row in rows}) > 50


def test_a_bad_picture_is_opened_or_refused_with_a_reason(tmp_path: Path) -> None:
    sample = list(islice(hostile_pictures.endless(Random(3)), COUNT))
    hostile_pictures.write(tmp_path, sample)
    pictures = Pictures(Config(inputs={"items": "-", "interactions": "-", "images": str(tmp_path)}))
    for picture in sample:
        try:
            image = pictures.open(picture.address)
            became = hostile_pictures.OPENED
            assert image.mode == "RGB" and image.width * image.height <= 448 * 448
        except PictureError as error:
            became = error.reason
        assert became in picture.outcomes, picture.kind


def test_no_text_gets_out_of_its_place(rows: list[hostile_rows.Row], template: Template) -> None:
    """Counted by the model's own tokenizer, against the same prompt around harmless text."""
    special = set(template.tokenizer.convert_tokens_to_ids(list(template.special_tokens)))
    harmless = _control_tokens(template, special, "a harmless mug")
    values = [value for row in rows if row.table == "items" for value in row.values.values()]
    for value in values:
        text = (hostile_rows.raw(value) or b"").decode(errors="replace")
        cleaned = clean_text(text, template.special_tokens, 2000)
        assert cleaned.isprintable() and len(cleaned) <= 2000
        if cleaned:
            assert _control_tokens(template, special, cleaned) == harmless


def _control_tokens(template: Template, special: set[int], cleaned: str) -> list[int]:
    rendered = template.render(text_messages(cleaned))
    assert rendered.count("<item>") == rendered.count("</item>") == 2  # one pair in the system message
    return [token for token in template.tokenizer(rendered)["input_ids"] if token in special]


def test_check_judges_each_row_as_it_knows_itself(shop: Config, rows: list[hostile_rows.Row]) -> None:
    """Without Spark; what build_cf says is compared below."""
    assert _judged(shop) == _expected(rows)


def _judged(config: Config) -> Counter:
    items = facts.read_items(Table(config, "items"), config, 10**6)
    taken = facts.read_interactions(Table(config, "interactions"), config, items, 10**6)
    return items.errors + taken.errors


def _expected(rows: list[hostile_rows.Row]) -> Counter:
    fine = {hostile_rows.PROCESSED, hostile_rows.NOTHING}
    return Counter(outcome for row in rows if not row.outcomes & fine for outcome in row.outcomes)


def test_build_cf_judges_each_row_as_it_knows_itself(prepared: Config, rows: list[hostile_rows.Row]) -> None:
    (row,) = (row for row in runs.ledger(prepared, RUN) if row["stage"] == "build_cf")
    assert row["status"] == "completed" and Counter(row["notes"]["rejected"]) == _expected(rows)


def test_no_row_is_lost(asked: list[summarize.Plan], prepared: Config, rows: list[hostile_rows.Row]) -> None:
    became = fates(prepared.lake.root, rows)
    assert not unexpected(rows, became)
    assert LOST not in counts(became) and len(became) == COUNT
    rejected = tables.read(prepared.lake.root, "rejects", ["key"], [("stage", "=", "summarize_items")])["key"]
    assert sorted([plan.item_id for plan in asked] + rejected.to_pylist()) == sorted(
        ids(prepared, "catalog", "item_id")
    )


def test_every_id_is_found_alone_and_in_ranges(asked: list[summarize.Plan], prepared: Config) -> None:
    """A filter asks the statistics of files first, where long ids are cut."""
    root, users = prepared.lake.root, ids(prepared, "histories", "user_id")
    assert all(tables.count(root, "histories", [("user_id", "=", user)]) == 1 for user in users)
    column = tables.read(root, "histories", ["user_id"])["user_id"]
    spans = [
        tables.read(root, "histories", ["user_id"], span)["user_id"].to_pylist()
        for span in tables.spans("user_id", column, 7)
    ]
    assert [len(span) for span in spans[:-1]] == [7] * (len(spans) - 1)
    assert sorted(user for span in spans for user in span) == sorted(users)


def test_every_story_is_told_in_plain_text(asked: list[summarize.Plan], prepared: Config) -> None:
    users = [user for user in ids(prepared, "histories", "user_id") if "#" in user]
    items = [item for item in ids(prepared, "catalog", "item_id") if "#" in item]
    told = StringIO()
    console = Console(file=told, width=200)
    for story in of_users(prepared, users):
        console.print(render_user(story))
    for item in items[:: len(items) // 20]:
        console.print(render_item(of_item(prepared, item)))
    assert [story.user_id for story in of_users(prepared, users)] == users
    assert all(letter == "\n" or letter.isprintable() for letter in told.getvalue())


def test_an_id_that_is_no_text_is_an_error_in_words(prepared: Config) -> None:
    with pytest.raises((UnicodeEncodeError, InputError)) as caught:
        explain(prepared, user_id="caf\udce9")
    assert "UTF-8" in str(explained(caught.value)) or "no user" in str(explained(caught.value))


def test_the_index_gives_every_id_back(prepared: Config, tmp_path: Path) -> None:
    users = [user for user in ids(prepared, "histories", "user_id") if "#" in user]
    vectors = np.random.default_rng(0).normal(size=(len(users), 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    elsewhere = prepared.model_copy(update={"lake": type(prepared.lake)(root=str(tmp_path))})
    with UserIndex(elsewhere) as index:
        index.build("training_users_v", 8, iter([(users, users, vectors)]))
        near = index.search(vectors, 1)
    assert [(found[0].user_id, found[0].next_item_id) for found in near] == [(user, user) for user in users]


def test_forget_removes_these_users_and_no_other(prepared: Config, tmp_path: Path) -> None:
    shutil.copytree(prepared.lake.root, tmp_path / "lake")
    elsewhere = prepared.model_copy(update={"lake": type(prepared.lake)(root=str(tmp_path / "lake"))})
    users = ids(prepared, "histories", "user_id")
    gone = [user for user in users if "#" in user][::5]
    forget(elsewhere, "forget-hostile", gone)
    assert sorted(ids(elsewhere, "histories", "user_id")) == sorted(set(users) - set(gone))


@pytest.mark.slow
def test_ten_thousand_through_a_whole_night(tmp_path: Path) -> None:
    from hostile import bad_ending, night

    found = night(tmp_path, 10_000, 1)
    assert not bad_ending(found), found
    assert found["run"]["peak_mib"] < 1.5 * found["calm_run"]["peak_mib"] + 500
