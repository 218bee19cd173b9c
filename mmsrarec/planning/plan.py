"""What the stages that ask an engine would ask and cost, made by the functions that make their requests. Asks none.

What is known decides how: summarize_items is counted exactly once build_cf has run; recommend exactly where retrieve
was the last to run, else for the users who will be carried over exactly and for a sample of the others, whom the
present SASRec and index are asked about; evaluate exactly with SASRec and index. Before there are any, candidates are
drawn by chance. An item that is still to be summarized gets stand-in keywords, so whatever shows it counts as not yet
answered. A pilot (pilot.py) tells before the first night how long answers are.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mmsrarec.collaborative.carry import Carry
from mmsrarec.collaborative.retrieve import SPAN_USERS, Retriever
from mmsrarec.config import Config
from mmsrarec.engines import adapters, delivery, price, staging
from mmsrarec.engines.answers import Answers
from mmsrarec.engines.price import Past, Planned
from mmsrarec.engines.template import Template
from mmsrarec.engines.types import Group
from mmsrarec.engines.workload import Workload, measure
from mmsrarec.errors import InputError, UserError
from mmsrarec.evaluation import cascade, lakes, protocol
from mmsrarec.evaluation.evaluate import last_figures, made_from
from mmsrarec.keywords.summarize import groups_of, rows_of_titles
from mmsrarec.planning import expected, pilot
from mmsrarec.planning.pilot import Pilot
from mmsrarec.recommendation.recommend import knowns
from mmsrarec.recommendation.scoring import Scorer, pictures
from mmsrarec.recommendation.task import Known, keywords_by_item
from mmsrarec.recommendation.texts import texts
from mmsrarec.storage import rules, runs, tables
from mmsrarec.storage.scratch import Scratch
from mmsrarec.training.sasrec_trainer import due

BEFORE_RETRIEVE = ("build_cf", "train_sasrec", "index_cf")


def plan(config: Config, stages: Iterable[str] = tuple(price.UNITS), piloted: Pilot = pilot.NONE) -> list[Planned]:
    """In their order, those of `stages` that ask an engine. Raises InputError where build_cf has not run."""
    for name in ("catalog", "histories"):
        if not tables.exists(config.lake.root, name):
            raise InputError(f"{config.table(name)}: no such table; run build_cf first")
    planner = _Planner(config, piloted)
    makers: dict[str, Callable[[], Planned]] = {
        "summarize_items": planner.summarize_items,
        "recommend": planner.recommend,
        "evaluate": planner.evaluate,
    }
    wanted = set(stages)
    return [make() for name, make in makers.items() if name in wanted]


def require(config: Config, run_id: str, stages: list[str]) -> None:
    """Before the first of `stages`: raise PlanError where `budget` does not allow it and what is left of the run."""
    idle = stages[0] == "tune_summarizer" and not adapters.wanted(config, "summarizer")
    if config.budget.limited and stages[0] in price.UNITS and not idle:
        delivery.recover(config)  # what was answered before the run was stopped is not ahead
        price.require(config, run_id, plan(config, stages))


class _Unwritten(runs.Stage):
    """A stage that is only planned: what it rejects is counted, not written."""

    def flush(self) -> None:
        self._pending = []


@dataclass
class _Planner:
    config: Config
    piloted: Pilot
    _changed: dict[str, int] = field(default_factory=dict)  # items to be summarized, and questions left about each

    @cached_property
    def _template(self) -> Template:
        return Template.of(self.config)

    @cached_property
    def _texts(self) -> dict[str, str] | None:
        return texts(self.config, self._template)

    @cached_property
    def _past(self) -> Past:
        return Past(self.config, self._template, self.piloted.ledger)

    @cached_property
    def _keywords(self) -> pa.Table:
        if self._unasked:
            rows = rows_of_titles(self.config, _Unwritten(self.config, "summarize_items", "plan"))
            return tables.from_rows("item_keywords", rows).select(["item_id", "keywords"])
        piloted = self.piloted.keywords
        return expected.keywords(self.config, self._template, self._changed, self._past, piloted)

    @property
    def _unasked(self) -> bool:
        """Whether items get their keywords without a model."""
        return self.config.summarize_items.summarizer == "none"

    def summarize_items(self) -> Planned:
        if self._unasked:
            total = tables.count(self.config.lake.root, "catalog")
            return self._past.priced("summarize_items", Workload(), total, "no model is asked: the words of the titles")
        stage, adapter = (
            _Unwritten(self.config, "summarize_items", "plan"),
            adapters.expected(self.config, "summarizer"),
        )
        work, self._changed = self._work(groups_of(self.config, stage, self._template, [], adapter))
        return self._past.priced(stage.name, work, stage.rows_in, "every item of the catalog")

    def recommend(self) -> Planned:
        serving = rules.load(self.config)
        named = knowns(self.config, keywords_by_item(self._keywords), serving)
        if self._retrieved():
            return self._past.priced("recommend", *self._pairs("recommend", named), "every pair that retrieve named")
        users = serving.served(tables.read(self.config.lake.root, "histories", ["user_id"]))["user_id"]
        if not len(users):
            raise InputError(f"{self.config.table('histories')}: no users who get a list; run build_cf first")
        with _retriever(self.config) as (retriever, source):
            new = self._not_carried(retriever, users)
            work, pairs = Workload(), 0
            if carried := len(users) - len(new):
                work, pairs = self._pairs("recommend", named, frozenset(new.to_pylist()))
                source += f"; {carried:,} users are carried over"
            if len(new):
                sample = self._sample(new)
                similar = retriever.similar_users(sample)
                candidates = retriever.candidates(sample, similar)
                evidence = retriever.evidence(sample, candidates, similar)
                known = Known(sample, similar, candidates, evidence, keywords_by_item(self._keywords))
                more, named_now = self._pairs("recommend", [known])
                factor = len(new) / sample.num_rows
                work, pairs = work + more.times(factor), pairs + round(named_now * factor)
                source = f"{sample.num_rows:,} of {len(new):,} users, {source}"
        return self._past.priced("recommend", work, pairs, source)

    def evaluate(self) -> Planned:
        if not lakes.asks_mllm(self.config):
            return self._past.priced("evaluate", Workload(), basis="no method asks the model")
        if lakes.two_lakes(self.config):
            return self._past.priced("evaluate", Workload(), basis="in lakes of its own")
        test = protocol.load(self.config)
        if not test.users.num_rows:
            return self._past.priced("evaluate", Workload(), basis="no test users")
        with _retriever(self.config) as (retriever, source):
            if not self._trains(retriever) and (last := last_figures(self.config, made_from(self.config))):
                return self._past.priced("evaluate", Workload(), basis=f"the figures of run {last[0]['run_id']} hold")
            _, similar, pairs, evidence = cascade.questions(retriever, test)
        known = Known(test.users, similar, pairs, evidence, keywords_by_item(self._keywords))
        return self._past.priced("evaluate", *self._pairs("evaluate", [known]), f"every test user, {source}")

    def _pairs(self, name: str, asked: Iterable[Known], without: Collection[str] = ()) -> tuple[Workload, int]:
        """What is to be done for those pairs, and how many they are, done or not; `without` these users."""
        stage, adapter = _Unwritten(self.config, name, "plan"), adapters.expected(self.config, "recommender")
        scorer = Scorer(self.config, stage, self._template, pictures(self.config), adapter, self._texts)
        count = 0

        def groups() -> Iterator[Group]:
            nonlocal count
            for group in (group for known in asked for group in scorer.groups(known) if group.name not in without):
                count += sum(request.judges for request in group.requests)
                yield group

        work, _ = self._work(groups())
        return work, count

    def _trains(self, retriever: Retriever | expected.Drawn) -> bool:
        """Whether there is no SASRec to go by, or tonight's will be another."""
        return isinstance(retriever, expected.Drawn) or due(self.config)

    def _not_carried(self, retriever: Retriever | expected.Drawn, users: pa.ChunkedArray) -> pa.ChunkedArray:
        """Those of the users whom retrieve will ask about anew."""
        if isinstance(retriever, expected.Drawn) or self._trains(retriever):
            return users
        carry = Carry(self.config, retriever.servable, retriever.identity, retriever.rules)
        spans = tables.spans("user_id", users, SPAN_USERS)
        return pa.concat_tables(carry.part(span, None).users.select(["user_id"]) for span in spans)["user_id"]

    def _work(self, groups: Iterable[Group]) -> tuple[Workload, dict[str, int]]:
        """What `answers` does not know of these groups, and how many requests that is by name, ascending."""
        with Scratch("plan") as scratch:
            answers = Answers()
            asked = scratch.path / "asked.parquet"
            kinds = staging.stage(self.config, groups, answers, asked)
            answers.recall(self.config.lake.root, kinds, learned=self.config.lake.learned)
            files, _ = staging.stage_new(self.config, answers, asked, scratch.path)
            left = dict(row for file in files for row in _counts(file))
            work = measure(self.config, self._template, files, self._past.answer_tokens) if files else Workload()
            return work, dict(sorted(left.items()))

    def _retrieved(self) -> bool:
        """Whether the candidates are those of the present histories and SASRec."""
        if not all(tables.count(self.config.lake.root, name) for name in ("candidates", "evidence")):
            return False
        done: dict[str, datetime] = {}
        for row in tables.read(self.config.lake.root, "runs", ["stage", "status", "finished_at"]).to_pylist():
            if row["status"] == "completed":
                done[row["stage"]] = max(row["finished_at"], done.get(row["stage"], row["finished_at"]))
        return "retrieve" in done and all(done["retrieve"] >= done[name] for name in BEFORE_RETRIEVE if name in done)

    def _sample(self, users: pa.ChunkedArray) -> pa.Table:
        """plan.sample of the users, or all, with their histories."""
        names = users.combine_chunks().sort()
        size = min(len(names), self.config.plan.sample)
        chosen = np.random.default_rng(self.config.run.seed).choice(len(names), size, replace=False)
        wanted = [("user_id", "in", names.take(pa.array(chosen)).to_pylist())]
        return tables.read(self.config.lake.root, "histories", ["user_id", "item_ids"], wanted).sort_by("user_id")


def _counts(file: str) -> Iterator[tuple[str, int]]:
    """Of a staged file: each group's name and how many requests it has."""
    rows = pq.read_table(file, columns=["name", "keys"])
    return zip(rows["name"].to_pylist(), pc.list_value_length(rows["keys"]).to_pylist(), strict=True)


@contextmanager
def _retriever(config: Config) -> Iterator[tuple[Retriever | expected.Drawn, str]]:
    """The Retriever of the present SASRec and index, or what stands in for it; and in words which it is."""
    try:
        retriever = Retriever(config)
        assert retriever.identity  # raises where a fusion is wanted and there is none yet
        retriever.__enter__()
    except UserError:  # not made yet, or another process holds the index
        yield expected.Drawn(config), "candidates drawn by chance (no SASRec and index to ask)"
        return
    try:
        yield retriever, "candidates by the present SASRec and index"
    finally:
        retriever.__exit__(None, None, None)
