"""p_yes of (user, candidate) pairs: prompts, pointwise or of a choice, rendered so that a user's share their prefix.

`score` is what the evaluation asks too, with histories of its own, so serving and evaluation cannot drift apart. The
ranking of what was scored is rank.py.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import pyarrow as pa

from mmsrarec.config import Config
from mmsrarec.engines import adapters, batch
from mmsrarec.engines.answers import Answers
from mmsrarec.engines.template import Template
from mmsrarec.engines.types import LETTERS, Answer, Group, Request
from mmsrarec.recommendation import choice, prompt
from mmsrarec.recommendation.task import Candidate, Known, Task, keywords_by_item, tasks
from mmsrarec.recommendation.texts import texts
from mmsrarec.storage import runs, tables
from mmsrarec.storage.objects import Pictures

SCORES = pa.schema([("user_id", pa.string()), ("item_id", pa.string()), ("p_yes", pa.float64())])
_CANDIDATE = "\ue000"  # stands for a candidate's text while its user is rendered; no keyword can hold it

Shown = Mapping[str, tuple[str, str]]  # item_id: address and image_hash of the picture to show
Writes = Callable[[list[list[str]], list[list[str]]], str]  # a prompt's text of history and similar users' items


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
    wanted = zip(pairs["user_id"].to_pylist(), pairs["item_id"].to_pylist(), strict=True)
    values = pa.array([p_yes[user_id][item_id] for user_id, item_id in wanted], pa.float64())
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
    texts: Mapping[str, str] | None = None

    @classmethod
    def of(cls, config: Config, stage: runs.Stage, tried: str | None = None) -> "Scorer":
        """With the model and the adapter that the configuration wants (or one that is only tried), which the ledger's
        row is told."""
        template, adapter = Template.of(config), tried or adapters.serving(config, "recommender").name
        stage.versions |= {"model": template.identity, "adapter": adapter, "prompt": prompt.version(config.recommend)}
        if config.recommend.scoring == "choice":
            template.letter_ids(len(LETTERS))  # raises where the model cannot answer with them
        return cls(config, stage, template, pictures(config), adapter, texts(config, template))

    def groups(self, known: Known) -> Iterator[Group]:
        """One group per user that has pairs."""
        for task in tasks(self.config, known, self.texts):
            yield Group(task.user_id, tuple(one.request for one in self._asked(task)))

    def judged(self, known: Known, answers: Answers) -> Iterator[tuple[Task, dict[str, float | None]]]:
        """Per task p_yes by item_id, None where the engine refused; that pair goes to the rejects."""
        for task in tasks(self.config, known, self.texts):
            found: dict[str, float | None] = {}
            for one in self._asked(task):
                answer = answers.get(one.request.key(self.template.identity))
                found |= one.p_yes(answer)
                if not answer or answer.error:
                    message = (answer and answer.error) or "no answer came back"
                    for item_id in one.item_ids:
                        pair = {"user_id": task.user_id, "item_id": item_id}
                        self.stage.reject(f"{task.user_id}/{item_id}", "engine_error", message, pair)
            yield task, found

    def _asked(self, task: Task) -> list["Asked"]:
        return asked(self.config, task, self.template, self.shown, self.adapter)


@dataclass(frozen=True)
class Asked:
    """A request and the candidates that it asks about: one, or one per letter."""

    request: Request
    item_ids: tuple[str, ...]

    def p_yes(self, answer: Answer | None) -> dict[str, float | None]:
        """By item_id; None without an answer. Of a letter it is choice.scores."""
        if answer is None or answer.error:
            return dict.fromkeys(self.item_ids)
        found = choice.scores(answer) if self.request.kind == "choice" else [answer.p_yes]
        return dict(zip(self.item_ids, found, strict=True))


def asked(config: Config, task: Task, template: Template, shown: Shown, adapter: str | None = None) -> list[Asked]:
    """What the engine is asked about the task's candidates, by recommend.scoring; all have the same user's part."""
    limit = room(config)
    if config.recommend.scoring == "pointwise":
        pairs = zip(task.candidates, requests(task, template, shown, limit, adapter), strict=True)
        return [Asked(request, (candidate.item_id,)) for candidate, request in pairs]
    parts = choice.parts(task, config.run.seed, lambda parts: _roomy(task, parts, template, limit))
    prompts = zip(parts, choice_prompts(task, parts, template, limit), strict=True)
    return [
        Asked(
            Request(text, "choice", 1, adapter=adapter, letters=len(part)),
            tuple(candidate.item_id for candidate in part),
        )
        for part, text in prompts
    ]


def room(config: Config) -> int:
    """Tokens that a prompt may have beside its answer and, if shown, a picture."""
    return config.engine.max_model_len - 1 - picture(config)


def picture(config: Config) -> int:
    """Tokens of a candidate's picture at most, one for 28 x 28 pixels; 0 where none is shown."""
    return config.summarize_items.image_pixels // 28**2 if config.recommend.candidate_image else 0


