"""LoRA adapters on the engine: their p_yes and texts are those of transformers with peft, whether they are served
beside the weights or merged into them, and what one adapter has answered is not another's.

In float32 p_yes may differ by FLOAT32, in the model's half precision by HALF_PRECISION.
"""

import json
from pathlib import Path

import pytest
import torch
import tuned
from transformers import AutoProcessor

from mmsrarec.config import BUNDLED_MODEL, Config, load
from mmsrarec.engines import adapters
from mmsrarec.engines.template import Template
from mmsrarec.engines.types import Request
from mmsrarec.engines.vllm import VLLMEngine
from mmsrarec.errors import ConfigError, InputError
from mmsrarec.recommendation import prompt

ROOT = Path(__file__).parents[1]
FLOAT32, HALF_PRECISION = 1e-5, 2e-2
WORDS = "red orange blue mug lamp bag wool steel oak striped dotted calm wild summer winter travel".split()


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("adapters")
    return {kind: tuned.write(root / kind, seed) for seed, kind in enumerate(("summarizer", "recommender"), 1)}


def settings(root: Path, folders: dict[str, Path], lora: str, dtype: str) -> Config:
    engine = {"enforce_eager": True, "max_model_len": 512, "kv_cache_gb": 0.25, "dtype": dtype, "lora": lora}
    return Config(
        inputs={"items": "-", "interactions": "-"},
        lake={"root": str(root)},
        engine=engine,
        summarize_items={"summarizer": "grpo"},
        recommend={"training": "multi_task"},
        tune_summarizer={"adapter": str(folders["summarizer"])},
        tune_recommender={"adapter": str(folders["recommender"])},
    )


def requests(template: Template, names: list[str | None]) -> list[Request]:
    """The same questions to every adapter and to none, mixed."""
    shared = prompt.user_text([WORDS[:3], WORDS[3:6]], [WORDS[6:9]])
    found = []
    for number in range(3):
        text = prompt.candidate_text(WORDS[number : number + 4], "together some")
        asked = template.render(prompt.messages(shared, text))
        found += [Request(asked, "yes_no", adapter=name) for name in names]
        found += [Request(asked, "text", 4, adapter=name) for name in names]
    return found


