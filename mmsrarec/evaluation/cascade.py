"""MMSRARec under the protocols: the product's own path, retrieval and then the MLLM, from histories without the target.

Sampled: the MLLM scores the target and the negatives. Full: retrieval names the candidates, the MLLM orders them as
`recommend` does, and a target that retrieval did not name is a miss. All pairs of both go to the engine in one call,
and its answers stay in `answers`, so a second evaluation asks for nothing. What retrieval knows of a user is filed
under the user_id, so a user's second question is asked as if by another user (`as_users`).
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import pyarrow as pa

from mmsrarec.collaborative.questions import turns
from mmsrarec.collaborative.retrieve import Retriever
from mmsrarec.config import Config
from mmsrarec.evaluation.metrics import MISS, Ranks
from mmsrarec.evaluation.outcome import Outcome
from mmsrarec.evaluation.protocol import TestSet
from mmsrarec.recommendation import blend, rank
from mmsrarec.recommendation.scoring import score
from mmsrarec.storage import tables
from mmsrarec.storage.runs import Stage

METHOD = "mmsrarec"
RETRIEVED = ("similar", "pairs", "evidence")
SECOND = "\x1f"  # between a user_id and the number of a question; no id of a shop has it
Candidates = dict[str, dict[str, float | None]]  # user_id -> item_id -> cf_score
Scores = dict[tuple[str, str], float | None]  # (user_id, item_id) -> p_yes, or its blend


def run(config: Config, stage: Stage, retriever: Retriever, test: TestSet) -> Outcome:
    """Ask MMSRARec. A pair that the engine refused stands last; scoring has put it among the rejects."""
    started = time.monotonic()
    blending = blend.serving(config)
    with retriever:
        asked = [_asked(retriever, part, blending is not None) for part in as_users(test)]
        stage.versions |= {"sasrec": retriever.model_hash, "index_version": retriever.index_version}
    candidates = {user: items for one in asked for user, items in one.candidates.items()}
    test = replace(test, users=test.users.set_column(0, "user_id", pa.array(names(test), pa.string())))
    similar, pairs, evidence = (pa.concat_tables(getattr(one, of) for one in asked) for of in RETRIEVED)
    stage.rows_in += len(pairs)
    keywords = tables.read(config.lake.root, "item_keywords")
    answers = score(config, stage, test.users, similar, pairs, evidence, keywords)
    p_yes = answers["p_yes"].to_pylist()
    if blending:
        priors = np.concatenate([one.priors for one in asked])
        both = zip(p_yes, priors.tolist(), strict=True)
        p_yes = [blend.blended(blending, p, prior) for p, prior in both]
    scores = dict(zip(_keys(answers), p_yes, strict=True))
    ordered = orders(test, candidates, scores)
    ranks = full(test, ordered)
    stage.notes["candidate_recall"] = float(np.mean(ranks.above < MISS))
    lists = np.full((len(ordered), max(config.evaluation.ks)), -1)
    for row, columns in enumerate(ordered):
        lists[row, : len(columns)] = columns[: lists.shape[1]]
    return Outcome(METHOD, time.monotonic() - started, *sampled(test, scores), ranks, lists)


@dataclass(frozen=True)
class Asked:
    """What retrieval says about some questions, filed under their names; priors [pairs] of the fusion, where asked."""

    candidates: Candidates
    similar: pa.Table
    pairs: pa.Table
    evidence: pa.Table
    priors: np.ndarray


def _asked(retriever: Retriever, part: "Part", with_priors: bool) -> Asked:
    candidates, similar, pairs, evidence = questions(retriever, part.test)
    priors = retriever.priors(part.test.users, pairs, similar) if with_priors else np.zeros(0)
    known = {part.names[user]: items for user, items in candidates.items()}
    similar, pairs, evidence = (_renamed(table, part.names) for table in (similar, pairs, evidence))
    return Asked(known, similar, pairs, evidence, priors)


def _renamed(table: pa.Table, names: Mapping[str, str]) -> pa.Table:
    renamed = pa.array([names[user] for user in table["user_id"].to_pylist()], pa.string())
    return table.set_column(table.schema.get_field_index("user_id"), "user_id", renamed)


@dataclass(frozen=True)
class Part:
    """Questions to different users, and by user_id the names of the questions."""

    test: TestSet
    names: Mapping[str, str]


def as_users(test: TestSet) -> Iterator[Part]:
    """Everybody's first question, then everybody's second, and so on."""
    every = names(test)
    for turn in turns(test.users):
        users = test.users.take(turn)
        part = replace(test, users=users, targets=test.targets[turn], negatives=test.negatives[turn])
        of_users = zip(users["user_id"].to_pylist(), (every[row] for row in turn), strict=True)
        yield Part(part, dict(of_users))


def names(test: TestSet) -> list[str]:
    """Of the questions: the user_id, and for a later one of a user its number."""
    users = test.users["user_id"].to_pylist()
    found = list(users)
    for number, turn in enumerate(turns(test.users)):
        for row in turn if number else ():
            found[row] = f"{users[row]}{SECOND}{number + 1}"
    return found


class Retrieving(Protocol):
    """What of a Retriever is asked here, so that a plan may ask what stands in for it."""

    def similar_users(self, users: pa.Table) -> pa.Table: ...

    def candidates(self, users: pa.Table, similar: pa.Table) -> pa.Table: ...

    def evidence(self, users: pa.Table, pairs: pa.Table, similar: pa.Table) -> pa.Table: ...


def questions(retriever: Retrieving, test: TestSet) -> tuple[Candidates, pa.Table, pa.Table, pa.Table]:
    """What the MLLM is asked about: candidates, similar users, the pairs of both protocols and their evidence."""
    similar = retriever.similar_users(test.users)
    candidates = by_user(retriever.candidates(test.users, similar))
    pairs = pairs_of(test, candidates)
    return candidates, similar, pairs, retriever.evidence(test.users, pairs, similar)


def _keys(pairs: pa.Table) -> zip:
    return zip(pairs["user_id"].to_pylist(), pairs["item_id"].to_pylist(), strict=True)


def by_user(candidates: pa.Table) -> Candidates:
    found: Candidates = {}
    for (user, item), cf_score in zip(_keys(candidates), candidates["cf_score"].to_pylist(), strict=True):
        found.setdefault(user, {})[item] = cf_score
    return found


def pairs_of(test: TestSet, candidates: Candidates) -> pa.Table:
    """Every (user, item) that either protocol needs, once, a user's pairs together."""
    users: list[str] = []
    items: list[str] = []
    for row, user in enumerate(test.users["user_id"].to_pylist()):
        asked = dict.fromkeys([*_question(test, row), *candidates.get(user, ())])
        users += [user] * len(asked)
        items += asked
    return pa.table({"user_id": users, "item_id": items})


