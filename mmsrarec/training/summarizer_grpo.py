"""The summarizer's trainer, on one worker: TRL's GRPOTrainer over questions about items, each about a picture or about
a text, as summarize_items asks them. What answers are worth is keywords/rewards.py; who starts the workers,
distributed.py.

A batch may mix both kinds. Pictures are opened when their question is drawn; one that can no longer be opened is shown
as a white one, and what is answered to it counts for nothing.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from io import BytesIO
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from mmsrarec.config import Config, TuneSummarizer
from mmsrarec.engines.sentences import SentenceEncoder
from mmsrarec.engines.template import Template
from mmsrarec.errors import ModelError
from mmsrarec.keywords import prompt, rewards
from mmsrarec.keywords.rewards import Measures, Rewards
from mmsrarec.storage import files
from mmsrarec.storage.objects import Pictures, blank
from mmsrarec.training import backbone
from mmsrarec.training.distributed import Job
from mmsrarec.training.judge import Frozen, Judge

QUESTIONS = pa.schema(
    [
        ("item_id", pa.string()),
        ("text", pa.string()),  # of the item; the rewards compare with it
        ("image", pa.string()),  # address of the picture that is asked about; null: the text is
    ]
)


def write(file: str, questions: list[dict]) -> None:
    """Put the questions where every worker reads them."""
    content = BytesIO()
    pq.write_table(pa.Table.from_pylist(questions, schema=QUESTIONS), content, compression="zstd")
    files.write(file, content.getvalue())


class Summarizer(GRPOTrainer):
    """Draws rows of QUESTIONS and asks what they mean; takes batches that mix questions with and without a picture: TRL
    tells its processor None of the latter, which Qwen2.5-VL's refuses."""

    shown: "Shown"

    def _generate_and_score_completions(self, inputs: list[dict]) -> dict:
        return super()._generate_and_score_completions(self.shown.rows(inputs))

    def _generate(self, prompts: list) -> tuple:
        *found, images, tool_images = super()._generate(prompts)
        return *found, images and [shown or [] for shown in images], tool_images


def build(job: Job) -> Summarizer:
    """The trainer of one worker."""
    settings: Any = job.settings
    config = job.config
    model = backbone.load(config, settings)
    rows = Dataset(pq.read_table(BytesIO(files.content(job.examples))))
    paid = Paid(settings, config.summarize_items.max_keywords)
    trainer = Summarizer(
        model=model,
        reward_funcs=[paid.information, paid.reconstruction, paid.length],
        args=GRPOConfig(**arguments(config, settings)),
        train_dataset=rows,
        processing_class=backbone.processor(config),
        peft_config=backbone.lora(settings, model),
    )
    trainer.shown = Shown(Pictures(config))
    policy = trainer.accelerator.unwrap_model(trainer.model)
    paid.judge = judge(config, settings, rows["text"], rewards.scaling(settings), policy)
    return trainer


def arguments(config: Config, settings: TuneSummarizer) -> dict[str, Any]:
    """What TRL is told of the settings."""
    summed = {"multi_objective_aggregation": "normalize_then_sum"} if settings.scaling == "group" else {}
    return {
        **backbone.arguments(config, settings),
        **summed,
        "max_steps": settings.steps,
        "per_device_train_batch_size": settings.prompts * settings.generations,
        "num_generations": settings.generations,
        "max_completion_length": config.summarize_items.max_tokens,
        "temperature": settings.temperature,
        "beta": settings.divergence,
        "log_multimodal": False,  # it gathers the pictures of a batch that has some, and would wait for one without
        "reward_weights": [settings.information, settings.reconstruction, settings.length],
    }


def judge(
    config: Config, settings: TuneSummarizer, texts: Sequence[str], scale: rewards.Scaling, policy: Any = None
) -> Judge:
    """The judge, for rewards of that scale, of answers about items with these texts, with the language model that the
    settings name; null is the policy without its adapter, or where there is none the backbone."""
    frozen: Frozen = nullcontext
    if settings.language_model:
        model, tokenizer = backbone.language_model(config, settings, settings.language_model)
    else:
        model, tokenizer = policy, Template.of(config).tokenizer
        if policy is None:
            model = backbone.placed(backbone.load(config, settings), settings)
        else:
            frozen = policy.disable_adapter
    encoder, room = SentenceEncoder(settings.sentence_encoder), config.engine.max_model_len
    return Judge(encoder, texts, model, tokenizer, room, frozen, scale == "relative")