@pytest.mark.parametrize(
    ("lora", "dtype", "tolerance"),
    [
        ("served", "float32", FLOAT32),
        ("merged", "float32", FLOAT32),
        pytest.param("merged", "auto", HALF_PRECISION, marks=pytest.mark.slow),
        pytest.param("served", "auto", HALF_PRECISION, marks=pytest.mark.slow),
    ],
)
def test_answers_are_those_of_peft(tmp_path, folders, monkeypatch, lora: str, dtype: str, tolerance: float) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    config = settings(tmp_path / "lake", folders, lora, dtype)
    template = Template.of(config)
    names = {kind: adapters.put(config, kind, folder) for kind, folder in folders.items()}
    asked = requests(template, [None, *names.values()])
    answers = VLLMEngine(config).answer(asked, [request.key(template.identity) for request in asked])
    processor = AutoProcessor.from_pretrained(BUNDLED_MODEL)
    yes, no = template.yes_no_ids()
    models = {None: tuned.base()} | {name: tuned.loaded(folders[kind]) for kind, name in names.items()}
    different, texts = [], []
    for request, answer in zip(asked, answers, strict=True):
        inputs = processor(text=[request.prompt], return_tensors="pt")
        with torch.no_grad():
            if request.kind == "yes_no":
                logits = models[request.adapter](**inputs).logits[0, -1].double()
                p_yes = torch.softmax(logits[[yes, no]], 0)[0].item()
                different.append(abs(p_yes - answer.p_yes))
            else:
                written = models[request.adapter].generate(**inputs, max_new_tokens=4, do_sample=False)
                text = processor.batch_decode(written[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)[0]
                texts.append(text == answer.text)
    print(f"{lora} {dtype}: p_yes differs by at most {max(different):.1e}, {sum(texts)} of {len(texts)} texts equal")
    assert max(different) <= tolerance
    assert all(texts) or (dtype == "auto" and sum(texts) > len(texts) / 2)
    scored = [(r.adapter, a.p_yes) for r, a in zip(asked, answers, strict=True) if r.kind == "yes_no"]
    assert len({p_yes for _, p_yes in scored}) == len(scored) == 9, "every adapter has an opinion of its own"


def test_the_key_changes_with_the_adapter_and_not_without_one() -> None:
    plain = Request("prompt", "yes_no")
    assert plain.key("model") == Request("prompt", "yes_no", adapter=None).key("model")
    keys = {Request("prompt", "yes_no", adapter=name).key("model") for name in (None, "a/1", "a/2")}
    assert len(keys) == 3


def test_an_adapter_says_nothing_of_where_it_was_made(tmp_path, folders) -> None:
    config = settings(tmp_path / "lake", folders, "auto", "auto")
    name = adapters.put(config, "recommender", folders["recommender"])
    written = Path(adapters.local(config, name), adapters.SETTINGS).read_text()
    assert str(BUNDLED_MODEL) not in written and "backbone@" in written
    assert adapters.put(config, "recommender", Path(adapters.local(config, name))) == name, "the same content, the same"


def test_an_adapter_of_another_model_is_refused(tmp_path, folders) -> None:
    config = settings(tmp_path / "lake", folders, "auto", "auto")
    folder = Path(adapters.local(config, adapters.put(config, "recommender", folders["recommender"])))
    written = json.loads((folder / adapters.SETTINGS).read_text())
    (folder / adapters.SETTINGS).write_text(json.dumps(written | {"base_model_name_or_path": "qwen@0123456789abcdef"}))
    with pytest.raises(ConfigError, match=r"tuned on qwen@0123456789abcdef, not on backbone@.*adapter=null"):
        adapters.put(config, "recommender", folder)


@pytest.mark.parametrize("stage", ["tune_summarizer", "tune_recommender"])
def test_the_demo_serves_adapters_of_the_bundled_model(stage: str) -> None:
    config = load(ROOT / "conf" / "demo.yaml")
    settings = getattr(config, stage)
    folder = adapters.local_folder(str(ROOT / settings.adapter))
    known = json.loads((folder / adapters.SETTINGS).read_text())
    assert known["base_model_name_or_path"] == Template.of(config).content, "remake it: README, Development"
    assert known["r"] == settings.lora.rank
    assert (folder / adapters.WEIGHTS).stat().st_size < 1_000_000


def test_a_card_serves_its_own_settings_only(tmp_path, folders) -> None:
    config = settings(tmp_path / "lake", folders, "auto", "auto")
    with pytest.raises(InputError, match="run tune_recommender first"):
        adapters.serving(config, "recommender")
    assert adapters.expected(config, "recommender") == "recommender, not tuned yet"
    name = adapters.put(config, "recommender", folders["recommender"])
    adapters.card(config, "recommender", name, "tuned", {"users": 3})
    assert adapters.serving(config, "recommender").name == adapters.expected(config, "recommender") == name
    other = config.model_copy(update={"retrieve": config.retrieve.model_copy(update={"similar_users": 5})})
    assert adapters.describe(other, "recommender") is None
    more = config.model_copy(update={"recommend": config.recommend.model_copy(update={"top_k": 3})})
    assert adapters.serving(more, "recommender").name == name, "what is done with scores decides no adapter"
    untrained = config.model_copy(update={"recommend": config.recommend.model_copy(update={"training": "untrained"})})
    assert adapters.serving(untrained, "recommender").name is None


def test_a_folder_that_is_no_adapter_is_refused_with_what_is_missing(tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"no adapter_config\.json and no adapter_model\.safetensors"):
        adapters.local_folder(str(tmp_path))
