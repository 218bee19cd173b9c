"""p_yes of (user, candidate) pairs: the pointwise prompt, rendered so that a user's candidates share their prefix.

`score` is what the evaluation asks too, with histories of its own, so serving and evaluation cannot drift apart. The
ranking of what was scored is rank.py.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa

from mmsrarec.config import Config
from mmsrarec.engines import adapters, batch
from mmsrarec.engines.answers import Answers
from mmsrarec.engines.template import Template
from mmsrarec.engines.types import Group, Request
from mmsrarec.recommendation import prompt
from mmsrarec.recommendation.task import Known, Task, keywords_by_item, tasks
from mmsrarec.storage import runs, tables
from mmsrarec.storage.objects import Pictures

SCORES = pa.schema([("user_id", pa.string()), ("item_id", pa.string()), ("p_yes", pa.float64())])
_CANDIDATE = "\ue000"  # stands for a candidate's text while its user is rendered; no keyword can hold it

Shown = Mapping[str, tuple[str, str]]  # item_id: address and image_hash of the picture to show


def score(
    config: Config,
    stage: runs.Stage,
    users: pa.Table,
    similar: pa.Table,
    pairs: pa.Table,
    evidence: pa.Table,
    keywords: pa.Table,
) -> pa.Table:
    """(user_id, item_id, p_yes) in the order of `pairs`; a pair that the engine refused is null and in the rejects.

    users (user_id, item_ids in time order), similar and evidence as the tables of those names, pairs (user_id,
    item_id), keywords (item_id, keywords). One engine start at most; what was answered before is not asked again.
    """
    scorer = Scorer.of(config, stage)
    known = Known(users, similar, pairs, evidence, keywords_by_item(keywords))
    answers = batch.answer(config, stage, scorer.groups(known))
    p_yes = {task.user_id: found for task, found in scorer.judged(known, answers)}
    asked = zip(pairs["user_id"].to_pylist(), pairs["item_id"].to_pylist(), strict=True)
    values = pa.array([p_yes[user_id][item_id] for user_id, item_id in asked], pa.float64())
    return pa.table([pairs["user_id"], pairs["item_id"], values], schema=SCORES)


@dataclass(frozen=True)
class Scorer:
    """Turns what is known of users into groups for the engine, and answers into p_yes per candidate.

    The two walk through the same prompts: `groups` first, `judged` when the answers are there, so that nothing about
    millions of pairs is held in between.
    """

    config: Config
    stage: runs.Stage
    template: Template
    shown: Shown
    adapter: str | None = None

    @classmethod
    def of(cls, config: Config, stage: runs.Stage, tried: str | None = None) -> "Scorer":
        """With the model and the adapter that the configuration wants (or one that is only tried), which the ledger's
        row is told."""
        template, adapter = Template.of(config), tried or adapters.serving(config, "recommender").name
        stage.versions |= {"model": template.identity, "adapter": adapter, "prompt": prompt.PROMPT_VERSION}
        return cls(config, stage, template, pictures(config), adapter)

    def groups(self, known: Known) -> Iterator[Group]:
        """One group per user that has pairs, one request per candidate."""
        for task in tasks(self.config, known):
            yield Group(task.user_id, tuple(self._requests(task)))

    def judged(self, known: Known, answers: Answers) -> Iterator[tuple[Task, dict[str, float | None]]]:
        """Per task p_yes by item_id, None where the engine refused; that pair goes to the rejects."""
        for task in tasks(self.config, known):
            found: dict[str, float | None] = {}
            for candidate, request in zip(task.candidates, self._requests(task), strict=True):
                answer = answers.get(request.key(self.template.identity))
                found[candidate.item_id] = answer.p_yes if answer else None
                if not answer or answer.error:
                    pair = {"user_id": task.user_id, "item_id": candidate.item_id}
                    message = (answer and answer.error) or "no answer came back"
                    self.stage.reject(f"{task.user_id}/{candidate.item_id}", "engine_error", message, pair)
            yield task, found

    def _requests(self, task: Task) -> list[Request]:
        return requests(task, self.template, self.shown, room(self.config), self.adapter)


def room(config: Config) -> int:
    """Tokens that a prompt may have beside its answer and, if shown, a picture of 28 x 28 pixels a token."""
    picture = config.summarize_items.image_pixels // 28**2 if config.recommend.candidate_image else 0
    return config.engine.max_model_len - 1 - picture


def requests(task: Task, template: Template, shown: Shown, room: int, adapter: str | None = None) -> list[Request]:
    """One request per candidate, of at most `room` tokens before its picture.

    The user is rendered once; the prompts equal those of rendering each pair by itself.
    """
    user = _user_text(task, template, room)
    frames: dict[bool, list[str]] = {}
    asked = []
    for candidate in task.candidates:
        image, image_hash = shown.get(candidate.item_id, (None, None))
        with_image = image is not None
        if with_image not in frames:
            frames[with_image] = template.render(prompt.messages(user, _CANDIDATE, with_image)).split(_CANDIDATE)
        before, after = frames[with_image]
        text = prompt.candidate_text(candidate.keywords, candidate.levels)
        asked.append(Request(f"{before}{text}{after}", "yes_no", 1, image, image_hash, adapter))
    return asked


def choice_prompt(task: Task, template: Template, room: int) -> str:
    """All candidates of the task in one prompt, lettered in their order; cut to `room` tokens as in `requests`."""
    choices = prompt.choices_text([(candidate.keywords, candidate.levels) for candidate in task.candidates])
    user = _fitted(task, template, room, prompt.CHOICE, choices)
    return template.render(prompt.messages(user, choices))


def _user_text(task: Task, template: Template, room: int) -> str:
    """The user's part; where it is too long the oldest items of the history go, then the farthest similar users'."""
    longest = max((prompt.candidate_text(c.keywords, c.levels) for c in task.candidates), key=len)
    return _fitted(task, template, room, prompt.QUESTION, longest)


def _fitted(task: Task, template: Template, room: int, question: str, rest: str) -> str:
    """The user's part before a question and the `rest` of the prompt."""
    history, similar = task.history, task.similar
    while True:
        user = prompt.user_text(history, similar, question)
        rendered = template.render(prompt.messages(user, rest))
        short = len(rendered.encode()) <= room  # a token is a byte or more
        if short or not history + similar or len(template.tokenizer(rendered)["input_ids"]) <= room:
            return user
        if len(history) > 1 or not similar:
            history = history[1:]
        else:
            similar = similar[:-1]


def pictures(config: Config, filters: list | None = None) -> dict[str, tuple[str, str]]:
    """The catalog's pictures by item_id (of the items that `filters` select): none unless recommend.candidate_image; a
    broken one is left out."""
    if not config.recommend.candidate_image:
        return {}
    opened = Pictures(config)
    found = {}
    for rows in tables.stream(config.lake.root, "catalog", ["item_id", "image"], filters=filters):
        hashes = opened.hashes(rows["image"].to_pylist())
        for item_id, image, (image_hash, _) in zip(*map(pa.Array.to_pylist, rows.columns), hashes, strict=True):
            if image_hash:
                found[item_id] = image, image_hash
    return found
