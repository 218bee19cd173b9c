"""The stage `evaluate`: every method on the same questions -> evaluation and evaluation_candidates, and a report.

Values are shares in [0, 1] with the 95% bootstrap interval over users. k is 0 for the metrics without a cut-off:
auc (per question, then averaged) and auc_pooled (all pairs together), both for the sampled protocol only, because
the cascade ranks no item behind its candidates. seconds is the method's own time in this stage, its tuning included;
what several need (the evidence) counts for the first of them, answers that the engine gave before cost nothing, and a
network's training is a stage of its own. Of a night the figures
are about models and settings: while those stay, and SASRec is kept from night to night (sasrec.refresh_days), the last
figures are shown again and no engine is asked.
"""

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property

from mmsrarec import log
from mmsrarec.collaborative import checkpoint, meaning
from mmsrarec.collaborative.retrieve import Retriever
from mmsrarec.config import Config
from mmsrarec.engines import adapters
from mmsrarec.engines.template import Template
from mmsrarec.evaluation import baselines, cascade, fused, item_item, lakes, outcome, protocol, report, tuning
from mmsrarec.evaluation.figures import figures
from mmsrarec.evaluation.outcome import Outcome, Scorer
from mmsrarec.evaluation.protocol import TestSet
from mmsrarec.keywords import prompt as keywords_prompt
from mmsrarec.recommendation import prompt
from mmsrarec.storage import runs, tables

READS = (
    "histories",
    "catalog",
    "item_cooccurrence",
    "item_transitions",
    "sasrec",
    "training_users",
    "item_keywords",
)


def evaluate(config: Config, run_id: str) -> None:
    """Publish and print the figures of this run. InputError where build_cf has not run."""
    asked = lakes.place(config, "test")
    with runs.stage(config, "evaluate", run_id, () if lakes.two_lakes(config) else READS) as stage:
        test = protocol.load(asked)
        stage.notes |= {"users": test.asked_users, "questions": len(test.users), "left_out": test.left_out}
        stage.notes["catalog"] = len(test.items)
        of_night = config.evaluation.protocol is None
        stage.versions["evaluated"] = made_from(config) if of_night else run_id
        rows = last_figures(config, stage.versions["evaluated"]) if of_night else []
        if rows:
            stage.notes["skipped"] = f"same models and settings as in run {rows[0]['run_id']}"
            log.say(f"evaluate: {stage.notes['skipped']}", "unchanged")
        else:
            rows = _figures(config, stage, test)
        stage.rows_out = len(rows)
    if rows:
        report.show(rows, config.evaluation.baseline)


def _figures(config: Config, stage: runs.Stage, test: TestSet) -> list[dict]:
    """Ask every method, and publish."""
    tables.replace(config.lake.root, "evaluation_candidates", protocol.candidates_table(test))
    if not len(test.users):
        log.say(f"evaluate: nobody to test; left out: {test.left_out or 'no test users'}", "nobody_to_test")
        return []
    outcomes = _outcomes(config, stage, test)
    rows = figures(
        config, stage.run_id, outcomes, test, baselines.interactions(lakes.place(config, "test"), test.items)
    )
    stage.check_budget()
    table = tables.from_rows("evaluation", rows)
    tables.replace(config.lake.root, "evaluation", table, predicate=f"run_id = '{stage.run_id}'")
    return rows


def made_from(config: Config) -> str:
    """Hash of the models and settings that the figures are about."""
    names = "build_cf", "summarize_items", "retrieve", "recommend", "evaluation"
    trained = [checkpoint.describe(checkpoint.folder(each)) or {} for each in config.networks]
    versions = Template.of(config).identity, prompt.version(config.recommend), keywords_prompt.PROMPT_VERSION
    rules = config.rules.model_dump(mode="json", exclude={"exclude_users", "exclude_users_file"})
    hashes = [model.get("model_hash") for model in trained]
    learned = [*config.adapters, *(["recommender"] if config.recommend.blend else [])]
    cards = [adapters.describe(config, kind) for kind in adapters.KINDS if kind in learned]
    tuned = [card and (card.name, card.facts.get("blends")) for card in cards]
    others = config.dataset, config.run.seed, config.index.positions, hashes, rules, tuned
    parts = [getattr(config, name).model_dump(mode="json") for name in names]
    return hashlib.sha256(json.dumps([parts, versions, others]).encode()).hexdigest()[:16]


def last_figures(config: Config, evaluated: str) -> list[dict]:
    """Rows of `evaluation` of the last run with the same models and settings (`made_from`); none where there is no such
    run, or where every night trains and evaluates (sasrec.refresh_days is 0)."""
    if not config.sasrec.refresh_days:
        return []
    completed = [("stage", "=", "evaluate"), ("status", "=", "completed")]
    ledger = tables.read(config.lake.root, "runs", ["run_id", "finished_at", "versions"], completed)
    for row in ledger.sort_by([("finished_at", "descending")]).to_pylist():
        if json.loads(row["versions"]).get("evaluated") == evaluated:
            found = tables.read(config.lake.root, "evaluation", filters=[("run_id", "=", row["run_id"])])
            if found.num_rows:
                return found.to_pylist()
    return []


