"""The recommender's trainer, on one worker: TRL's SFTTrainer over batches of examples, with the sampling of the
negatives corrected for. What the examples are is recommendation/examples.py; who starts the workers, distributed.py.

A row of the data is a batch of up to batch_tokens tokens of sequences of like length, all with a picture or all
without. Sequences are padded on the left: every answer ends at the right edge, and logits are computed there only.
"""

from collections.abc import Iterator, Sequence
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
from mmsrarec.recommendation.examples import Example
from mmsrarec.storage import files
from mmsrarec.storage.objects import Pictures
from mmsrarec.training import backbone
from mmsrarec.training.distributed import Job

IGNORE = -100
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
BATCHES = pa.schema([("batch", pa.list_(SEQUENCE))])


def tokenized(examples: Sequence[Example], template: Template) -> list[dict]:
    """Rows of SEQUENCE; an answer in keywords ends with the token that ends a turn, as the model is to write it."""
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


def batched(
    rows: Sequence[dict], settings: TuneRecommender, rng: np.random.Generator, picture: int = 0
) -> Iterator[list[dict]]:
    """Batches of at most batch_tokens tokens with their padding, of like length, in random order; once per epoch. A
    picture takes at most `picture` tokens."""
    shows = np.array([row["image"] is not None for row in rows])
    lengths = np.array([len(row["tokens"]) for row in rows]) + shows * picture
    for _ in range(settings.epochs):
        order = np.lexsort((rng.random(len(rows)), lengths // 16, shows))
        batches: list[list[dict]] = [[]]
        for number, place in enumerate(order.tolist()):
            other = number and shows[place] != shows[order[number - 1]]
            if batches[-1] and (other or lengths[place] * (len(batches[-1]) + 1) > settings.batch_tokens):
                batches.append([])
            batches[-1].append(rows[place])
        yield from (batches[number] for number in rng.permutation(len(batches)))


def write(file: str, batches: Iterator[list[dict]]) -> int:
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

    def __call__(self, rows: list[dict]) -> dict[str, Any]:
        """Of the batch that the one row is: what the model reads (input_ids and attention_mask [sequences, length],
        and what its processor makes of pictures), labels [sequences, longest answer], weights and offsets [sequences],
        instructions."""
        batch = [sequence for row in rows for sequence in row["batch"]]
        weights = torch.tensor([row["weight"] for row in batch])
        read = self._shown(batch, weights) if batch[0]["image"] else self._texts(batch)
        labels = torch.full((len(batch), max(row["answer"] for row in batch)), IGNORE)
        for number, row in enumerate(batch):
            labels[number, -row["answer"] :] = torch.tensor(row["tokens"][-row["answer"] :])
        offsets = torch.tensor([row["offset"] for row in batch])
        instructions = [row["instruction"] for row in batch]
        return {**read, "labels": labels, "weights": weights, "offsets": offsets, "instructions": instructions}

    def _texts(self, batch: list[dict]) -> dict[str, torch.Tensor]:
        length = max(len(row["tokens"]) for row in batch)
        ids, mask = torch.full((len(batch), length), self.pad), torch.zeros((len(batch), length), dtype=torch.long)
        for number, row in enumerate(batch):
            tokens = torch.tensor(row["tokens"])
            ids[number, -len(tokens) :], mask[number, -len(tokens) :] = tokens, 1
        return {"input_ids": ids, "attention_mask": mask}

    def _shown(self, batch: list[dict], weights: torch.Tensor) -> dict[str, torch.Tensor]:
        """What can no longer be opened is shown as a white picture and counts for nothing."""
        images, readable = zip(*(self._pictures.open_or_blank(row["image"]) for row in batch), strict=True)
        weights *= torch.tensor(readable)
        texts = [row["text"] for row in batch]
        return dict(self._processor(text=texts, images=list(images), padding=True, return_tensors="pt"))

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
        labels, weights, offsets = (inputs.pop(name) for name in ("labels", "weights", "offsets"))
        instructions = inputs.pop("instructions")
        kept = labels.shape[1] + 1
        logits = model(**inputs, use_cache=False, logits_to_keep=kept).logits[:, :-1].float()
        losses = answer_losses(logits, labels, offsets, self.yes)
        metrics = self._metrics["train" if self.model.training else "eval"]
        for instruction in set(instructions):
            own = [number for number, name in enumerate(instructions) if name == instruction]
            metrics[f"loss_{instruction}"].append(losses[own].mean().item())
        return (losses * weights).sum() / self.weight


def answer_losses(logits: torch.Tensor, labels: torch.Tensor, offsets: torch.Tensor, yes: int) -> torch.Tensor:
    """Mean cross-entropy per sequence [sequences] of logits [sequences, width, vocabulary] against labels [sequences,
    width] (IGNORE: none), the logit of `yes` raised by the sequence's offset."""
    raised = logits.clone()
    raised[..., yes] += offsets[:, None]
    losses = F.cross_entropy(raised.transpose(1, 2), labels, ignore_index=IGNORE, reduction="none")
    return losses.sum(1) / (labels != IGNORE).sum(1).clamp(min=1)


def build(job: Job) -> Recommender:
    """The trainer of one worker."""
    settings: Any = job.settings
    model = backbone.load(job.config, settings)
    tokenizer = Template.of(job.config).tokenizer
    rows = Dataset(pq.read_table(BytesIO(files.content(job.examples))))
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    trainer = Recommender(
        model=model,
        args=SFTConfig(
            per_device_train_batch_size=1,
            num_train_epochs=1,  # the rows are all epochs
            dataset_kwargs={"skip_prepare_dataset": True},
            max_length=None,
            **backbone.arguments(job.config, settings),
        ),
        data_collator=Collator(job.config, pad),
        train_dataset=rows,
        processing_class=tokenizer,
        peft_config=backbone.lora(settings, model),
    )
    trainer.yes, trainer.weight = job.more["yes"], job.more["weight"]
    trainer.model_accepts_loss_kwargs = False  # so that the loss is a mean over the batches of a step
    return trainer
