"""Asks the models behind the rewards of keywords: a sentence encoder, and a frozen language model that writes the text.

Training and the check of what it brought ask the same judge. What the rewards make of it is keywords/rewards.py.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch

from mmsrarec.engines.sentences import SentenceEncoder
from mmsrarec.keywords.rewards import Measures

BATCH = 16  # texts that the language model reads at a time
USUAL = 1000  # texts at most that say what is usual
KNOWN = 20_000  # texts whose surprise without keywords is remembered
NOTHING = "none"
Frozen = Callable[[], AbstractContextManager]


class Judge:
    """`model` writes with `tokenizer` texts of at most `room` tokens, their beginning with the keywords included;
    within `frozen()` it is what it was before any tuning. `texts` are those of the items that are asked about, in a
    ring: the other text of each is the next one's, and is read only where the rewards are `relative`."""

    def __init__(
        self,
        encoder: SentenceEncoder,
        texts: Sequence[str],
        model: Any,
        tokenizer: Any,
        room: int,
        frozen: Frozen = nullcontext,
        relative: bool = True,
    ):
        self._encoder, self._model, self._tokenizer, self._room = encoder, model, tokenizer, room
        self._frozen, self._relative = frozen, relative
        self._alone: dict[str, float] = {}
        distinct = sorted(set(texts))
        self._middle = encoder.vectors(distinct[:USUAL]).mean(axis=0)
        around = np.random.default_rng(0).permutation(distinct).tolist()
        self._others = dict(zip(around, [*around[1:], around[0]], strict=True))

    def measures(self, texts: Sequence[str], answers: Sequence[list[str]]) -> list[Measures]:
        """Of each answer, a list of keywords, about its text; the same answer to the same text is measured once."""
        asked = [(text, ", ".join(keywords)) for text, keywords in zip(texts, answers, strict=True)]
        pairs = list(dict.fromkeys(asked))
        cosines = dict(zip(pairs, self._cosines(pairs), strict=True))
        others = [(self._other(text), keywords) for text, keywords in pairs]
        told = [pair for pair in dict.fromkeys([*pairs, *others]) if pair[1]]
        surprises = dict(zip(told, self.surprises(told), strict=True))
        self._know([text for text, _ in [*pairs, *others]])
        found = {
            pair: (*cosines[pair], *self._both(surprises, *pair), *self._both(surprises, *other))
            for pair, other in zip(pairs, others, strict=True)
        }
        return [Measures(*found[pair], len(keywords)) for pair, keywords in zip(asked, answers, strict=True)]

    def surprises(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """-1/N of the log-probability of each pair's text given its keywords, in nats per token (equation 2)."""
        rows = [self._tokens(text, keywords) for text, keywords in pairs]
        order = sorted(range(len(rows)), key=lambda row: len(rows[row][0]))
        found = [0.0] * len(rows)
        for start in range(0, len(order), BATCH):
            some = order[start : start + BATCH]
            for row, surprise in zip(some, self._surprises([rows[row] for row in some]), strict=True):
                found[row] = surprise
        return found

    def _other(self, text: str) -> str:
        return self._others.get(text, next(iter(self._others))) if self._relative else text

    def _cosines(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[float, float]]:
        """Of each pair's keywords with its text, and on average with the texts of the items."""
        words = sorted({word for pair in pairs for word in pair})
        places = {word: place for place, word in enumerate(words)}
        vectors = self._encoder.vectors(words)
        found = [(vectors[places[text]], vectors[places[keywords]]) for text, keywords in pairs]
        return [(float(np.dot(text, said)), float(np.dot(self._middle, said))) for text, said in found]

    def _both(self, surprises: dict[tuple[str, str], float], text: str, keywords: str) -> tuple[float, float]:
        """Surprise at the text given the keywords, which may be none, and given none."""
        alone = self._alone[text]
        return surprises.get((text, keywords), alone), alone

    def _know(self, texts: Sequence[str]) -> None:
        new = [text for text in dict.fromkeys(texts) if text not in self._alone]
        if len(self._alone) + len(new) > KNOWN:
            self._alone = {text: self._alone[text] for text in texts if text in self._alone}
        self._alone |= zip(new, self.surprises([(text, NOTHING) for text in new]), strict=True)

    def _tokens(self, text: str, keywords: str) -> tuple[list[int], int]:
        """Of the whole, and how many of them, the last ones, are the text; what is too long loses its end."""
        before = list(self._tokenizer(f"Keywords: {keywords}\nText:")["input_ids"])
        after = list(self._tokenizer(f" {text}", add_special_tokens=False)["input_ids"])
        after = after[: max(1, self._room - len(before))]
        return before + after, len(after)

    def _surprises(self, rows: list[tuple[list[int], int]]) -> list[float]:
        """Padded on the left, so that every text ends at the right edge and logits are computed there only."""
        length, width = max(len(tokens) for tokens, _ in rows), max(count for _, count in rows)
        device = next(self._model.parameters()).device
        ids = torch.zeros((len(rows), length), dtype=torch.long)
        mask, wanted = torch.zeros_like(ids), torch.zeros((len(rows), width))
        for number, (tokens, count) in enumerate(rows):
            ids[number, -len(tokens) :], mask[number, -len(tokens) :] = torch.tensor(tokens), 1
            wanted[number, -count:] = 1
        training = self._model.training
        self._model.eval()
        try:
            with torch.no_grad(), self._frozen():
                arguments = {"input_ids": ids.to(device), "attention_mask": mask.to(device), "use_cache": False}
                logits = self._model(**arguments, logits_to_keep=width + 1).logits[:, :-1].float()
        finally:
            self._model.train(training)
        losses = torch.nn.functional.cross_entropy(
            logits.transpose(1, 2), ids[:, -width:].to(device), reduction="none"
        ).cpu()
        return ((losses * wanted).sum(1) / wanted.sum(1)).tolist()
