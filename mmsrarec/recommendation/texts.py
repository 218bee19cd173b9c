"""The items' own texts, for prompts that show them (recommend.prompt=description): cleaned, and cut so that a prompt
with the longest of them still fits the model."""

from mmsrarec.config import Config
from mmsrarec.engines.template import Template
from mmsrarec.engines.untrusted import clean_text
from mmsrarec.storage import tables

SHARE = 4  # of a prompt's tokens, one over this at most are one item's


def texts(config: Config, template: Template, filters: list | None = None) -> dict[str, str] | None:
    """By item_id, of the items that `filters` select; none for one without text. None where prompts show keywords."""
    if config.recommend.prompt != "description":
        return None
    room, most = config.engine.max_model_len // SHARE, config.summarize_items.max_text_chars
    found = {}
    for rows in tables.stream(config.lake.root, "catalog", ["item_id", "text"], filters=filters):
        for item_id, text in zip(rows["item_id"].to_pylist(), rows["text"].to_pylist(), strict=True):
            if cleaned := fitted(clean_text(text, template.special_tokens, most), template, room):
                found[item_id] = cleaned
    return found


def fitted(text: str, template: Template, room: int) -> str:
    """The text, cut until it has at most `room` tokens."""
    return template.fitted(text, room)[0]
