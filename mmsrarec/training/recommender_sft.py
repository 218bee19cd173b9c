"""The recommender's trainer, on one worker: TRL's SFTTrainer over batches of examples, with the sampling of the
negatives corrected for. What the examples are is recommendation/examples.py; who starts the workers, distributed.py.

All examples of a question are about the same user and begin alike, so they are computed together (prefixes.py). A row
of the data is a batch of up to batch_tokens tokens of such groups of like length. What shows a picture is a group of
its own, and goes through the model's processor. Logits are computed where answers are, and nowhere else.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from mmsrarec.config import Config, TuneRecommender
from mmsrarec.engines.template import Template
from mmsrarec.errors import ModelError
from mmsrarec.recommendation.examples import Example
from mmsrarec.storage import files
from mmsrarec.storage.objects import Pictures
from mmsrarec.training import backbone
from mmsrarec.training.distributed import Job
from mmsrarec.training.prefixes import packed

LIKE = 16  # tokens
SAME = 0.1  # difference of losses that arithmetic makes, in bfloat16, too
SEQUENCE = pa.struct(
    [
        ("instruction", pa.string()),
        ("tokens", pa.list_(pa.int32())),
        ("answer", pa.int32()),  # how many of them, the last ones, are the answer
        ("weight", pa.float32()),
        ("offset", pa.float32()),
        ("image", pa.string()),  # address of the picture that is shown; the tokens have one for it, text all
        ("text", pa.string()),
    ]
)
BATCHES = pa.schema([("batch", pa.list_(pa.list_(SEQUENCE)))])
Rows = list[dict]  # of SEQUENCE


def tokenized(examples: Sequence[Example], template: Template) -> Rows:
    """Of the examples; an answer in keywords ends with the token that ends a turn, as the model is to write it."""
    end = template.tokenizer.eos_token or ""
    rows = []
    for example in examples:
        free = example.instruction in ("next_keywords", "preference")
        text = example.prompt + example.answer + (end if free else "")
        before, whole = (template.tokenizer(each)["input_ids"] for each in (example.prompt, text))
        row = {"instruction": example.instruction, "tokens": whole, "answer": len(whole) - len(before)}
        row |= {"image": example.image, "text": text if example.image else None}
        rows.append(row | {"weight": example.weight, "offset": example.offset})
    return rows


def grouped(questions: Iterable[Rows], settings: TuneRecommender) -> Iterator[Rows]:
    """What is computed together: the rows of a question, with share_prefixes, and each one that shows a picture
    alone."""
    for rows in questions:
        texts = [row for row in rows if row["image"] is None]
        yield from ([texts] if texts and settings.share_prefixes else ([row] for row in texts))
        yield from ([row] for row in rows if row["image"] is not None)


def batched(
    groups: Sequence[Rows], settings: TuneRecommender, rng: np.random.Generator, picture: int = 0
) -> Iterator[list[Rows]]:
    """Batches of at most batch_tokens tokens with their padding, of like length, in random order; once per epoch. A
    picture takes at most `picture` tokens."""
    shows = np.array([group[0]["image"] is not None for group in groups])
    lengths = np.array([length(group) for group in groups]) + shows * picture
    lengths += -lengths % LIKE  # of like length is what has the same one now
    for _ in range(settings.epochs):
        order = np.lexsort((rng.random(len(groups)), lengths, shows))
        batches: list[list[Rows]] = [[]]
        for number, place in enumerate(order.tolist()):
            other = number and shows[place] != shows[order[number - 1]]
            if batches[-1] and (other or lengths[place] * (len(batches[-1]) + 1) > settings.batch_tokens):
                batches.append([])
            batches[-1].append(groups[place])
        yield from (batches[number] for number in rng.permutation(len(batches)))


def length(group: Rows) -> int:
    """Tokens that are computed."""
    return len(packed([row["tokens"] for row in group]).tokens)


def write(file: str, batches: Iterator[list[Rows]]) -> int:
    """Put the batches where every worker reads them; how many."""
    table = pa.Table.from_pylist([{"batch": batch} for batch in batches], schema=BATCHES)
    content = BytesIO()
    pq.write_table(table, content, compression="zstd")
    files.write(file, content.getvalue())
    return table.num_rows


@dataclass
class Collator:
    """Makes tensors of a batch; what shows pictures goes through the model's processor."""

    config: Config
    pad: int
    dtype: torch.dtype = torch.float32  # of the model

    def __call__(self, rows: list[dict]) -> dict[str, Any]:
        """Of the batch that the one row is: what the model reads (input_ids [groups, length] and what belongs to them),
        and its answers: labels [tokens], the group and the place whose logits tell each, and which sequence it is of;
        weights and offsets [sequences], instructions."""
        groups = [group for row in rows for group in row["batch"]]
        sequences = [sequence for group in groups for sequence in group]
        weights = torch.tensor([row["weight"] for row in sequences])
        shown = sequences[0]["image"] is not None
        read, paths = self._shown(sequences, weights) if shown else self._texts(groups)
        answers = [
            (group, path[-row["answer"] - 1 :], row["tokens"][-row["answer"] :])
            for (group, path), row in zip(paths, sequences, strict=True)
        ]
        told = [
            (group, place, label, number)
            for number, (group, places, labels) in enumerate(answers)
            for place, label in zip(places, labels, strict=False)  # each is told at the place before it
        ]
        read |= zip(("groups", "places", "labels", "sequences"), torch.tensor(told).T.contiguous(), strict=True)
        offsets = torch.tensor([row["offset"] for row in sequences])
        instructions = [row["instruction"] for row in sequences]
        return {**read, "weights": weights, "offsets": offsets, "instructions": instructions}

    def _texts(self, groups: list[Rows]) -> tuple[dict[str, torch.Tensor], list[tuple[int, list[int]]]]:
        """What the model reads, and of each sequence its group and its path there. Padding is on the right, where
        nothing sees it."""
        trees = [packed([row["tokens"] for row in group]) for group in groups]
        sizes = torch.tensor([len(tree.tokens) for tree in trees])
        shape = len(trees), int(sizes.max())
        ids, positions = torch.full(shape, self.pad), torch.zeros(shape, dtype=torch.long)
        for number, tree in enumerate(trees):
            ids[number, : sizes[number]] = torch.tensor(tree.tokens)
            positions[number, : sizes[number]] = torch.tensor(tree.positions)
        paths = [(number, path) for number, tree in enumerate(trees) for path in tree.paths]
        if all(len(group) == 1 for group in groups):
            return {"input_ids": ids, "attention_mask": (torch.arange(shape[1]) < sizes[:, None]).long()}, paths
        seen = torch.eye(shape[1], dtype=torch.bool).repeat(shape[0], 1, 1)  # padding must see something: itself
        for number, tree in enumerate(trees):
            seen[number, : sizes[number], : sizes[number]] = tree.seen()
        mask = torch.zeros(seen.shape, dtype=self.dtype).masked_fill(~seen, torch.finfo(self.dtype).min)
        return {"input_ids": ids, "position_ids": positions, "attention_mask": mask[:, None]}, paths

    def _shown(
        self, sequences: Rows, weights: torch.Tensor
    ) -> tuple[dict[str, torch.Tensor], list[tuple[int, list[int]]]]:
        """The same. What can no longer be opened is shown as a white picture and counts for nothing. The processor pads
        on the left."""
        images, readable = zip(*(self._pictures.open_or_blank(row["image"]) for row in sequences), strict=True)
        weights *= torch.tensor(readable)
        texts = [row["text"] for row in sequences]
        read = dict(self._processor(text=texts, images=list(images), padding=True, return_tensors="pt"))
        path = list(range(read["input_ids"].shape[1]))
        return read, [(number, path) for number in range(len(sequences))]

    @cached_property
    def _processor(self) -> Any:
        return backbone.processor(self.config)

    @cached_property
    def _pictures(self) -> Pictures:
        return Pictures(self.config)


