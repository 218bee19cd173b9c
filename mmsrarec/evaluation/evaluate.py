"""The stage `evaluate`: every method on the same test users -> evaluation and evaluation_candidates, and a report.

Values are shares in [0, 1] with the 95% bootstrap interval over users. k is 0 for the metrics without a cut-off:
auc (per user, then averaged) and auc_pooled (all users' pairs together), both for the sampled protocol only, because
the cascade ranks no item behind its candidates. seconds is the method's own time in this run; answers that the engine
gave before cost nothing. The figures are about models and settings: while those stay, and SASRec is kept from night to
night (sasrec.refresh_days), the last figures are shown again and no engine is asked.
"""

import hashlib
import json
from functools import partial

from mmsrarec import log
from mmsrarec.collaborative import sasrec
from mmsrarec.collaborative.retrieve import Retriever
from mmsrarec.config import Config
from mmsrarec.engines.template import Template
from mmsrarec.evaluation import baselines, cascade, metrics, protocol, report
from mmsrarec.evaluation.protocol import Outcome, TestSet
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
AT_K = {"hr": metrics.hit_rate, "ndcg": metrics.ndcg, "mrr": metrics.mrr}


def evaluate(config: Config, run_id: str) -> None:
    """Publish and print the figures of this run. InputError where build_cf has not run."""
    with runs.stage(config, "evaluate", run_id, READS) as stage:
        test = protocol.load(config)
        stage.notes |= {"users": len(test.users), "left_out": test.left_out, "catalog": len(test.items)}
        stage.versions["evaluated"] = made_from(config)
        rows = last_figures(config, stage.versions["evaluated"])
        if rows:
            stage.notes["skipped"] = f"same models and settings as in run {rows[0]['run_id']}"
            log.say(f"evaluate: {stage.notes['skipped']}", "unchanged")
        else:
            rows = _figures(config, stage, test)
        stage.rows_out = len(rows)
    if rows:
        report.show(rows)


def _figures(config: Config, stage: runs.Stage, test: TestSet) -> list[dict]:
    """Ask every method, and publish."""
    tables.replace(config.lake.root, "evaluation_candidates", protocol.candidates_table(test))
    if not len(test.users):
        log.say(f"evaluate: nobody to test; left out: {test.left_out or 'no test users'}", "nobody_to_test")
        return []
    rows = figures(config, stage.run_id, _outcomes(config, stage, test))
    stage.check_budget()
    table = tables.from_rows("evaluation", rows)
    tables.replace(config.lake.root, "evaluation", table, predicate=f"run_id = '{stage.run_id}'")
    return rows


def made_from(config: Config) -> str:
    """Hash of the models and settings that the figures are about."""
    names = "build_cf", "summarize_items", "retrieve", "recommend", "evaluation"
    model = sasrec.describe(sasrec.folder(config)) or {}
    versions = Template.of(config).identity, prompt.PROMPT_VERSION, keywords_prompt.PROMPT_VERSION
    rules = config.rules.model_dump(mode="json", exclude={"exclude_users", "exclude_users_file"})
    others = config.dataset, config.run.seed, config.index.positions, model.get("model_hash"), rules
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
    """How every method answered, the cheap ones first."""
    retriever = Retriever(config)
    scorers = {
        "popularity": baselines.popularity(config, test.items),
        "item_cooccurrence": baselines.cooccurrence(config, test.items),
        "sasrec": baselines.sasrec(retriever, test.items),
    }
    outcomes = [protocol.run(method, scorer, test) for method, scorer in scorers.items()]
    return [*outcomes, cascade.run(config, stage, retriever, test)]


def figures(config: Config, run_id: str, outcomes: list[Outcome]) -> list[dict]:
    """Rows of `evaluation`, all over the same bootstrap resamples of the users."""
    users = len(outcomes[0].target)
    weights = metrics.resamples(users, config.evaluation.bootstrap, config.run.seed)
    rows = []
    for outcome in outcomes:
        for name, metric, k, estimator in _estimators(config, outcome):
            value, low, high = metrics.estimate(estimator, weights)
            row = {"run_id": run_id, "dataset": config.dataset, "protocol": name, "method": outcome.method}
            row |= {"metric": metric, "k": k, "value": value, "low": low, "high": high}
            rows.append(row | {"users": users, "seconds": outcome.seconds})
    return rows


def _estimators(config: Config, outcome: Outcome) -> list[tuple]:
    """(protocol, metric, k, function of the resamples) for all that is reported of a method."""
    sampled = metrics.ranks(outcome.target, outcome.negatives)
    found = [
        (name, metric, k, metrics.mean(function(ranks, k)))
        for name, ranks in ((protocol.sampled_name(config), sampled), (protocol.FULL, outcome.full))
        for k in sorted(set(config.evaluation.ks))
        for metric, function in AT_K.items()
    ]
    name = protocol.sampled_name(config)
    found.append((name, "auc", 0, metrics.mean(metrics.auc(sampled))))
    found.append((name, "auc_pooled", 0, partial(metrics.pooled_auc, outcome.target, outcome.negatives)))
    return found
