"""The figures of the report page, counted by hand on a small lake, and the page as a file: what is in it, how large."""

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from small_night import BEFORE, HOSTILE, HOSTILE_USER, ITEMS, TONIGHT, USERS, night_lists, put
from small_night import config as made

from mmsrarec.config import Config
from mmsrarec.errors import ConfigError, InputError
from mmsrarec.reports.page import figures, lists, looks, outcome, page, plots, stage, thumbnails
from mmsrarec.reports.page.tally import Tally
from mmsrarec.reports.page.tonight import tonight
from mmsrarec.storage import runs, tables
from mmsrarec.training import curve


@pytest.fixture(scope="module")
def config(small_night: Config) -> Config:
    return small_night


@pytest.fixture
def own(config: Config, tmp_path: Path) -> Config:
    """A copy to write to."""
    shutil.copytree(Path(config.lake.root).parent, tmp_path / "night")
    return made(tmp_path / "night")


@pytest.fixture(scope="module")
def measured(config: Config) -> figures.Figures:
    return figures.measure(config, tonight(config))


def rendered(config: Config, users: list[str] | None = None, run_id: str | None = None) -> str:
    measured = figures.measure(config, tonight(config, run_id))
    return page.render(config, measured, plots.draw(measured), looks.look(config, measured, users or []))


def test_the_run_and_the_night_of_the_page(config: Config) -> None:
    now, first = tonight(config), tonight(config, "run-1")
    assert (now.run_id, now.night.run_date, now.night.before) == ("run-2", TONIGHT, BEFORE)
    assert {row["run_id"] for row in now.before.values()} == {"run-1"}
    assert (first.run_id, first.night.run_date, first.night.before, first.before) == ("run-1", BEFORE, None, {})
    with pytest.raises(InputError, match="no run run-9"):
        tonight(config, "run-9")


def test_coverage_cost_and_what_changed(measured: figures.Figures) -> None:
    assert (measured.expected, measured.lists.users, measured.lists.rows) == (4, 4, 12)
    assert measured.lists.items.num_rows == 6 and measured.coverage == pytest.approx(6 / 11)
    assert measured.tokens == (1000, 16) and measured.cached_tokens == 500
    changes = {change.name: change for change in measured.changes}
    assert (changes["rows of the inputs"].before, changes["rows of the inputs"].by) == (100, 1)
    assert changes["mean score"].now == pytest.approx(0.5) and changes["mean score"].by == pytest.approx(0)
    assert changes["rows rejected"].by == 1


def test_the_funnel_and_the_sources(measured: figures.Figures) -> None:
    assert {step.name: step.count for step in measured.funnel} == {
        "users": 4, "candidates": 16, "scored": 16, "listed": 12, "published": 12,
    }  # fmt: skip
    found = {source.name: (source.candidates, source.listed) for source in measured.sources}
    assert found == {"sasrec": (8, 8), "content": (4, 0), "popular": (4, 4)}


def test_scores_and_the_overlap_with_the_night_before(measured: figures.Figures) -> None:
    scores = measured.lists.scores
    assert scores.counts.sum() == 12 and scores.quantile(0.5) == pytest.approx(0.5, abs=0.002)
    assert (measured.overlap.users, measured.overlap.mean) == ([0, 0, 4, 0], 2.0)


def test_many_users_are_compared_by_a_sample(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "COMPARED_USERS", 2)
    found = lists.overlap(config, tonight(config).night)
    assert (found.compared, found.of, found.mean) == (2, 4, 2.0)


def test_the_vocabulary(measured: figures.Figures) -> None:
    words = measured.words
    assert (words.items, words.catalog, words.available, words.without) == (12, 12, 11, 1)
    assert words.vocabulary.slice(0, 2).to_pydict() == {"value": ["mug", "red"], "count": [11, 10]}
    assert words.once == 11 and words.pictures == {"no_picture": 1, "unsupported_address": 1}


def test_rejects_have_examples(measured: figures.Figures) -> None:
    (found,) = measured.rejected
    assert (found.stage, found.reason, found.rows) == ("build_cf", "unknown_item", 5)
    assert [row["key"] for row in found.examples] == [f"<script>{number}</script>" for number in range(3)]
    assert {row["run_id"] for row in found.examples} == {"run-2"}


