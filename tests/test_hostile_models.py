"""A model's folder is data: pickled weights are not read, and its Python code runs only where the settings say so."""

import json
import pickle
import shutil
import sys
from pathlib import Path

import pytest

from mmsrarec.config import BUNDLED_MODEL, Config
from mmsrarec.engines.template import Template
from mmsrarec.engines.vllm import engine_arguments, refusal
from mmsrarec.errors import ModelError

CODE = """
from pathlib import Path
from transformers import PretrainedConfig, PreTrainedTokenizerFast

Path({mark!r}).write_text("ran")


class OddConfig(PretrainedConfig):
    model_type = "odd"


class OddTokenizer(PreTrainedTokenizerFast):
    pass
"""


class Writes:
    """Unpickled, it writes a file."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self) -> tuple:
        return Path.write_text, (self.mark, "ran")


def config(folder: Path, **engine: object) -> Config:
    return Config(inputs={"items": "-", "interactions": "-"}, model=str(folder), engine=engine)


def pickled_model(folder: Path, mark: Path) -> Path:
    """The bundled model, its weights replaced by a pickle that writes `mark`."""
    shutil.copytree(BUNDLED_MODEL, folder)
    for file in folder.glob("*.safetensors"):
        file.unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": Writes(mark)}))
    return folder


def model_with_code(folder: Path, mark: Path) -> Path:
    """The bundled model, of a type and with a tokenizer that only the code beside it knows."""
    shutil.copytree(BUNDLED_MODEL, folder)
    changes = {
        "config.json": {"model_type": "odd", "auto_map": {"AutoConfig": "odd.OddConfig"}},
        "tokenizer_config.json": {
            "tokenizer_class": "OddTokenizer",
            "auto_map": {"AutoTokenizer": [None, "odd.OddTokenizer"]},
        },
    }
    for name, change in changes.items():
        (folder / name).write_text(json.dumps(json.loads((folder / name).read_text()) | change))
    (folder / "odd.py").write_text(CODE.format(mark=str(mark)))
    return folder


def test_weights_come_from_safetensors_unless_the_settings_say_otherwise(tmp_path: Path) -> None:
    assert engine_arguments(config(tmp_path))["load_format"] == "safetensors"
    assert engine_arguments(config(tmp_path))["trust_remote_code"] is False
    asked = config(tmp_path, extra={"load_format": "auto"}, trust_remote_code=True)
    assert engine_arguments(asked)["load_format"] == "auto"
    assert engine_arguments(asked)["trust_remote_code"] is True
    said = refusal(RuntimeError(f"Cannot find any model weights with `{tmp_path}`"))
    assert "safetensors" in said and "engine.extra.load_format" in said


def test_code_of_a_model_runs_only_where_the_settings_say_so(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    folder = model_with_code(tmp_path / "model", mark)
    with pytest.raises(ModelError, match=r"engine\.trust_remote_code"):
        Template.of(config(folder))
    assert not mark.exists()
    assert Template.of(config(folder, trust_remote_code=True)).special_tokens
    assert mark.exists()


@pytest.mark.slow
def test_the_engine_does_not_read_pickled_weights(tmp_path: Path) -> None:
    import subprocess

    mark = tmp_path / "mark"
    folder = pickled_model(tmp_path / "model", mark)
    start = (
        "from mmsrarec.config import Config; from mmsrarec.engines.vllm import VLLMEngine; "
        f"VLLMEngine(Config(inputs={{'items': '-', 'interactions': '-'}}, model={str(folder)!r}, "
        "engine={'enforce_eager': True}))"
    )
    ended = subprocess.run([sys.executable, "-c", start], capture_output=True, text=True, timeout=400)
    assert ended.returncode and "its folder needs *.safetensors" in ended.stderr
    assert not mark.exists()
