"""Settings of SASRec, the index, the engine, and the stages that ask them."""

import os
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from mmsrarec.config.section import Count, Fraction, Positive, Section


class Sasrec(Section):
    """SASRec (Kang and McAuley 2018) with full-catalog cross-entropy."""

    dim: Positive = Field(64, description="width of the embeddings")
    layers: Positive = Field(2, description="transformer layers")
    heads: Positive = Field(2, description="attention heads per layer; they divide dim")
    max_length: Positive = Field(50, description="latest items of a history that it reads")
    dropout: Fraction = Field(0.2, description="share of activations dropped in training")
    learning_rate: float = Field(1e-3, gt=0, description="step size of Adam")
    batch_size: Positive = Field(128, description="users per training step")
    epochs: Positive = Field(40, description="passes over the training users at most")
    patience: Positive = Field(8, description="epochs without a better validation NDCG@10 before training stops")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="where it trains; auto: on a GPU if there is one"
    )
    refresh_days: Count = Field(
        7, description="days a checkpoint serves before new interactions train another; 0: every run with new ones"
    )


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

    use_images: bool = Field(True, description="ask about the picture")
    use_text: bool = Field(True, description="ask about the text")
    max_keywords: Positive = Field(8, description="keywords kept per modality")
    max_tokens: Positive = Field(48, description="tokens an answer may have")
    max_text_chars: Positive = Field(1000, description="an item's text is cut to this many characters")
    image_pixels: Positive = Field(448 * 448, description="a picture is scaled down to this many pixels")


class Retrieve(Section):
    """Stage 2: similar users, candidates and the evidence about them."""

    similar_users: Count = Field(3, description="k of the method; 0 switches similar users off")
    neighbors: Positive = Field(50, description="similar users whose next items become candidates")
    from_sasrec: Count = Field(20, description="candidates from SASRec over the full catalog")
    from_similar_users: Count = Field(10, description="candidates from what similar users took next")
    from_cooccurrence: Count = Field(10, description="candidates from items taken near the history's")
    from_content: Count = Field(10, description="candidates whose keywords are near the history's")
    from_similar_content: Count = Field(10, description="candidates whose keywords are near what similar users took")
    from_new: Count = Field(2, description="candidates that nobody has taken yet, those near in content")
    candidates: Positive = Field(30, description="candidates per user; popular items fill up")


class Recommend(Section):
    """Stage 3: scoring and the lists."""

    top_k: Positive = Field(10, description="items on a list")
    history: Positive = Field(5, description="n of the method: latest items shown in the prompt")
    evidence: bool = Field(True, description="show the evidence about the candidate")
    candidate_image: bool = Field(False, description="show the candidate's picture (slower: see the README)")
    because: Positive = Field(3, description="keywords given as the reason")


class Evaluate(Section):
    """Metrics on the held-out items of the test users."""

    ks: list[Positive] = Field([5, 10], description="lengths of list that HR, NDCG and MRR are told for")
    negatives: Positive = Field(20, description="sampled negatives per user (the paper's 1 + 20)")
    max_users: Positive = Field(1000, description="test users drawn at most")
    bootstrap: Positive = Field(1000, description="resamples behind an interval")
