"""What a run left beside its lists: rejects with examples, the evaluation's figures, the course of trainings."""

from dataclasses import dataclass

import pyarrow.compute as pc

from mmsrarec.config import Config
from mmsrarec.reports.page.tonight import Tonight
from mmsrarec.storage import tables

EXAMPLES = 3  # of a reason


@dataclass(frozen=True)
class Rejected:
    """Rows of one stage with one reason; examples are rows of `rejects`, the first by key."""

    stage: str
    reason: str
    rows: int
    examples: list[dict]


SHARES = ("hr", "ndcg", "mrr", "auc", "auc_pooled")  # the metrics that the page shows


@dataclass(frozen=True)
class Protocol:
    """The figures of one protocol: rows of `evaluation`, of all methods and metrics."""

    name: str
    dataset: str
    users: int
    rows: list[dict]

    @property
    def methods(self) -> list[str]:
        return list(dict.fromkeys(row["method"] for row in self.rows))

    @property
    def metrics(self) -> list[tuple[str, int]]:
        return list(dict.fromkeys((row["metric"], row["k"]) for row in self.rows))

    def cell(self, method: str, metric: tuple[str, int]) -> dict | None:
        found = [row for row in self.rows if (row["method"], row["metric"], row["k"]) == (method, *metric)]
        return found[0] if found else None


@dataclass(frozen=True)
class Evaluation:
    """`run_id` is the run that measured it; another one where this run found models and settings as they were."""

    run_id: str
    protocols: list[Protocol]


@dataclass(frozen=True)
class Course:
    """A figure of a training over its steps."""

    stage: str
    name: str
    run_id: str
    steps: list[int]
    values: list[float]


def rejected(config: Config, tonight: Tonight) -> list[Rejected]:
    """Counts as in the ledger, most rows first."""
    found = [
        Rejected(stage, reason, rows, _examples(config, row, reason))
        for stage, row in tonight.stages.items()
        for reason, rows in row["notes"].get("rejected", {}).items()
    ]
    return sorted(found, key=lambda reject: (-reject.rows, reject.stage, reject.reason))


def evaluation(config: Config, tonight: Tonight) -> Evaluation | None:
    """Of the run, or of the latest one before it with the same models and settings; None where nothing was measured."""
    latest = tonight.stages.get("evaluate")
    if latest is None:
        return None
    evaluated = latest["versions"].get("evaluated")
    same = [row for row in tonight.history if row["stage"] == "evaluate" and row["status"] == "completed"]
    same = [row for row in same if row["versions"].get("evaluated") == evaluated]
    for run_id in dict.fromkeys([latest["run_id"], *(row["run_id"] for row in reversed(same))]):
        of_run = [("run_id", "=", run_id), ("metric", "in", SHARES)]
        rows = tables.read(config.lake.root, "evaluation", filters=of_run).to_pylist()
        if rows:
            names = sorted({row["protocol"] for row in rows if row["protocol"].count("/") <= 1})  # no slice of one
            return Evaluation(run_id, [_protocol(name, rows) for name in names])
    return None


def courses(config: Config, tonight: Tonight) -> list[Course]:
    """Of the latest training of every stage that has trained by then."""
    order = {row["run_id"]: number for number, row in enumerate(tonight.history)}
    rows = tables.read(config.lake.root, "training_curves").sort_by([("step", "ascending")]).to_pylist()
    rows = [row for row in rows if row["run_id"] in order]
    latest = {row["stage"]: row["run_id"] for row in sorted(rows, key=lambda row: order[row["run_id"]])}
    found: dict[tuple[str, str], Course] = {}
    for row in rows:
        if row["run_id"] == latest[row["stage"]]:
            key = row["stage"], row["name"]
            course = found.setdefault(key, Course(*key, row["run_id"], [], []))
            course.steps.append(row["step"])
            course.values.append(row["value"])
    return [found[key] for key in sorted(found)]


def _protocol(name: str, rows: list[dict]) -> Protocol:
    own = [row for row in rows if row["protocol"] == name]
    own.sort(key=lambda row: (row["metric"], row["k"], -row["value"], row["method"]))
    return Protocol(name, own[0]["dataset"], own[0]["users"], own)


def _examples(config: Config, row: dict, reason: str) -> list[dict]:
    """The first rows by key. There may be millions, so only their keys are read in whole."""
    chosen = [("run_id", "=", row["run_id"]), ("stage", "=", row["stage"]), ("error", "=", reason)]
    keys = tables.read(config.lake.root, "rejects", ["key"], chosen)["key"].drop_null()
    first = keys.take(pc.select_k_unstable(keys, k=min(EXAMPLES, len(keys)), sort_keys=[("key", "ascending")]))
    if not len(first):
        return []
    found = tables.read(config.lake.root, "rejects", filters=[*chosen, ("key", "in", first.to_pylist())])
    return found.sort_by([("key", "ascending"), ("row", "ascending")]).slice(0, EXAMPLES).to_pylist()