class Recommender(SFTTrainer):
    """Cross-entropy of the answers, weighted by example, with each example's offset on the log-odds of yes.

    The weights of a batch count against `weight`, what a batch has on average: a batch of one kind counts as its
    examples do.
    """

    yes: int
    weight: float

    def compute_loss(
        self, model: Any, inputs: dict, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        weights, instructions = inputs.pop("weights"), inputs.pop("instructions")
        losses = answer_losses(model, inputs, self.yes)
        metrics = self._metrics["train" if self.model.training else "eval"]
        for instruction in set(instructions):
            own = [number for number, name in enumerate(instructions) if name == instruction]
            metrics[f"loss_{instruction}"].append(losses[own].mean().item())
        return (losses * weights).sum() / self.weight


def answer_losses(model: Any, batch: dict[str, torch.Tensor], yes: int) -> torch.Tensor:
    """Mean cross-entropy per sequence [sequences] of what the model says of the Collator's batch, the logit of `yes`
    raised by the sequence's offset."""
    names = "groups", "places", "labels", "sequences", "offsets"
    groups, places, labels, sequences, offsets = (batch[name] for name in names)
    kept, where = places.unique(return_inverse=True)
    read = {name: value for name, value in batch.items() if name not in names}
    logits = model(**read, use_cache=False, logits_to_keep=kept).logits[groups, where].float()
    raised = logits.index_add(1, labels.new_tensor([yes]), offsets[sequences, None])
    losses = F.cross_entropy(raised, labels, reduction="none")
    return losses.new_zeros(len(offsets)).index_add(0, sequences, losses) / sequences.bincount(minlength=len(offsets))


def require_same(model: Any, collator: Collator, group: Rows, yes: int) -> None:
    """Raise ModelError where the model says of sequences that are packed what it does not say of them alone."""
    found = []
    for groups in ([group], [[row] for row in group]):
        read = collator([{"batch": groups}])
        on_device = {name: each.to(model.device) for name, each in read.items() if isinstance(each, torch.Tensor)}
        with torch.no_grad():
            found.append(answer_losses(model, {name: on_device[name] for name in on_device if name != "weights"}, yes))
    apart = (found[0] - found[1]).abs().max().item()
    if not apart < SAME * (1 + found[1].max().item()):
        raise ModelError(
            f"model: it says of examples that are computed together what it does not say of them alone (losses "
            f"{apart:.2g} apart); set tune_recommender.share_prefixes=false"
        )


def build(job: Job) -> Recommender:
    """The trainer of one worker. ModelError where the model cannot share prefixes and is to."""
    settings: Any = job.settings
    model = backbone.load(job.config, settings)
    tokenizer = Template.of(job.config).tokenizer
    rows = Dataset(pq.read_table(BytesIO(files.content(job.examples))))
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    collator = Collator(job.config, pad, model.dtype)
    together = (group for row in rows for group in row["batch"] if len(group) > 1)
    if group := next(together, None):
        require_same(backbone.placed(model, settings), collator, group, job.more["yes"])
    trainer = Recommender(
        model=model,
        args=SFTConfig(
            per_device_train_batch_size=1,
            num_train_epochs=1,  # the rows are all epochs
            dataset_kwargs={"skip_prepare_dataset": True},
            max_length=None,
            **backbone.arguments(job.config, settings),
        ),
        data_collator=collator,
        train_dataset=rows,
        processing_class=tokenizer,
        peft_config=backbone.lora(settings, model),
    )
    trainer.yes, trainer.weight = job.more["yes"], job.more["weight"]
    trainer.model_accepts_loss_kwargs = False  # so that the loss is a mean over the batches of a step
    return trainer
