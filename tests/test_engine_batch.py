"""Ray Data and vLLM together: what is answered, what is refused, and that nothing is asked twice.

One engine start for the whole file: everything is asked in one run, the tests look at what came of it.
"""

import json
import threading
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import ray
from PIL import Image

from mmsrarec.config import Config
from mmsrarec.engines import batch
from mmsrarec.engines.answers import Answers
from mmsrarec.engines.template import Template
from mmsrarec.engines.types import Answer, Group, Request
from mmsrarec.storage import runs, tables

USERS, CANDIDATES = 12, 10
HISTORY = "red mug, blue lamp, green bag, " * 12


def settings(root: Path, **engine) -> Config:
    options = {"enforce_eager": True, "max_model_len": 512, "kv_cache_gb": 0.25, "batch_rows": 4} | engine
    inputs = {"items": "-", "interactions": "-", "images": str(root / "pictures")}
    return Config(inputs=inputs, lake={"root": str(root / "lake")}, engine=options)


@dataclass(frozen=True)
class Asked:
    config: Config
    template: Template
    groups: list[Group]
    answers: Answers
    ledger: dict

    def answer(self, request: Request) -> Answer:
        return self.answers.get(request.key(self.template.identity))

    def group(self, name: str) -> list[Answer]:
        (group,) = [group for group in self.groups if group.name == name]
        return [self.answer(request) for request in group.requests]


def run(config: Config, groups: list[Group]) -> tuple[Answers, dict]:
    """Ask in a stage of its own; the answers and the ledger's row."""
    run_id = runs.new_run_id()
    with runs.stage(config, "asking", run_id) as stage:
        answers = batch.answer(config, stage, iter(groups))
    (row,) = tables.read(config.lake.root, "runs", filters=[("run_id", "=", run_id)]).to_pylist()
    return answers, row | {"notes": json.loads(row["notes"])}


def prompt(template: Template, user: str, candidate: str, image: bool = False) -> str:
    parts = [{"type": "text", "text": user}, *([{"type": "image"}] if image else [])]
    return template.render([{"role": "user", "content": [*parts, {"type": "text", "text": candidate}]}])


def all_groups(template: Template) -> list[Group]:
    shared = [f"{HISTORY}user {user}. Candidate: " for user in range(USERS)]
    users = [
        Group(f"user {user}", tuple(Request(prompt(template, text, f"mug {n}"), "yes_no") for n in range(CANDIDATES)))
        for user, text in enumerate(shared)
    ]
    question = prompt(template, "What is this?", "Answer.", image=True)
    pictures = [Request(question, "text", 8, f"{name}.png", name) for name in ("red", "text", "missing")]
    long = [Request(prompt(template, "word " * 5000, ""), kind, 1) for kind in ("yes_no", "text")]
    nearly = Request(prompt(template, "word " * 600, ""), "yes_no")
    again = users[0].requests[:3] + (Request(prompt(template, "fresh", ""), "yes_no"),)
    return [*users, Group("pictures", tuple(pictures)), Group("long", (*long, nearly)), Group("again", again)]


@pytest.fixture(scope="module")
def asked(tmp_path_factory) -> Asked:
    root = tmp_path_factory.mktemp("engine")
    (root / "pictures").mkdir()
    Image.new("RGB", (112, 112), "red").save(root / "pictures" / "red.png")
    (root / "pictures" / "text.png").write_bytes(b"not a picture")
    config = settings(root)
    template = Template(config.model_path)
    groups = all_groups(template)
    return Asked(config, template, groups, *run(config, groups))


def test_every_request_has_an_answer(asked):
    for group in asked.groups:
        for request in group.requests:
            answer = asked.answer(request)
            assert answer.kind == request.kind
            assert (answer.error is None) == (answer.p_yes is not None or answer.text is not None)


