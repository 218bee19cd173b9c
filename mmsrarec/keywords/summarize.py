"""Stage summarize_items: catalog in, item_keywords out. Stage 1 of the method with the model that `model:` names.

Per item at most two requests, one for its picture and one for its text. An item ends in item_keywords, or in rejects
where it has neither picture nor text or the engine refused all it was asked; never in both. An item whose answers hold
no valid keyword keeps a row with empty lists, so that it can still be recommended. What was answered once is not asked
again (engines/batch.py), and where no row changes nothing is committed. With summarizer=none nobody is asked: an item's
keywords are the words of its title (`rows_of_titles`).
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from mmsrarec.config import Config
from mmsrarec.engines import adapters, batch
from mmsrarec.engines.answers import Answers
from mmsrarec.engines.template import Template
from mmsrarec.engines.types import Answer, Group, Request
from mmsrarec.errors import InputError
from mmsrarec.keywords import prompt
from mmsrarec.storage import runs, tables
from mmsrarec.storage.objects import Pictures

READ_ROWS = 1024


@dataclass(frozen=True)
class Plan:
    """What was asked about an item: keys of its answers (None: not asked) and why there is no picture."""

    item_id: str
    image_key: str | None
    text_key: str | None
    image_note: str | None

    @property
    def content_hash(self) -> str:
        return hashlib.sha256(json.dumps([self.image_key, self.text_key]).encode()).hexdigest()[:32]


def summarize_items(config: Config, run_id: str) -> None:
    """Write item_keywords, one commit. Raises BudgetError before the engine starts if too many items are empty."""
    with runs.stage(config, "summarize_items", run_id, ("catalog",)) as stage:
        if not tables.exists(config.lake.root, "catalog"):
            raise InputError(f"{config.table('catalog')}: no such table; run build_cf first")
        if config.summarize_items.summarizer == "none":
            stage.versions = {"model": "none", "prompt": prompt.TITLE_VERSION}
            rows = rows_of_titles(config, stage)
            stage.check_budget()
            _commit(config, stage, rows)
            return
        template, adapter = Template.of(config), adapters.serving(config, "summarizer").name
        stage.versions = {"model": template.identity, "adapter": adapter, "prompt": prompt.PROMPT_VERSION}
        plans: list[Plan] = []
        answers = batch.answer(config, stage, groups_of(config, stage, template, plans, adapter))
        rows = rows_of(config, stage, sorted(plans, key=lambda plan: plan.item_id), answers)
        stage.check_budget()
        _commit(config, stage, rows)


def rows_of_titles(config: Config, stage: runs.Stage) -> list[dict]:
    """Rows of item_keywords where no model is asked; an item without title, text and picture goes to the rejects."""
    rows, limit = [], config.summarize_items.max_keywords
    columns = ["item_id", "title", "text", "image"]
    for item in tables.read(config.lake.root, "catalog", columns).sort_by("item_id").to_pylist():
        stage.rows_in += 1
        found = prompt.title_keywords(item["title"], item["text"], limit)
        if not (found or item["title"] or item["text"] or item["image"]):
            stage.reject(item["item_id"], "nothing_to_summarize", "no title, no text and no picture", item)
            continue
        made_from = json.dumps([prompt.TITLE_VERSION, found])
        row = {"item_id": item["item_id"], "content_hash": hashlib.sha256(made_from.encode()).hexdigest()[:32]}
        row |= {"image_keywords": [], "text_keywords": found, "keywords": found, "run_id": stage.run_id}
        row |= {
            "image_ok": False,
            "image_note": "switched_off",
            "model": "none",
            "prompt_version": prompt.TITLE_VERSION,
        }
        rows.append(row)
    stage.notes["without_keywords"] = sum(not row["keywords"] for row in rows)
    return rows


def requests(
    config: Config,
    template: Template,
    text: str | None,
    image: str | None,
    image_hash: str | None,
    adapter: str | None = None,
) -> tuple[Request | None, Request | None]:
    """The request for the picture (None without `image_hash`) and the one for the text (None where none is left)."""
    options = config.summarize_items
    ask_image = ask_text = None
    if options.use_images and image_hash:
        rendered = template.render(prompt.image_messages())
        ask_image = Request(rendered, "text", options.max_tokens, image, image_hash, adapter)
    asked, rendered = text_asked(config, template, text)
    if asked:
        ask_text = Request(rendered, "text", options.max_tokens, adapter=adapter)
    return ask_image, ask_text


def text_asked(config: Config, template: Template, text: str | None) -> tuple[str, str]:
    """An item's text as the model is asked about it, and that prompt; empty where there is nothing to ask about."""
    options = config.summarize_items
    cleaned = prompt.clean_text(text, template.special_tokens, options.max_text_chars) if options.use_text else ""
    room = config.engine.max_model_len - options.max_tokens
    if not cleaned:
        return "", ""
    return template.fitted(cleaned, room, lambda text: template.render(prompt.text_messages(text)))


