"""What the model's own tokenizer knows: its chat template, its special tokens, the ids of yes and no and of letters.

Works with the processor or tokenizer of any MLLM (Qwen2.5-VL, InternVL, LLaVA); loads no weights and answers nothing.
"""

import hashlib
import json
import os
from collections.abc import Callable
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from mmsrarec.config import Config
from mmsrarec.engines import collector
from mmsrarec.engines.types import LETTERS
from mmsrarec.errors import ModelError
from mmsrarec.storage import models

with collector.paused():
    from transformers import AutoConfig, AutoProcessor, AutoTokenizer

YES_NO = (("yes", "no"), ("Yes", "No"), (" yes", " no"), (" Yes", " No"), ("YES", "NO"))
PROBE = "What does the template make of this?"
# Of engine.extra: how fast and in how much memory, not what is answered.
ONLY_SPEED = {
    "async_scheduling",
    "cpu_offload_gb",
    "data_parallel_size",
    "disable_log_stats",
    "distributed_executor_backend",
    "enable_chunked_prefill",
    "load_format",
    "max_num_batched_tokens",
    "mm_processor_cache_gb",
    "pipeline_parallel_size",
    "swap_space",
}


class Template:
    """Renders chats for `model`, a folder or a hub name. Raises ModelError where there is none.

    `settings` are those of the engine that decide its answers, besides the model: see `of`.
    """

    def __init__(self, model: str, trust_remote_code: bool = False, settings: dict | None = None):
        self.model, self._settings = model, settings or {}
        self._options = {"trust_remote_code": trust_remote_code}
        if os.path.isdir(model):
            self._options["local_files_only"] = True
        self.tokenizer = self._load(AutoTokenizer)
        self._chat = self.tokenizer
        if not self.tokenizer.chat_template:
            self._chat = self._load(AutoProcessor)
        if not self._chat.chat_template:
            raise ModelError(f"model {model}: has no chat template; take an instruction-tuned model")

    @classmethod
    def of(cls, config: Config) -> "Template":
        """Of the model that `config` names, served as it says. What else comes to decide answers goes in here."""
        engine = config.engine
        settings = {name: value for name, value in engine.extra.items() if name not in ONLY_SPEED}
        if engine.dtype != "auto":
            settings["dtype"] = engine.dtype
        return cls(models.place(config), engine.trust_remote_code, settings)

    def render(self, messages: list[dict]) -> str:
        """The prompt with the generation prompt at its end; parts of a message keep their order.

        Where tokenizing adds the first token (<s>) by itself, the rendered text does not begin with it.
        """
        adapted = [{**message, "content": self._content(message["content"])} for message in messages]
        return self._apply(adapted).removeprefix(self._added_prefix)

    def token_ids(self, prompt: str, image: Any = None, image_name: str = "", **options: object) -> list:
        """The prompt as the engine computes it: its token ids, a picture as `image_name` for each token it takes.

        `options` go to the model's processor. Where it has none that takes pictures, 28 x 28 pixels make a token.
        """
        if image is None:
            return self._ids(prompt)
        try:
            found = self._processor(text=[prompt], images=[image], **options)["input_ids"][0]
        except Exception:  # a model's own code may raise anything, and the engine may still serve it
            return self._ids(prompt) + [image_name] * (image.width * image.height // 28**2)
        picture = getattr(self._processor, "image_token_id", None)
        return [image_name if token == picture else token for token in found]

    def fitted(self, text: str, room: int, rendered: Callable[[str], str] = str) -> tuple[str, str]:
        """The text and what is `rendered` of it, the text cut until that has at most `room` tokens (some scripts take
        several a character)."""
        while True:
            whole = rendered(text)
            if not text or len(whole.encode()) <= room:  # a token is a byte or more
                return text, whole
            excess = len(self._ids(whole)) - room
            if excess <= 0:
                return text, whole
            text = text[: -max(1, excess // 4)].rstrip()  # a character is at most 4 tokens

    @cached_property
    def special_tokens(self) -> tuple[str, ...]:
        """Every string that the tokenizer turns into a token of its own instead of text, longest first."""
        added = set(self.tokenizer.get_added_vocab()) | set(self.tokenizer.all_special_tokens) | {self._image_token}
        return tuple(sorted(filter(None, added), key=lambda token: (-len(token), token)))

    @cached_property
    def identity(self) -> str:
        """Names who answers: the model's content, and a hash of the engine's settings where they are not the default.

        The content is a hash of a folder's files, or a hub name with its revision.
        """
        if not self._settings:
            return self.content
        settings = json.dumps(self._settings, sort_keys=True, default=str)
        return f"{self.content}+{hashlib.sha256(settings.encode()).hexdigest()[:8]}"

    @cached_property
    def content(self) -> str:
        """The model's, however it is served."""
        if os.path.isdir(self.model):
            return f"{Path(self.model).resolve().name}@{folder_hash(self.model)}"
        revision = getattr(self._load(AutoConfig), "_commit_hash", None)
        return f"{self.model}@{revision}" if revision else self.model

    def yes_no_ids(self) -> tuple[int, int]:
        """Ids of yes and no as the first token of an answer, the same spelling for both; raises ModelError."""
        prompt = self.render([{"role": "user", "content": PROBE}])
        before = self._ids(prompt)
        for words in YES_NO:
            yes, no = (self._next_id(prompt, before, word) for word in words)
            if yes is not None and no is not None:
                return yes, no
        raise ModelError(
            f"model {self.model}: its tokenizer writes neither yes and no, nor Yes and No, as single tokens at the "
            "start of an answer, so p(yes) cannot be read from the first token; take another model"
        )

    def letter_ids(self, count: int) -> list[int]:
        """Ids of the first `count` LETTERS as the first token of an answer, all spelled alike; raises ModelError."""
        prompt = self.render([{"role": "user", "content": PROBE}])
        before = self._ids(prompt)
        for blank in ("", " "):
            found = [self._next_id(prompt, before, blank + letter) for letter in LETTERS[:count]]
            known = [token for token in found if token is not None]
            if len(set(known)) == count:
                return known
        raise ModelError(
            f"model {self.model}: its tokenizer does not write each of the letters A to {LETTERS[count - 1]} as a "
            "single token at the start of an answer, so it cannot be asked to choose among candidates; set "
            "recommend.scoring=pointwise, or take another model"
        )

    def _load(self, kind: Any) -> Any:
        try:
            return kind.from_pretrained(self.model, **self._options)
        except (OSError, ValueError, KeyError, ImportError) as error:
            reason = " ".join(str(error).split())[:500]
            remedy = "Give model: a folder with a model's files, or a hub name that this machine can reach"
            if "trust_remote_code" in reason:
                remedy = "Read that code, then set engine.trust_remote_code=true; or take a model that needs none"
            raise ModelError(f"model {self.model}: cannot be loaded ({reason}). {remedy}") from None

    def _next_id(self, prompt: str, before: list[int], word: str) -> int | None:
        """Id of the one token that `word` is after `prompt`; None where it is several or unknown."""
        *context, last = self._ids(prompt + word)
        return last if context == before and self.tokenizer.decode([last]).strip() == word.strip() else None

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text)["input_ids"])

    def _apply(self, messages: list[dict]) -> str:
        try:
            return self._chat.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        except TemplateError as error:
            raise ModelError(f"model {self.model}: its chat template refuses our messages: {error}") from None

    def _content(self, content: str | list[dict]) -> str | list[dict]:
        """Templates take either a list of parts or one string; give this one what it takes."""
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if self._takes_parts:
            return parts
        return "".join(part["text"] if part["type"] == "text" else f"{self._image_token}\n" for part in parts)

    @cached_property
    def _processor(self) -> Any:
        return self._load(AutoProcessor)

    @cached_property
    def _takes_parts(self) -> bool:
        probe = [{"role": "user", "content": [{"type": "text", "text": PROBE}]}]
        try:
            text = self._apply(probe)
        except (ModelError, TypeError):
            return False
        return PROBE in text and "'type'" not in text

    @cached_property
    def _image_token(self) -> str:
        return getattr(self._chat, "image_token", None) or getattr(self.tokenizer, "image_token", None) or "<image>"

    @cached_property
    def _added_prefix(self) -> str:
        bos = self.tokenizer.bos_token
        return bos if bos and self._ids("")[:1] == [self.tokenizer.bos_token_id] else ""


def folder_hash(folder: str) -> str:
    """Hash over names and contents of all files in a model's folder.

    Weights of many GB are read once: the result is remembered in the user's cache folder by sizes and times.
    """
    files = sorted(path for path in Path(folder).resolve().iterdir() if path.is_file() and path.name[0] != ".")
    listing = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return _remembered_hash(tuple(listing))


@lru_cache(maxsize=8)
def _remembered_hash(listing: tuple[tuple[str, int, int], ...]) -> str:
    cache = models.cache()
    entry = cache / hashlib.sha256(json.dumps(listing).encode()).hexdigest()
    if entry.exists():
        return entry.read_text()
    digest = hashlib.sha256()
    for path, _, _ in listing:
        with open(path, "rb") as file:
            digest.update(f"{Path(path).name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    found = digest.hexdigest()[:16]
    try:
        cache.mkdir(parents=True, exist_ok=True)
        partial = entry.with_suffix(f".{os.getpid()}")
        partial.write_text(found)
        partial.replace(entry)
    except OSError:
        pass  # a home that cannot be written only costs the time to read the weights again
    return found