def _question(test: TestSet, row: int) -> list[str]:
    """Of the sampled protocol: the target, then the negatives."""
    return [test.items[column] for column in (test.targets[row], *test.negatives[row]) if column >= 0]


def sampled(test: TestSet, scores: Scores) -> tuple[np.ndarray, np.ndarray]:
    """p_yes of the targets [users] and of the negatives [users, negatives], -inf where there is no answer."""
    values = np.full((len(test.targets), 1 + test.negatives.shape[1]), np.nan)
    for row, user in enumerate(test.users["user_id"].to_pylist()):
        answers = [scores.get((user, item)) for item in _question(test, row)]
        values[row, : len(answers)] = [-np.inf if answer is None else answer for answer in answers]
    return values[:, 0], values[:, 1:]


def orders(test: TestSet, candidates: Candidates, scores: Scores) -> list[list[int]]:
    """Of each question the columns of its candidates in the order in which `recommend` would list them."""
    found = []
    available = set(test.items)
    for user in test.users.to_pylist():
        named = [
            rank.Scored(item, scores.get((user["user_id"], item)), cf_score, source="", keywords=[])
            for item, cf_score in candidates.get(user["user_id"], {}).items()
        ]
        listed = rank.top(named, user["item_ids"], available, len(named))
        found.append([test.columns[item.item_id] for item in listed])
    return found


def full(test: TestSet, ordered: list[list[int]]) -> Ranks:
    """Places of the targets in those lists; there are no ties."""
    pairs = zip(test.targets.tolist(), ordered, strict=True)
    above = np.array([columns.index(target) if target in columns else MISS for target, columns in pairs])
    return Ranks(above, np.zeros_like(above), np.full_like(above, len(test.items)))
