"""Whether an adapter of the summarizer is taken: it and the untuned backbone are asked about the same items, by the
engine that will serve it, and compared.

    reward       mean over held-out items; taken only where the paired interval is above 0
    downstream   do the keywords of a validation user's history tell the next item from others? Mean AUC of the
                 cosine of keywords; taken only where the paired interval is not below 0
    alarms       keywords/alarms.py; none may ring
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
from scipy import sparse

from mmsrarec.collaborative.content import Content
from mmsrarec.config import Config
from mmsrarec.engines import batch
from mmsrarec.engines.answers import Answers
from mmsrarec.engines.template import Template
from mmsrarec.engines.types import Group, Request
from mmsrarec.evaluation import metrics
from mmsrarec.keywords import prompt, rewards
from mmsrarec.keywords.alarms import Alarm, Described, alarms
from mmsrarec.keywords.rewards import Measures, Rewards
from mmsrarec.keywords.summarize import requests
from mmsrarec.storage import runs
from mmsrarec.training import distributed, summarizer_data, summarizer_grpo
from mmsrarec.training.distributed import Job
from mmsrarec.training.summarizer_data import Item, Taken

FEWEST = 2  # held-out items, or check users, that an interval needs


@dataclass(frozen=True)
class Compared:
    """Means over `count` items or users of a figure, with and without the adapter, and the difference with its 95%
    interval, paired."""

    tuned: float
    untuned: float
    difference: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Verdict:
    """`downstream` is None where too few validation users have a next item."""

    taken: bool
    why: str
    reward: Compared
    rewards: dict[str, Compared]
    downstream: Compared | None
    alarms: list[Alarm]

    def facts(self) -> dict:
        """For the card and the ledger."""
        return {
            "reward": _rounded(self.reward),
            "rewards": {name: _rounded(each) for name, each in self.rewards.items()},
            "downstream": self.downstream and _rounded(self.downstream),
            "alarms": {alarm.name: {**asdict(alarm)} for alarm in self.alarms},
        }


@dataclass(frozen=True)
class Said:
    """What a model says of items, by item_id."""

    items: dict[str, Described]

    def keywords(self) -> pa.Table:
        told = {item_id: list(dict.fromkeys(item.keywords)) for item_id, item in self.items.items()}
        return pa.table({"item_id": list(told), "keywords": pa.array(told.values(), pa.list_(pa.string()))})


def tried(config: Config, stage: runs.Stage, adapter: str, held_out: Sequence[Item]) -> Verdict:
    """Ask about the held-out items and those of check users with the adapter and without, and judge."""
    template = Template.of(config)
    users = summarizer_data.taken(config, [item.item_id for item in held_out])
    wanted = {item_id for user in users for item_id in (*user.history, user.target)}
    known = {item.item_id: item for item in held_out}
    others = summarizer_data.items(config, template, sorted(wanted - known.keys()))
    known |= {item.item_id: item for item in others}
    models = (adapter, None)
    answers = batch.answer(config, stage, groups(config, template, list(known.values()), models))
    tuned, untuned = (said(config, template, list(known.values()), answers, model) for model in models)
    paid = judged(config, held_out, tuned), judged(config, held_out, untuned)
    downstream = told(tuned.keywords(), users), told(untuned.keywords(), users)
    signs = alarms(*([each.items[item.item_id] for item in held_out] for each in (tuned, untuned)))
    return verdict(config, paid, downstream, signs)


def groups(config: Config, template: Template, items: Sequence[Item], models: Sequence[str | None]) -> Iterator[Group]:
    """An item's questions to each model, as summarize_items asks them."""
    for item in items:
        for model in models:
            asked = [request for request in _asked(config, template, item, model) if request]
            if asked:
                yield Group(item.item_id, tuple(asked))


def said(config: Config, template: Template, items: Sequence[Item], answers: Answers, model: str | None) -> Said:
    """The keywords of the answers, read as summarize_items reads them; one that the engine refused holds none."""
    most, found = config.summarize_items.max_keywords, {}
    for item in items:
        read: list[list[str] | None] = []
        for request in _asked(config, template, item, model):
            answer = answers.get(request.key(template.identity)) if request else None
            read.append(prompt.parse_keywords((answer and answer.text) or "", most) if request else None)
        found[item.item_id] = Described(item.title, item.text, *read)
    return Said(found)


