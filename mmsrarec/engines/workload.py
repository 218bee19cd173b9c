"""How much a set of staged requests is, before an engine sees any: requests, pictures and tokens.

Tokens are counted on a sample of the groups with the model's own tokenizer and, for pictures, its own processor; the
rest is scaled by the length of the prompts, which is known of all. Knows no engine, no speed and no price.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmsrarec.config import Config
from mmsrarec.engines import staging
from mmsrarec.engines.template import Template
from mmsrarec.engines.types import Request
from mmsrarec.engines.vllm import CPU_BLOCK_SIZE
from mmsrarec.storage.objects import PictureError, Pictures

GPU_BLOCK_SIZE = 16  # vLLM's own default


@dataclass(frozen=True)
class Workload:
    """What an engine has to do. cached_tokens: those of prompt_tokens that its prefix cache should spare it; `more` are
    the candidates that requests ask about beyond one each."""

    groups: int = 0
    requests: int = 0
    pictures: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    more: int = 0

    @property
    def judged(self) -> int:
        """Candidates that are asked about."""
        return self.requests + self.more

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.output_tokens

    def __add__(self, other: "Workload") -> "Workload":
        return Workload(**{name: count + getattr(other, name) for name, count in asdict(self).items()})

    def times(self, factor: float) -> "Workload":
        return Workload(**{name: round(count * factor) for name, count in asdict(self).items()})


def measure(config: Config, template: Template, files: list[str], answer_tokens: float) -> Workload:
    """The work in staged files (staging.GROUPS); a text answer is taken to have `answer_tokens` tokens."""
    counts, sample = _read(config, files)
    chars: Counter[bool] = Counter()
    tokens: Counter[bool] = Counter()
    cached = 0
    before: list[int] = []
    for request, ids in _tokenized(config, template, sample):
        shown = request.image_hash is not None
        chars[shown] += len(request.prompt)
        tokens[shown] += len(ids)
        cached += _cached(config, before, ids)
        before = ids
    mean = tokens.total() / max(chars.total(), 1)
    per_char = {shown: tokens[shown] / chars[shown] if chars[shown] else mean for shown in (False, True)}
    prompt_tokens = sum(counts["chars", shown] * per_char[shown] for shown in (False, True))
    return Workload(
        groups=counts["groups"],
        requests=counts["requests"],
        pictures=counts["pictures"],
        prompt_tokens=round(prompt_tokens),
        cached_tokens=round(prompt_tokens * cached / max(tokens.total(), 1)),
        output_tokens=round(counts["texts"] * answer_tokens + counts["requests"] - counts["texts"]),
        more=counts["judged"] - counts["requests"],
    )


def _read(config: Config, files: list[str]) -> tuple[Counter, list[Request]]:
    """Counts over all groups, and the requests of plan.sample of them, in their order."""
    rows = [staging.opened(file).metadata.num_rows for file in files]
    size = min(sum(rows), config.plan.sample)
    chosen = np.random.default_rng(config.run.seed).choice(sum(rows), size, replace=False, shuffle=False)
    chosen.sort()
    counts, sample, first = Counter(groups=sum(rows)), [], 0
    for file, length in zip(files, rows, strict=True):
        groups = staging.opened(file).read(["requests"])["requests"].combine_chunks()
        counts.update(_counts(groups.flatten()))
        here = chosen[(chosen >= first) & (chosen < first + length)] - first
        sample += [Request(**request) for group in groups.take(pa.array(here)).to_pylist() for request in group]
        first += length
    return counts, sample


def _counts(requests: pa.StructArray) -> dict:
    shown, chars = pc.is_valid(requests.field("image_hash")), pc.utf8_length(requests.field("prompt"))
    return {
        "requests": len(requests),
        "judged": pc.sum(pc.max_element_wise(requests.field("letters"), 1)).as_py() or 0,
        "pictures": pc.sum(shown).as_py() or 0,
        "texts": pc.sum(pc.equal(requests.field("kind"), "text")).as_py() or 0,
        ("chars", True): pc.sum(chars.filter(shown)).as_py() or 0,
        ("chars", False): pc.sum(chars.filter(pc.invert(shown))).as_py() or 0,
    }


def _tokenized(config: Config, template: Template, sample: list[Request]) -> Iterator[tuple[Request, list]]:
    pictures = Pictures(config) if any(request.image for request in sample) else None
    options = config.engine.extra.get("mm_processor_kwargs") or {}
    for request in sample:
        try:
            image = pictures.open(request.image) if pictures and request.image else None
        except PictureError:  # gone since it was hashed: the engine will refuse the request
            yield request, []
        else:
            yield request, template.token_ids(request.prompt, image, request.image_hash or "", **options)


def _cached(config: Config, before: list, ids: list) -> int:
    """Tokens of `ids` in whole blocks that the request before it has computed; the last token is always computed."""
    block = config.engine.block_size or (GPU_BLOCK_SIZE if config.engine.num_gpus else CPU_BLOCK_SIZE)
    pairs = enumerate(zip(before, ids, strict=False))
    shared = next((place for place, (ours, theirs) in pairs if ours != theirs), min(len(before), len(ids)))
    return min(shared, max(len(ids) - 1, 0)) // block * block