def test_probabilities_depend_on_the_prompt(asked):
    found = [answer.p_yes for user in range(USERS) for answer in asked.group(f"user {user}")]
    assert all(0 < p_yes < 1 for p_yes in found)
    assert len(set(found)) > len(found) / 2


def test_a_users_candidates_hit_the_prefix_cache(asked):
    for user in range(USERS):
        first, *others = asked.group(f"user {user}")
        assert all(answer.cached_tokens > 0.5 * answer.prompt_tokens for answer in others)
    assert asked.ledger["notes"]["prefix_cache_hit_rate"] > 0.3


def test_one_bad_request_costs_only_itself(asked):
    red, text, missing = asked.group("pictures")
    assert red.error is None and red.text
    assert "not_a_picture" in text.error
    assert "missing" in missing.error
    assert all("512" in answer.error for answer in asked.group("long"))


def test_the_ledger_counts_what_the_engine_did(asked):
    distinct = {request.key(asked.template.identity) for group in asked.groups for request in group.requests}
    answers = [asked.answers.get(key) for key in distinct]
    notes = asked.ledger["notes"]
    assert notes["engine_requests"] == len(distinct) == USERS * CANDIDATES + 7
    assert notes["engine_errors"] == 5
    assert notes["answers_known"] == 0
    assert asked.ledger["prompt_tokens"] == sum(answer.prompt_tokens for answer in answers)
    assert asked.ledger["output_tokens"] == sum(answer.output_tokens for answer in answers)
    assert notes["cached_tokens"] == sum(answer.cached_tokens for answer in answers)


def test_the_lake_remembers_answers_but_no_errors(asked):
    rows = tables.read(asked.config.lake.root, "answers").to_pylist()
    assert len(rows) == len({row["key"] for row in rows}) == USERS * CANDIDATES + 2
    assert all(row["error"] is None and row["stage"] == "asking" for row in rows)
    assert {row["run_id"] for row in rows} == {asked.ledger["run_id"]}


def test_nothing_is_left_behind(asked):
    assert list(Path(asked.config.lake.root, "staging").iterdir()) == []
    assert not ray.is_initialized()


def test_what_was_answered_starts_neither_ray_nor_an_engine(asked, monkeypatch):
    starts = []
    monkeypatch.setattr(ray, "init", lambda *_, **__: starts.append("ray"))
    answered = [group for group in asked.groups if group.name.startswith("user")]
    answers, ledger = run(asked.config, answered)
    assert starts == []
    assert ledger["notes"]["engine_requests"] == 0
    assert ledger["notes"]["answers_known"] == USERS * CANDIDATES
    assert (ledger["prompt_tokens"], ledger["output_tokens"]) == (0, 0)
    for group in answered:
        for request in group.requests:
            assert answers.get(request.key(asked.template.identity)) == asked.answer(request)


def test_nothing_to_ask_is_no_work(tmp_path):
    answers, ledger = run(settings(tmp_path), [])
    assert ledger["notes"]["engine_requests"] == 0
    assert answers.get("k") is None


@pytest.mark.slow
def test_engines_are_added_while_work_waits(asked, tmp_path):
    (tmp_path / "pictures").symlink_to(Path(asked.config.lake.root).parent / "pictures")
    config = settings(tmp_path, replicas=1, max_replicas=2, batch_rows=1)
    seen, over = set(), threading.Event()

    def watch() -> None:
        while not over.wait(1):
            found = psutil.Process().children(recursive=True)
            seen.add(sum("MapWorker" in " ".join(process.cmdline()) for process in found if process.is_running()))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        answers, ledger = run(config, asked.groups)
    finally:
        over.set()
        watching.join()
    assert max(seen) == 2
    assert ledger["notes"]["engine_requests"] == asked.ledger["notes"]["engine_requests"]
    for group in asked.groups[:USERS]:
        for request in group.requests:
            found = answers.get(request.key(asked.template.identity))
            assert found.p_yes == pytest.approx(asked.answer(request).p_yes, abs=1e-5)