def requests(task: Task, template: Template, shown: Shown, room: int, adapter: str | None = None) -> list[Request]:
    """One request per candidate, of at most `room` tokens before its picture.

    The user is rendered once; the prompts equal those of rendering each pair by itself.
    """
    texts = _texts(task)
    user = prompt.user_text(*_cut(task, template, room, prompt.user_text, texts))
    frames: dict[bool, list[str]] = {}
    asked = []
    for candidate, text in zip(task.candidates, texts, strict=True):
        image, image_hash = shown.get(candidate.item_id, (None, None))
        with_image = image is not None
        if with_image not in frames:
            messages = prompt.messages(user, _CANDIDATE, with_image, task.with_texts)
            frames[with_image] = template.render(messages).split(_CANDIDATE)
        before, after = frames[with_image]
        asked.append(Request(f"{before}{text}{after}", "yes_no", 1, image, image_hash, adapter))
    return asked


def shortened(task: Task, template: Template, room: int) -> Task:
    """The task with no more of its user than `requests` shows."""
    history, similar = _cut(task, template, room, prompt.user_text, _texts(task))
    latest, nearest = task.history[len(task.history) - len(history) :], task.similar[: len(similar)]
    return replace(task, history=latest, similar=nearest, said=task.said and (history, similar))


def _texts(task: Task) -> list[str]:
    return [prompt.candidate_text(candidate.shown, candidate.levels) for candidate in task.candidates]


def choice_prompt(task: Task, template: Template, room: int) -> str:
    """All candidates of the task in one prompt, lettered in their order; cut to `room` tokens as in `requests`."""
    return choice_prompts(task, [task.candidates], template, room)[0]


def choice_prompts(task: Task, parts: Sequence[Sequence[Candidate]], template: Template, room: int) -> list[str]:
    """A prompt for each part of the candidates, after the same user."""
    lists = _choices(parts)
    write = partial(prompt.user_text, question=prompt.CHOICE)
    user = write(*_cut(task, template, room, write, lists))
    return [template.render(prompt.messages(user, choices, with_texts=task.with_texts)) for choices in lists]


def user_alone(task: Task, template: Template, room: int, write: Writes) -> str:
    """A whole prompt about the user, without a candidate; cut to `room` tokens as in `requests`."""
    text = write(*_cut(task, template, room, write, [""]))
    return template.render(prompt.messages(text, None, with_texts=task.with_texts))


def _choices(parts: Sequence[Sequence[Candidate]]) -> list[str]:
    return [prompt.choices_text([(one.shown, one.levels) for one in part]) for part in parts]


def _roomy(task: Task, parts: Sequence[Sequence[Candidate]], template: Template, room: int) -> bool:
    """Whether prompts with these parts need not cut the user, or take half of the room at most."""
    lists = _choices(parts)
    user = prompt.user_text(*task.shown, prompt.CHOICE)
    return _fits(task, template, room, user, lists) or all(_short(template, room // 2, choices) for choices in lists)


def _cut(
    task: Task, template: Template, room: int, write: Writes, rests: Sequence[str]
) -> tuple[list[list[str]], list[list[str]]]:
    """What the prompt shows of history and similar users before any of the `rests` of prompts ("": it stands alone);
    where that is too long the oldest items of the history go, then the farthest similar users'."""
    history, similar = task.shown
    while history + similar and not _fits(task, template, room, write(history, similar), rests):
        if len(history) > 1 or not similar:
            history = history[1:]
        else:
            similar = similar[:-1]
    return history, similar


def _fits(task: Task, template: Template, room: int, user: str, rests: Sequence[str]) -> bool:
    longest = max(rests, key=lambda rest: len(rest.encode()))
    with_longest = template.render(prompt.messages(user, longest or None, with_texts=task.with_texts))
    if len(with_longest.encode()) <= room:  # a token is a byte or more
        return True
    tokens = len(template.token_ids(with_longest)) - len(template.token_ids(longest))
    if tokens + len(longest.encode()) <= room:
        return True
    return all(tokens + len(template.token_ids(rest)) <= room for rest in rests)


def _short(template: Template, room: int, text: str) -> bool:
    return len(text.encode()) <= room or len(template.token_ids(text)) <= room


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
