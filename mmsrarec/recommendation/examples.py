"""From what users took next to examples of the four instruction types (method, stage 3). Pure: no model, no table.

A question is a user's task whose candidates hold what the user took next, the target, and negatives. Negatives are a
sample, drawn at another rate from the user's candidates than from the rest of the catalog; a model that is taught them
as they come learns the rates, too. So each pointwise example carries the logarithm of how much rarer its kind was drawn
than the most drawn one: the trainer adds it to the model's log-odds of yes, and what the model learns is free of it.
"""

import math
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

from mmsrarec.engines.template import Template
from mmsrarec.recommendation import prompt, scoring
from mmsrarec.recommendation.task import Candidate, Task

Instruction = Literal["pointwise", "choice", "next_keywords", "preference"]
SOUGHT = 6  # keywords of an answer about a preference


@dataclass(frozen=True)
class Question:
    """A user's task with the target's item_id among its candidates; `rates` is, per candidate, the share of its kind
    (the user's candidates, or the rest of the catalog) that was drawn. The target, which is always there, has that of
    its own kind: where few of a kind are asked about, a yes among them says less."""

    task: Task
    target: str
    rates: Mapping[str, float]

    @property
    def taken(self) -> Candidate:
        """The target as the task has it."""
        return next(candidate for candidate in self.task.candidates if candidate.item_id == self.target)


@dataclass(frozen=True)
class Example:
    """A rendered prompt and the answer that is taught. `offset` is added to the log-odds of yes, and `image` is the
    address of the candidate's picture, if that is shown (both pointwise only)."""

    instruction: Instruction
    user_id: str
    prompt: str
    answer: str
    weight: float = 1.0
    offset: float = 0.0
    image: str | None = None


@dataclass(frozen=True)
class Writer:
    """Makes the examples of a question for a model's template; `room` is how many tokens a prompt may have, `shown` the
    pictures that the scoring shows."""

    template: Template
    room: int
    mix: Mapping[str, float]
    words: tuple[str, str]  # yes and no as the model writes them
    choices: int
    seed: int
    shown: scoring.Shown = field(default_factory=dict)

    def examples(self, question: Question) -> Iterator[Example]:
        """All that the mix gives weight to, of the user as the scoring shows them, so that examples begin alike; a
        question's pointwise examples weigh together what their share of it says."""
        question = replace(question, task=scoring.shortened(question.task, self.template, self.room))
        rng = random.Random(f"{self.seed}:{question.task.user_id}:{question.target}")
        makers = {
            "pointwise": self._pointwise,
            "choice": self._choice,
            "next_keywords": self._next,
            "preference": self._preference,
        }
        for instruction, make in makers.items():
            if self.mix.get(instruction, 0.0) > 0:
                made = list(make(question, rng))
                share = self.mix[instruction] / max(len(made), 1)
                yield from (replace(example, weight=share) for example in made)

    def _pointwise(self, question: Question, _: random.Random) -> Iterator[Example]:
        task, (yes, no) = question.task, self.words
        most = max(question.rates.values())
        asked = scoring.requests(task, self.template, self.shown, self.room)
        for candidate, request in zip(task.candidates, asked, strict=True):
            answer = yes if candidate.item_id == question.target else no
            offset = math.log(most / question.rates[candidate.item_id])
            yield Example("pointwise", task.user_id, request.prompt, answer, offset=offset, image=request.image)

    def _choice(self, question: Question, rng: random.Random) -> Iterator[Example]:
        task, target = question.task, question.taken
        others = [candidate for candidate in task.candidates if candidate is not target]
        shown = [target, *rng.sample(others, min(len(others), self.choices - 1))]
        rng.shuffle(shown)
        if len(shown) > 1:
            text = scoring.choice_prompt(replace(task, candidates=shown), self.template, self.room)
            yield Example("choice", task.user_id, text, prompt.LETTERS[shown.index(target)])

    def _next(self, question: Question, _: random.Random) -> Iterator[Example]:
        task, keywords = question.task, question.taken.keywords
        if keywords and task.history:
            text = self._asked(task, partial(prompt.user_text, question=prompt.NEXT))
            yield Example("next_keywords", task.user_id, text, ", ".join(keywords))

    def _preference(self, question: Question, _: random.Random) -> Iterator[Example]:
        """What history and target share, then what the history has most often; the latest of equally frequent ones."""
        task, target = question.task, question.taken.keywords
        counts = Counter(word for item in reversed(task.history) for word in dict.fromkeys(item))
        sought = sorted(counts, key=lambda word: (word not in target, -counts[word]))[:SOUGHT]
        if sought:
            text = self._asked(task, lambda history, _: prompt.preference_text(history))
            yield Example("preference", task.user_id, text, ", ".join(sought))

    def _asked(self, task: Task, write: scoring.Writes) -> str:
        return scoring.user_alone(task, self.template, self.room, write)