def messages(row: dict) -> list[dict]:
    """The chat of a question, the very one that summarize_items renders."""
    return prompt.image_messages() if row["image"] else prompt.text_messages(row["text"])


class Shown:
    """Turns rows of QUESTIONS into what GRPOTrainer takes: prompt, images, and for the rewards text and readable."""

    def __init__(self, pictures: Pictures):
        self._pictures = pictures

    def rows(self, rows: list[dict]) -> list[dict]:
        opened = {address: self._pictures.open_or_blank(address) for address in {row["image"] for row in rows} - {None}}
        return [self._row(row, opened.get(row["image"])) for row in rows]

    def _row(self, row: dict, opened: tuple[Any, bool] | None) -> dict:
        """`opened` is the picture and whether it is the one that is asked about; None: the text is asked about."""
        shown, readable = ([opened[0]], opened[1]) if opened else ([], True)
        return {"prompt": messages(row), "images": shown, "text": row["text"], "readable": readable}


def check_prompts(config: Config, processor: Any, questions: Sequence[dict]) -> None:
    """Raises ModelError where the trainer would ask with other tokens than the engine."""
    template = Template.of(config)
    kinds = {bool(row["image"]): row for row in questions}
    for row in kinds.values():
        image = blank() if row["image"] else None
        engine = template.token_ids(template.render(messages(row)), image, "picture")
        picture = getattr(processor, "image_token_id", None)
        trainer = ["picture" if image and token == picture else token for token in asked(processor, row, image)]
        if trainer != engine:
            raise ModelError(
                f"model {config.model_path}: its processor writes our questions otherwise than its engine is asked "
                "them, so tuning would teach answers to other prompts; set summarize_items.summarizer=untuned"
            )


def asked(processor: Any, row: dict, image: Any) -> list[int]:
    """Tokens of a question as GRPOTrainer makes them."""
    chat = messages(row)
    for message in chat:
        if isinstance(message["content"], str):
            message["content"] = [{"type": "text", "text": message["content"]}]
        for part in message["content"]:
            part |= {"image": image} if part["type"] == "image" else {}
    told = processor.apply_chat_template(
        conversation=[chat], add_generation_prompt=True, tokenize=True, return_dict=True
    )
    return list(told["input_ids"][0])


class Paid:
    """The three rewards as functions of TRL's, which are told apart in its log; each batch is judged once."""

    judge: Judge

    def __init__(self, settings: TuneSummarizer, most: int):
        self._settings, self._most = settings, most
        self._batch: Any = None
        self._found: list[Rewards | None] = []

    def information(self, **batch: Any) -> list[float | None]:
        return [found.information if found else None for found in self._rewards(batch)]

    def reconstruction(self, **batch: Any) -> list[float | None]:
        return [found.reconstruction if found else None for found in self._rewards(batch)]

    def length(self, **batch: Any) -> list[float | None]:
        return [found.length if found else None for found in self._rewards(batch)]

    def _rewards(self, batch: dict[str, Any]) -> list[Rewards | None]:
        """None for what was answered to a picture that could not be shown."""
        if batch["completions"] is not self._batch:
            self._batch = batch["completions"]
            answers = [prompt.parse_keywords(turns[-1]["content"], self._most) for turns in batch["completions"]]
            measures = self.judge.measures(batch["text"], answers)
            _log(measures, batch["log_metric"])
            scale = rewards.scaling(self._settings)
            self._found = [
                rewards.rewards(found, self._settings, self._most, scale) if readable else None
                for found, readable in zip(measures, batch["readable"], strict=True)
            ]
        return self._found


def _log(found: list[Measures], log_metric: Callable[[str, float], None]) -> None:
    """The rewards before they are scaled."""
    raw = {"cosine": "cosine", "perplexity": "perplexity", "keywords": "keywords"}
    for name, field in raw.items():
        log_metric(name, sum(getattr(one, field) for one in found) / len(found))
