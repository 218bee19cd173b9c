"""Scoring a whole list at once (recommend.scoring=choice): a prompt with lettered candidates, answered by p(letter).

Who gets which letter is a fixed draw per user and item, whatever the order in which candidates come, since a model
likes some places better than others. More candidates than letters, or than fit, go into several prompts of one size,
none into two. Pure.
"""

import hashlib
import json
import math
from collections.abc import Callable, Sequence

from mmsrarec.engines.types import LETTERS, Answer
from mmsrarec.recommendation.task import Candidate, Task

FEWEST = 2  # candidates that can be chosen among


def parts(task: Task, seed: int, fits: Callable[[list[list[Candidate]]], bool]) -> list[list[Candidate]]:
    """The candidates by prompt, each in the order of the letters: as few prompts as `fits` allows, of sizes that differ
    by one at most; two candidates in a prompt, if need be, though they do not fit."""
    drawn = sorted(task.candidates, key=lambda one: _draw(seed, task.user_id, one.item_id))
    count = max(1, math.ceil(len(drawn) / len(LETTERS)))
    while True:
        found = [drawn[start::count] for start in range(count)]
        if len(drawn) < FEWEST * (count + 1) or fits(found):
            return found
        count += 1


def scores(answer: Answer) -> list[float]:
    """Per letter n p / (1 + n p), where n is how many letters there are: 0.5 for one as likely as chance has it.

    So letters of different prompts can be compared; within a prompt the order is that of p.
    """
    shares: Sequence[float] = json.loads(answer.text or "[]")
    return [len(shares) * share / (1 + len(shares) * share) for share in shares]


def _draw(seed: int, user_id: str, item_id: str) -> bytes:
    return hashlib.sha256(json.dumps([seed, user_id, item_id]).encode()).digest()
