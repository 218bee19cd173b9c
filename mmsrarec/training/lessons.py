"""What the recommender is taught and checked on: what validation users took next, among sampled other items.

Validation users' held-out items are in no count, no network and no index (build_cf holds them out), so the evidence
about an example never counts what the example asks about.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmsrarec.collaborative import embed, questions
from mmsrarec.collaborative.retrieve import Retriever
from mmsrarec.config import Config
from mmsrarec.engines.template import Template
from mmsrarec.evaluation import cascade
from mmsrarec.recommendation.examples import Question
from mmsrarec.recommendation.task import Known, keywords_by_item, tasks
from mmsrarec.recommendation.texts import texts
from mmsrarec.storage import tables
from mmsrarec.training import validation

PAIRS = {"user_id": pa.string(), "item_id": pa.string()}


@dataclass(frozen=True)
class Users:
    """Users [user_id, item_ids] before a held-out item, and that item; a user may be asked several."""

    users: pa.Table
    targets: pa.Array

    @property
    def target_of(self) -> dict[str, str]:
        """By user_id; of users who are asked once."""
        return dict(zip(self.users["user_id"].to_pylist(), self.targets.to_pylist(), strict=True))


@dataclass(frozen=True)
class Checks:
    """Lists as a night would rank them, of users whose target is among their candidates: what is known of them, the
    candidates, and the targets by user."""

    known: Known
    candidates: pa.Table
    targets: dict[str, str]


def split(config: Config) -> tuple[Users, Users]:
    """Those who teach and those who check, at most tune_recommender's users and check_users."""
    histories = embed.read_histories(config)
    histories = histories.filter(pc.equal(histories["split"], "validation"))
    checks, settings = validation.checking(config, histories), config.tune_recommender

    def drawn(chosen: np.ndarray, most: int) -> Users:
        return Users(*validation.questions(histories.filter(pa.array(chosen)), most, config.run.seed))

    return drawn(~checks, settings.users), drawn(checks, settings.check_users)


def lessons(config: Config, retriever: Retriever, asked: Users) -> Iterator[Question]:
    """Of each held-out item: the target, hard negatives from the user's candidates, random ones from the rest of the
    catalog."""
    rng, keywords = np.random.default_rng(config.run.seed), _keywords(config)
    item_texts = texts(config, Template.of(config))
    for turn in _turns(asked):
        targets = turn.target_of
        known, rates = _known(config, retriever, turn, rng, keywords)
        for task in tasks(config, known, item_texts):
            yield Question(task, targets[task.user_id], rates[task.user_id])


def _turns(asked: Users) -> Iterator[Users]:
    """Everybody's first question, then everybody's second, and so on."""
    for rows in questions.turns(asked.users):
        yield Users(asked.users.take(rows), asked.targets.take(pa.array(rows)))


def _known(
    config: Config, retriever: Retriever, asked: Users, rng: np.random.Generator, keywords: Mapping[str, list[str]]
) -> tuple[Known, dict[str, dict[str, float]]]:
    """What is known of the users and of the items drawn for them, and by user what share of their kind was drawn."""
    similar = retriever.similar_users(asked.users)
    named = cascade.by_user(retriever.candidates(asked.users, similar))
    servable = retriever.servable.to_pylist()
    pairs: dict[str, list[str]] = {name: [] for name in PAIRS}
    rates: dict[str, dict[str, float]] = {}
    for user, target in zip(asked.users.to_pylist(), asked.targets.to_pylist(), strict=True):
        pool = list(named.get(user["user_id"], ()))
        rates[user["user_id"]] = drawn = _drawn(rng, config, target, (pool, servable), set(user["item_ids"]))
        pairs["user_id"] += [user["user_id"]] * len(drawn)
        pairs["item_id"] += list(drawn)
    table = pa.table(pairs, schema=pa.schema(list(PAIRS.items())))
    return Known(asked.users, similar, table, retriever.evidence(asked.users, table, similar), keywords), rates


def _drawn(
    rng: np.random.Generator, config: Config, target: str, items: tuple[list[str], list[str]], seen: set[str]
) -> dict[str, float]:
    """Items of a question, shuffled, with the share of their kind that was drawn; `items` are the user's candidates and
    all that may be listed."""
    pool, servable = items
    settings, inside = config.tune_recommender, set(pool)
    hard = [item for item in pool if item != target]
    chosen = [hard[place] for place in rng.permutation(len(hard))[: settings.hard_negatives].tolist()]
    barred = inside | seen | {target}
    rest = len(servable) - len(inside)
    more: dict[str, None] = {}
    for place in rng.integers(len(servable), size=4 * settings.random_negatives).tolist():
        if servable[place] not in barred and len(more) < settings.random_negatives:
            more[servable[place]] = None
    often = {True: len(chosen) / max(len(hard), 1), False: len(more) / max(rest, 1)}
    known = often[True] or often[False], often[False] or often[True]  # where none of a kind was drawn: as the other
    drawn = [*chosen, *more, target]
    return {item: known[0] if item in inside else known[1] for item in (drawn[n] for n in rng.permutation(len(drawn)))}


def _keywords(config: Config) -> dict[str, list[str]]:
    return keywords_by_item(tables.read(config.lake.root, "item_keywords", ["item_id", "keywords"]))


def checks(config: Config, retriever: Retriever, asked: Users, most: int) -> Iterator[Checks]:
    """`most` lists at most, a user once in each part of them."""
    keywords = _keywords(config)
    for turn in _turns(asked):
        if most > 0:
            yield (found := _checks(retriever, turn, most, keywords))
            most -= len(found.targets)


def _checks(retriever: Retriever, asked: Users, most: int, keywords: Mapping[str, list[str]]) -> Checks:
    similar = retriever.similar_users(asked.users)
    candidates = retriever.candidates(asked.users, similar)
    targets = asked.target_of
    named = cascade.by_user(candidates)
    fit = [user for user, target in targets.items() if target in named.get(user, ())][:most]
    chosen = pa.array(fit, pa.string())
    users, candidates, similar = (
        table.filter(pc.is_in(table["user_id"], chosen)) for table in (asked.users, candidates, similar)
    )
    evidence = retriever.evidence(users, candidates, similar)
    known = Known(users, similar, candidates, evidence, keywords)
    return Checks(known, candidates, {user: targets[user] for user in fit})
