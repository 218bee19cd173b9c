"""Where an item stands for one user, by the functions that make the lists: among what each source of candidates would
name, and among the candidates that were scored. Loads SASRec or the tokenizer; asks no engine and opens no index.
"""

from dataclasses import dataclass

import pyarrow.compute as pc

from mmsrarec.collaborative.retrieve import Retriever
from mmsrarec.config import Config
from mmsrarec.engines import adapters
from mmsrarec.engines.template import Template
from mmsrarec.engines.types import Answer
from mmsrarec.recommendation import blend
from mmsrarec.recommendation.rank import Scored, top
from mmsrarec.recommendation.recommend import known_of
from mmsrarec.recommendation.scoring import asked, pictures
from mmsrarec.recommendation.task import keywords_by_item, tasks
from mmsrarec.recommendation.texts import texts
from mmsrarec.storage import rules, tables


@dataclass(frozen=True)
class Pool:
    """An item among a user's candidates, had retrieve.candidates no end: its place, the source that would name it, and
    its place in the order of each source that knows anything for it."""

    place: int
    source: str
    places: dict[str, int]


@dataclass(frozen=True)
class Ranking:
    """A user's candidates, best first; listed is what the list takes of them. `unanswered` are those whose prompt, as
    it would be today, has no answer in `answers`: what the engine said where it refused it, else None."""

    ordered: list[Scored]
    listed: list[Scored]
    unanswered: dict[str, str | None]

    def place(self, item_id: str) -> int:
        return next(place for place, scored in enumerate(self.ordered, 1) if scored.item_id == item_id)


def pool(config: Config, user_id: str, item_id: str) -> Pool:
    """With all that is known today; of an item that may be listed to this user."""
    root, of_user = config.lake.root, [("user_id", "=", user_id)]
    endless = config.retrieve.model_copy(update={"candidates": tables.count(root, "catalog")})
    retriever = Retriever(config.model_copy(update={"retrieve": endless}))
    users = tables.read(root, "histories", ["user_id", "item_ids"], of_user)
    similar = tables.read(root, "similar_users", filters=of_user)  # what the index said, so it stays closed
    candidates = retriever.candidates(users, similar)
    row = pc.index(candidates["item_id"], item_id).as_py()
    if row < 0:
        raise ValueError(f"{item_id} may not be listed to {user_id}")
    ((_, orders),) = retriever.orders(users, similar)
    places = {source: pc.index(items, item_id).as_py() + 1 for source, items in orders.items()}
    known = {source: place for source, place in places.items() if place}
    return Pool(candidates["rank"][row].as_py(), candidates["source"][row].as_py(), known)


def ranking(config: Config, user_id: str) -> Ranking:
    """From the candidates of the table and the answers that their prompts have."""
    root, of_user = config.lake.root, [("user_id", "=", user_id)]
    serving = rules.load(config)
    keywords = keywords_by_item(tables.read(root, "item_keywords", ["item_id", "keywords"]))
    known = known_of(config, keywords, serving, of_user)
    named = known.pairs["item_id"].to_pylist()
    of_items = [("item_id", "in", named)]
    of_shown = [
        ("item_id", "in", [*named, *known.users["item_ids"][0].as_py(), *known.similar["next_item_id"].to_pylist()])
    ]
    catalog = tables.read(root, "catalog", rules.COLUMNS, of_items)
    category = {row["item_id"]: row["category"] for row in catalog.filter(serving.servable(catalog)).to_pylist()}
    template = Template.of(config)
    (task,) = tasks(config, known, texts(config, template, of_shown))
    adapter = adapters.expected(config, "recommender")
    made = asked(config, task, template, pictures(config, of_items), adapter)
    answers = _answers(config, [one.request.key(template.identity) for one in made])
    found: dict[str, float | None] = {}
    for one in made:
        found |= one.p_yes(answers.get(one.request.key(template.identity)))
    blending = blend.serving(config)

    def scored_of(item_id: str, row: dict) -> Scored:
        both = blend.blended(blending, found[item_id], row["prior"])
        return Scored(item_id, found[item_id], row["cf_score"], row["source"], [], category.get(item_id), both)

    scored = [scored_of(item_id, row) for item_id, row in zip(named, known.pairs.to_pylist(), strict=True)]
    seen = set(known.users["item_ids"][0].as_py())
    return Ranking(
        top(scored, seen, category, len(scored)),
        top(scored, seen, category, config.recommend.top_k, serving.limit),
        _refusals(config, user_id, [item_id for item_id, answer in found.items() if answer is None]),
    )


def _answers(config: Config, keys: list[str]) -> dict[str, Answer]:
    filters = [("kind", "in", ["yes_no", "choice"]), ("key", "in", keys)]
    rows = tables.read(config.lake.root, "answers", ["key", "kind", "text", "p_yes"], filters)
    return {row["key"]: Answer(**row) for row in rows.to_pylist()}


def _refusals(config: Config, user_id: str, item_ids: list[str]) -> dict[str, str | None]:
    """Per item what the engine said in the latest run that rejected the pair; None where none did."""
    keys = {f"{user_id}/{item_id}": item_id for item_id in item_ids}
    filters = [("stage", "=", "recommend"), ("key", "in", list(keys))]
    rows = tables.read(config.lake.root, "rejects", ["run_id", "key", "message"], filters).sort_by("run_id")
    said = {keys[row["key"]]: row["message"] for row in rows.to_pylist()}
    return {item_id: said.get(item_id) for item_id in item_ids}