def _outcomes(config: Config, stage: runs.Stage, test: TestSet) -> list[Outcome]:
    """How every method answered, in the order in which they are named, the model last."""
    named = list(dict.fromkeys(config.evaluation.methods))
    asks = _Methods(config, stage, test)
    found = []
    with stage.progress(len(named), "methods") as progress:
        for method in sorted(named, key=lambda name: name == cascade.METHOD):
            started = time.monotonic()
            if answered := asks.answer(method):
                found.append(replace(answered, seconds=time.monotonic() - started))
            progress.advance(note=method)
    return found


class _Methods:
    """The methods of `evaluation.methods` on the lakes of the protocol; what several need is made once."""

    def __init__(self, config: Config, stage: runs.Stage, test: TestSet):
        self._config, self._stage, self._test = config, stage, test
        self._fit, self._asked = lakes.place(config, "fit"), lakes.place(config, "test")
        self._listed = max(config.evaluation.ks)

    def answer(self, method: str) -> Outcome | None:
        """None where this method has no answer here, which is said."""
        config, test = self._asked, self._test
        if why := self._unfit(method):
            self._stage.notes.setdefault("methods_left_out", {})[method] = why
            log.say(f"evaluate: {method} left out: {why}", "method_left_out")
            return None
        if method == cascade.METHOD:
            return cascade.run(config, self._stage, self._retriever, test)
        if method in lakes.FUSED:
            return fused.outcome(method, self._fused[method], self._evidence, test, self._listed)
        if method in checkpoint.NETWORKS:
            trained = checkpoint.load(checkpoint.folder(lakes.with_network(config, method)))
            scorer = baselines.network(trained, test.items)
        elif method == "item_cooccurrence":
            scorer = baselines.cooccurrence(config, test.items)
        else:
            scorer = self._tuned(method)
        return outcome.run(method, scorer, test, self._listed)

    @cached_property
    def _validation(self) -> TestSet:
        return protocol.load(self._fit, "validation", self._config.evaluation.tuning_users)

    @cached_property
    def _tuned_on(self) -> item_item.Training:
        return item_item.training(self._fit, self._validation.items)

    @cached_property
    def _learned_from(self) -> item_item.Training:
        return item_item.training(self._asked, self._test.items)

    def _tuned(self, method: str) -> Scorer:
        baseline = tuning.BASELINES[method]
        parameters = tuning.tuned(baseline, self._tuned_on, self._validation)
        self._stage.notes.setdefault("tuned", {})[method] = parameters
        return tuning.scorer(baseline, self._learned_from, parameters)

    @cached_property
    def _fused(self) -> Mapping[str, fused.Model]:
        """Beside the cascade the fusion is the one that names and blends its candidates, not one like it."""
        settings, methods = self._config.retrieve.fusion, self._config.evaluation.methods
        serving = self._retriever.preranker.fusion if settings.enabled and cascade.METHOD in methods else None
        if serving and "boosting" not in methods:
            self._stage.notes["fusion"] = serving.facts
            return {"fusion": serving}
        validation = protocol.load(self._fit, "validation", settings.max_users)
        retriever = Retriever(self._fit)
        lessons = fused.lessons(retriever, validation)
        pieces, seed = retriever.preranker.pieces, self._config.run.seed
        models, facts = fused.learned(pieces, *lessons, seed, settings.min_users)
        if serving:
            models, facts = {**models, "fusion": serving}, facts | serving.facts
        self._stage.notes["fusion"] = facts
        return models

    @cached_property
    def _retriever(self) -> Retriever:
        """Of the test questions, for all methods: what it works out of the whole lake (EASE) takes minutes."""
        fit, asked = self._fit.lake.root, self._asked.lake.root
        if fit != asked and tables.exists(fit, meaning.TABLE):  # the texts are the same in both
            tables.replace(asked, meaning.TABLE, tables.read(fit, meaning.TABLE))
        return Retriever(self._asked)

    @cached_property
    def _evidence(self) -> fused.Evidence:
        return fused.evidence(self._retriever, self._test)

    def _unfit(self, method: str) -> str | None:
        """Why a method cannot be asked here."""
        if method in checkpoint.NETWORKS:
            place = checkpoint.folder(lakes.with_network(self._asked, method))
            return None if checkpoint.describe(place) else f"{place}: no checkpoint; sasrec.network trains another"
        if method in lakes.FUSED and method not in self._fused:
            return "too few validation users to learn from (retrieve.fusion.min_users)"
        items, most = len(self._test.items), self._config.retrieve.fusion.ease_items
        if method == "ease" and items > most:
            return f"{items:,} items are more than retrieve.fusion.ease_items={most:,}"
        return None