def test_figures_of_an_earlier_run_are_shown_where_they_still_hold(measured: figures.Figures) -> None:
    assert measured.evaluation.run_id == "run-1"
    (protocol,) = measured.evaluation.protocols
    assert protocol.cell("mmsrarec", ("hr", 10))["value"] == 0.3
    (course,) = measured.courses
    assert (course.run_id, course.steps, course.values) == ("run-1", [1, 2], [3.0, 2.0])


def test_each_reward_of_a_tuning_has_a_plot_of_its_own(own: Config) -> None:
    names = ["reward_information", "reward_length", "reward_reconstruction"]
    points = [point for step in (1, 2) for point in curve.points(step, **dict.fromkeys(names, step / 10))]
    with runs.stage(own, "tune_summarizer", "run-2"):
        curve.write(own, "run-2", "tune_summarizer", points)
    found = figures.measure(own, tonight(own))
    tuned = [course for course in found.courses if course.stage == "tune_summarizer"]
    assert [course.name for course in tuned] == names
    assert all((course.steps, course.values) == ([1, 2], [0.1, 0.2]) for course in tuned)
    drawn = plots.draw(found)
    for number, course in enumerate(found.courses):
        assert course.name.replace("_", " ") in drawn[f"course-{number}"]


def test_a_tally_that_is_added_up_on_the_way_counts_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmsrarec.reports.page.tally.MERGE_ROWS", 3)
    tally, values = Tally(), np.random.default_rng(1).choice(list("abcde"), 400)
    for part in np.split(values, 40):
        tally.add(pa.array(part.tolist()))
    assert tally.counts() == {value: int((values == value).sum()) for value in "abcde"}


class Elements(HTMLParser):
    """Names of the elements, and values of attributes that a browser would run or fetch."""

    def __init__(self, html: str):
        super().__init__()
        self.names, self.addresses, self.handlers, self.text = [], [], [], []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        for name, value in attributes:
            if name in ("href", "src", "action", "xlink:href", "data", "style"):
                self.addresses.append(value)
            if name.startswith("on"):
                self.handlers.append(name)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_nothing_of_an_item_becomes_markup(config: Config) -> None:
    html = rendered(config, USERS)
    found = Elements(html)
    assert (found.names.count("script"), found.names.count("style")) == (1, 1)
    assert not found.handlers and "img" not in found.names
    assert all(re.match(r"#|data:image/webp;base64,[\w+/=]+$", address) for address in found.addresses)
    text = " ".join(found.text)
    for item_id in ("i0", "i1", "i2", "i4"):
        assert HOSTILE[item_id][:60] in text
    assert HOSTILE_USER in text and "no item <img src=x onerror=alert(1)>" in text
    assert "W" * 119 + "…" in text and "W" * 241 not in text


def test_unseen_characters_and_direction_marks_go(config: Config) -> None:
    html = rendered(config)
    assert not set(html) & set("\u202e\u2066\u200b\ufeff\x00\x1b") and "abcgnp.exe" in html
    assert page.plain("نمی\u200cخواهم 👩\u200d🍳\u200e") == "نمی\u200cخواهم 👩\u200d🍳"


def test_the_policy_lets_only_our_own_script_and_style_in(config: Config) -> None:
    html = rendered(config)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html)[1].replace("&#39;", "'")
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-") and "unsafe" not in policy
    assert html.index("Content-Security-Policy") < html.index("<style>") and " style=" not in html


def test_the_same_lake_gives_the_same_page(config: Config) -> None:
    assert rendered(config) == rendered(config)


