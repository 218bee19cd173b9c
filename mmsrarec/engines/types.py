"""What is asked of an engine and what it answers; no engine is imported here.

A `Group` is the unit of work: prompts that share a prefix (one user's candidates, or one item's questions) and go to
one engine together, so its prefix cache is hit. A request's key is the hash of everything that decides its answer and
the key of the `answers` table, so a request that was answered once costs nothing again.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Literal, Protocol

Kind = Literal["text", "yes_no", "choice"]
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"  # that a choice answers with


@dataclass(frozen=True)
class Request:
    """One prompt. `image` is the address of its picture (None: no picture), `image_hash` that of the decoded pixels;
    `adapter` names the LoRA adapter that answers (adapters.py), None: the model as it comes. `letters` is how many
    of LETTERS a choice has."""

    prompt: str
    kind: Kind
    max_tokens: int = 1
    image: str | None = None
    image_hash: str | None = None
    adapter: str | None = None
    letters: int = 0

    @property
    def judges(self) -> int:
        """How many candidates it asks about."""
        return max(self.letters, 1)

    def key(self, model_identity: str) -> str:
        """Hash over the rendered prompt, the picture's pixels, the sampling and the model with its adapter."""
        parts = [model_identity, self.kind, self.max_tokens, self.prompt, self.image_hash]
        parts += [self.adapter] if self.adapter else []
        parts += [self.letters] if self.letters else []
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Group:
    """Requests that belong together: `name` is the user_id or item_id, for messages and rejects."""

    name: str
    requests: tuple[Request, ...]


@dataclass(frozen=True)
class Answer:
    """text for kind "text", p_yes = p(yes) / (p(yes) + p(no)) of the first token for "yes_no"; for "choice" the text is
    a JSON list of the letters' probabilities as that token, of one sum; or an error."""

    key: str
    kind: Kind
    text: str | None = None
    p_yes: float | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    error: str | None = None


class Engine(Protocol):
    """Answers requests in their order; a request it cannot take gets an Answer with `error`, never an exception."""

    def answer(self, requests: list[Request], keys: list[str]) -> list[Answer]: ...