def judged(config: Config, items: Sequence[Item], said: Said) -> list[list[Rewards]]:
    """Per item the rewards of its answers, on a scale that compares models."""
    asked = [(item, answer) for item in items for answer in said.items[item.item_id].answers]
    job = Job(config, config.tune_summarizer, "", {})
    texts, answers = [item.asked for item, _ in asked], [answer for _, answer in asked]
    found = distributed.once(job, measured, texts, answers)
    settings, most = config.tune_summarizer, config.summarize_items.max_keywords
    by_item: dict[str, list[Rewards]] = {item.item_id: [] for item in items}
    for (item, _), measures in zip(asked, found, strict=True):
        scale = rewards.comparable(settings)
        by_item[item.item_id].append(rewards.rewards(measures, settings, most, scale))
    return list(by_item.values())


def measured(job: Job, texts: list[str], answers: list[list[str]]) -> list[Measures]:
    """What a worker finds out about answers."""
    settings = job.config.tune_summarizer
    scale = rewards.comparable(settings)
    return summarizer_grpo.judge(job.config, settings, texts, scale).measures(texts, answers)


def told(keywords: pa.Table, users: Sequence[Taken]) -> np.ndarray:
    """AUC per user of the target among the user's negatives, by the cosine of keywords with those of the history; the
    mean of it where a user is asked several questions, in the order of the user_ids."""
    places = {item_id: place for place, item_id in enumerate(keywords["item_id"].to_pylist())}
    content = Content(keywords["item_id"].combine_chunks(), keywords)
    found = np.zeros(len(users))
    for number, user in enumerate(users):
        columns = [places[item_id] for item_id in user.history if item_id in places]
        history = sparse.csr_array((np.ones(len(columns)), ([0] * len(columns), columns)), shape=(1, len(places)))
        near = content.similarities(history).toarray()[0]
        target = near[places[user.target]] if user.target in places else 0.0
        others = near[[places[item_id] for item_id in user.negatives]]
        found[number] = metrics.auc(metrics.ranks(np.array([target]), others[None, :]))[0]
    owner = np.unique([user.user_id for user in users], return_inverse=True)[1]
    return np.bincount(owner, found) / np.bincount(owner)


def verdict(
    config: Config,
    paid: tuple[Sequence[Sequence[Rewards]], Sequence[Sequence[Rewards]]],
    downstream: tuple[np.ndarray, np.ndarray],
    signs: list[Alarm],
) -> Verdict:
    """From rewards of held-out items' answers and the AUC of check users, each tuned and untuned, and the alarms."""
    parts = {
        name: compared(config, *(_means(each, name) for each in paid))
        for name in ("total", "information", "reconstruction", "length")
    }
    reward = parts.pop("total")
    after = compared(config, *downstream) if len(downstream[0]) >= FEWEST else None
    against = [f"{alarm.says}: {alarm.value:.2f}, untuned {alarm.untuned:.2f}" for alarm in signs if alarm.rings]
    if not reward.low > 0:
        against.append(f"held-out items: reward {_said(reward)}")
    if after and after.high < 0:
        against.append(f"the next items of validation users are told worse: AUC {_said(after)}")
    if against:
        return Verdict(False, f"the untuned backbone serves: {'; '.join(against)}", reward, parts, after, signs)
    beside = f", AUC of next items {_said(after)}" if after else ", no validation users to check with"
    return Verdict(True, f"the adapter serves: reward {_said(reward)}{beside}", reward, parts, after, signs)


def compared(config: Config, tuned: np.ndarray, untuned: np.ndarray) -> Compared:
    """Of the same items or users, each a value."""
    owner = np.arange(len(tuned))
    weights = metrics.resamples(len(owner), config.evaluation.bootstrap, config.run.seed)
    difference = metrics.estimate(metrics.mean(tuned - untuned, owner), weights)
    return Compared(float(tuned.mean()), float(untuned.mean()), *difference, len(owner))


def _means(items: Sequence[Sequence[Rewards]], name: str) -> np.ndarray:
    return np.array([np.mean([getattr(one, name) for one in answers]) for answers in items])


def _asked(config: Config, template: Template, item: Item, model: str | None) -> tuple[Request | None, Request | None]:
    return requests(config, template, item.text, item.image, item.image_hash, model)


def _said(found: Compared) -> str:
    return f"{found.tuned:.4f} against {found.untuned:.4f}, {found.difference:+.4f} [{found.low:.4f}, {found.high:.4f}]"


def _rounded(found: Compared) -> dict:
    return {name: round(value, 6) for name, value in asdict(found).items()}