def test_a_page_is_below_its_limit_whatever_is_asked(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = len(rendered(config, USERS).encode())
    monkeypatch.setattr(page, "LIMIT", whole - 1)
    html = rendered(config, USERS)
    assert len(html.encode()) < whole and "the page is full" in html and "<bdi>u0</bdi>" in html


def test_pictures_are_small_once_and_within_a_budget(config: Config) -> None:
    measured = figures.measure(config, tonight(config))
    found = looks.look(config, measured, USERS)
    assert set(found.pictures) == set(ITEMS[1:8]) and all(len(address) < 4000 for address in found.pictures.values())
    assert found.left_out == {"missing": 1}
    items = [card for user in found.users for card in looks.shown(user)]
    few = thumbnails.Thumbnails(config, budget=2 * max(map(len, found.pictures.values())))
    few.add(items)
    assert 1 <= len(few.addresses) < len(found.pictures) and few.left_out["page_full"]
    html = rendered(config, USERS)
    assert html.count("data:image/webp") == len(found.pictures) < html.count('href="#picture-')


def test_pictures_that_are_not_here_are_placeholders(config: Config) -> None:
    elsewhere = config.model_copy(update={"inputs": config.inputs.model_copy(update={"images": "/nowhere"})})
    html = rendered(elsewhere)
    assert "data:image/webp" not in html and 'href="#picture-none"' in html and "no pictures here" in html


def test_hours_become_money_where_they_have_a_price(config: Config) -> None:
    priced = config.model_copy(update={"plan": config.plan.model_copy(update={"price_per_hour": 3600.0})})
    measured = figures.measure(config, tonight(config))
    assert f"<b>{measured.seconds:.2f} EUR</b>" in rendered(priced)


def test_an_earlier_run_and_named_users(config: Config) -> None:
    html = rendered(config, ["u2"], "run-1")
    assert f'<time datetime="{BEFORE}">' in html and "This is the first night" in html
    assert html.count('class="person"') == 1 and "<bdi>u2</bdi>" in html
    with pytest.raises(InputError, match="u9"):
        rendered(config, ["u9"])


def test_lists_that_were_refused_are_shown_as_such(own: Config) -> None:
    config = own
    put(config, "staged_recommendations", night_lists("run-3", "2026-03-03", 2))
    with pytest.raises(ValueError), runs.stage(config, "publish", "run-3") as publish:
        publish.notes |= {"run_date": "2026-03-03", "gates": {"mean_shift": 0.4}, "failed": ["mean_shift"]}
        raise ValueError("the lists fail <b>1 gate</b>")
    html = rendered(config)
    assert "Not published" in html and "publish failed." in html and "&lt;b&gt;1 gate&lt;/b&gt;" in html
    assert {step.name: step.count for step in figures.measure(config, tonight(config)).funnel}["published"] == 0


def test_a_lake_with_almost_nothing(tmp_path: Path) -> None:
    config = made(tmp_path)
    with pytest.raises(InputError, match="no run yet"):
        tonight(config)
    with runs.stage(config, "build_cf", "run-0"):
        pass
    html = rendered(config)
    assert "No lists yet" in html and "No user has a list yet" in html


def test_the_stage_writes_the_page_and_the_command_another(
    own: Config, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    config = own
    stage.report(config, "run-2")
    written = Path(config.lake.root) / "report.html"
    assert written.read_text().startswith("<!doctype html>") and not list(written.parent.glob("*.part"))
    (row,) = [row for row in runs.ledger(config, "run-2") if row["stage"] == "report"]
    assert row["notes"] == {"bytes": written.stat().st_size, "page": str(written)}
    stage.write(config, "run-1", ["u0"], tmp_path / "new folder" / "other.html")
    assert BEFORE in (tmp_path / "new folder" / "other.html").read_text()
    with pytest.raises(ConfigError, match="report.out"):
        stage.write(config, out=written / "below a file.html")
    assert written.resolve().as_uri() in capsys.readouterr().err


def test_thumbnails_are_at_most_their_side() -> None:
    from io import BytesIO

    from mmsrarec.storage.objects import thumbnail

    small = Image.open(BytesIO(thumbnail(Image.new("RGB", (400, 100)), 112)))
    assert (small.format, small.size) == ("WEBP", (112, 28))


def test_examples_of_a_reason_are_few(config: Config) -> None:
    assert all(len(found.examples) <= outcome.EXAMPLES for found in outcome.rejected(config, tonight(config)))
    assert tables.count(config.lake.root, "rejects") == 9