def groups_of(
    config: Config, stage: runs.Stage, template: Template, plans: list[Plan], adapter: str | None = None
) -> Iterator[Group]:
    """Read and hash the catalog: a group and a plan per item that can be asked about, rejects for the others."""
    pictures = Pictures(config) if config.summarize_items.use_images else None
    total = tables.count(config.lake.root, "catalog")
    with stage.progress(total, "items read") as progress:
        for read in tables.stream(config.lake.root, "catalog", ["item_id", "text", "image"], READ_ROWS):
            rows = read.to_pylist()
            for row, (image_hash, why) in zip(rows, _hashes(pictures, rows), strict=True):
                stage.rows_in += 1
                image, text = requests(config, template, row["text"], row["image"], image_hash, adapter)
                if image or text:
                    keys = [request.key(template.identity) if request else None for request in (image, text)]
                    plans.append(Plan(row["item_id"], keys[0], keys[1], why))
                    yield Group(row["item_id"], tuple(request for request in (image, text) if request))
                else:
                    message = f"no text to read, and no picture to show ({why})"
                    stage.reject(row["item_id"], "nothing_to_summarize", message, row)
            progress.advance(len(rows))
    stage.check_budget()


def _hashes(pictures: Pictures | None, rows: list[dict]) -> Iterator[tuple[str | None, str | None]]:
    if pictures is None:
        return iter([(None, "switched_off")] * len(rows))
    return pictures.hashes(row["image"] for row in rows)


def rows_of(config: Config, stage: runs.Stage, plans: list[Plan], answers: Answers) -> list[dict]:
    """Rows of item_keywords in the order of `plans`."""
    rows = []
    counts: Counter[str] = Counter()
    notes: Counter[str] = Counter()
    for plan in plans:
        image, text = answers.get(plan.image_key), answers.get(plan.text_key)
        row = _row(config, plan, image, text)
        if row is None:
            errors = [answer.error for answer in (image, text) if answer and answer.error]
            message = f"the engine answered nothing: {'; '.join(errors) or 'no answer came back'}"
            stage.reject(plan.item_id, "engine_error", message, {"item_id": plan.item_id})
            continue
        row |= {"model": stage.versions["model"], "prompt_version": prompt.PROMPT_VERSION, "run_id": stage.run_id}
        rows.append(row)
        notes[row["image_note"]] += 1
        counts["without_keywords"] += not row["keywords"]
        counts["text_only"] += not row["image_ok"]
        counts["image_only"] += plan.text_key is None
        counts["text_errors"] += plan.text_key is not None and not (text and text.text is not None)
    stage.notes |= counts | {"pictures": {why: count for why, count in notes.items() if why}}
    return rows


def _row(config: Config, plan: Plan, image: Answer | None, text: Answer | None) -> dict | None:
    """None where the engine refused everything; what one modality answered is kept where the other failed."""
    if not any(answer and not answer.error for answer in (image, text)):
        return None
    limit = config.summarize_items.max_keywords
    image_keywords, text_keywords = (prompt.parse_keywords(a.text or "", limit) if a else [] for a in (image, text))
    return {
        "item_id": plan.item_id,
        "content_hash": plan.content_hash,
        "image_keywords": image_keywords,
        "text_keywords": text_keywords,
        "keywords": list(dict.fromkeys(image_keywords + text_keywords)),
        "image_ok": bool(image and not image.error),
        "image_note": "engine_error" if plan.image_key and (not image or image.error) else plan.image_note,
    }


def _commit(config: Config, stage: runs.Stage, rows: list[dict]) -> None:
    """A row that says what it said before keeps the run that wrote it; where all do, nothing is written."""
    before = {row["item_id"]: row for row in tables.read(config.lake.root, "item_keywords").to_pylist()}
    kept = 0
    for number, row in enumerate(rows):
        old = before.get(row["item_id"])
        if old and old | {"run_id": stage.run_id} == row:
            rows[number], kept = old, kept + 1
    stage.rows_out, stage.notes["unchanged"] = len(rows), kept
    if kept < len(rows) or len(before) != len(rows) or not tables.exists(config.lake.root, "item_keywords"):
        tables.replace(config.lake.root, "item_keywords", tables.from_rows("item_keywords", rows))
