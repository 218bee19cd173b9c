"""Stage recommend: candidates in, a list per user out. Stage 3 of the method with the model that `model:` names.

Users are taken in ranges of their ids, so memory stays at one range whatever the number of users; the engine is started
once for all of them, or not at all where every pair was answered before. The day's lists go into
`staged_recommendations` with one commit, which replaces that day only; where no list changes nothing is committed.
Readers do not see them before `publish` has checked them.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from mmsrarec.config import Config
from mmsrarec.engines import batch
from mmsrarec.engines.answers import Answers
from mmsrarec.errors import InputError
from mmsrarec.recommendation import blend
from mmsrarec.recommendation.blend import Blend
from mmsrarec.recommendation.rank import Scored, because, top
from mmsrarec.recommendation.scoring import Scorer
from mmsrarec.recommendation.task import Known, Task, keywords_by_item
from mmsrarec.schemas import MADE_BY
from mmsrarec.storage import rules, runs, tables
from mmsrarec.storage.spool import Spool

READS = ("histories", "catalog", "item_keywords", "similar_users", "candidates", "evidence", "retrievals")
USERS = 4096  # read at a time
STAGED = "staged_recommendations"
SHORT_HISTORY = 2  # interactions below which a list is marked
NEEDED = ("histories", "catalog", "item_keywords", "candidates")


@dataclass(frozen=True)
class Night:
    """What every user's list needs: keywords by item_id, the category of each item that may be listed, the rules and
    the columns that do not vary."""

    keywords: dict[str, list[str]]
    servable: dict[str, str | None]
    rules: rules.Rules
    blend: Blend | None
    constants: dict[str, str | None]


def recommend(config: Config, run_id: str) -> None:
    """Stage the recommendations of run.date: for every user of `histories` its best top_k servable unseen items."""
    with runs.stage(config, "recommend", run_id, READS) as stage:
        _require(config)
        scorer = Scorer.of(config, stage)
        stage.versions |= _index_version(config)
        night = _night(config, stage)
        asked = knowns(config, night.keywords, night.rules)
        answers = batch.answer(config, stage, (group for known in asked for group in scorer.groups(known)))
        _write(config, stage, _lists(config, scorer, night, answers))


def knowns(config: Config, keywords: dict[str, list[str]], serving: rules.Rules) -> Iterator[Known]:
    """What is known of every user and its candidates, a range of users at a time."""
    return (known_of(config, keywords, serving, span) for span in _spans(config))


def _require(config: Config) -> None:
    for table in NEEDED:
        if not tables.count(config.lake.root, table):
            raise InputError(f"{config.table(table)}: nothing there; run {MADE_BY[table]} first")


def _index_version(config: Config) -> dict[str, str]:
    """Of the index that the candidates come from, as the ledger has it."""
    rows = tables.read(config.lake.root, "runs", ["stage", "status", "finished_at", "versions"])
    for row in rows.sort_by([("finished_at", "descending")]).to_pylist():
        versions = json.loads(row["versions"] or "{}")
        if row["stage"] == "retrieve" and row["status"] == "completed" and versions.get("index_version"):
            return {"index_version": versions["index_version"]}
    return {}


def _night(config: Config, stage: runs.Stage) -> Night:
    serving = rules.load(config)
    catalog = tables.read(config.lake.root, "catalog", rules.COLUMNS)
    servable = catalog.filter(serving.servable(catalog)).to_pylist()
    constants = {
        "run_date": config.run.run_date,
        "model": stage.versions["model"],
        "index_version": stage.versions.get("index_version"),
        "run_id": stage.run_id,
    }
    keywords = keywords_by_item(tables.read(config.lake.root, "item_keywords", ["item_id", "keywords"]))
    categories = {row["item_id"]: row["category"] for row in servable}
    return Night(keywords, categories, serving, blend.serving(config), constants)


def _spans(config: Config) -> Iterator[list[tuple]]:
    """Filters that cut the users into ranges of ascending user_id."""
    return tables.spans("user_id", tables.read(config.lake.root, "histories", ["user_id"])["user_id"], USERS)


def known_of(config: Config, keywords: dict[str, list[str]], serving: rules.Rules, span: list[tuple]) -> Known:
    """What is known of the users that a filter on user_id selects."""
    root = config.lake.root
    near = [*span, ("rank", "<=", config.retrieve.similar_users)]
    users = tables.read(root, "histories", ["user_id", "item_ids"], span)
    return Known(
        serving.served(users).sort_by("user_id"),
        tables.read(root, "similar_users", ["user_id", "rank", "next_item_id"], near),
        tables.read(root, "candidates", filters=span).sort_by([("user_id", "ascending"), ("rank", "ascending")]),
        tables.read(root, "evidence", ["user_id", "item_id", "levels"], span),
        keywords,
    )


def _lists(config: Config, scorer: Scorer, night: Night, answers: Answers) -> Iterator[tuple[list, pa.Table]]:
    """Per range of users its filter and its lists, ascending by user_id and rank."""
    with scorer.stage.progress(tables.count(config.lake.root, "histories"), "users listed") as progress:
        for span in _spans(config):
            known = known_of(config, night.keywords, night.rules, span)
            seen = dict(zip(known.users["user_id"].to_pylist(), known.users["item_ids"].to_pylist(), strict=True))
            candidates = _by_user(known.pairs)
            scorer.stage.rows_in += known.pairs.num_rows
            rows = []
            for task, p_yes in scorer.judged(known, answers):
                scored = [_scored(night, row, p_yes) for row in candidates[task.user_id]]
                rows += _list(config, night, task, seen[task.user_id], scored)
            versions = _index_versions(config, span)
            for row in rows:
                row["index_version"] = versions.get(row["user_id"], row["index_version"])
            for user_id in seen.keys() - candidates.keys():
                scorer.stage.reject(user_id, "no_candidates", "retrieve named no item for this user")
            progress.advance(known.users.num_rows)
            yield span, tables.from_rows(STAGED, rows)


def _index_versions(config: Config, span: list[tuple]) -> dict[str, str]:
    """Of the index that each user's candidates come from: a user that was carried over has that of an earlier night."""
    rows = tables.read(config.lake.root, "retrievals", ["user_id", "index_version"], span)
    return dict(zip(*(column.to_pylist() for column in rows.columns), strict=True))


def _by_user(candidates: pa.Table) -> dict[str, list[dict]]:
    rows: dict[str, list[dict]] = {}
    for row in candidates.to_pylist():
        rows.setdefault(row["user_id"], []).append(row)
    return rows


def _scored(night: Night, candidate: dict, p_yes: dict[str, float | None]) -> Scored:
    item_id = candidate["item_id"]
    p, known = p_yes[item_id], (night.keywords.get(item_id, []), night.servable.get(item_id))
    both = blend.blended(night.blend, p, candidate["prior"])
    return Scored(item_id, p, candidate["cf_score"], candidate["source"], *known, both)


def _list(config: Config, night: Night, task: Task, seen: list[str], scored: list[Scored]) -> list[dict]:
    context = [*task.history, *task.similar]
    marks = "short_history" if len(seen) < SHORT_HISTORY else None
    listed = top(scored, set(seen), night.servable, config.recommend.top_k, night.rules.limit)
    return [
        {
            **night.constants,
            "user_id": task.user_id,
            "rank": rank,
            "item_id": item.item_id,
            "score": item.score,
            "p_yes": item.p_yes,
            "cf_score": item.cf_score,
            "source": item.source,
            "because": because(item.keywords, context, config.recommend.because),
            "marks": marks,
        }
        for rank, item in enumerate(listed, 1)
    ]


def _write(config: Config, stage: runs.Stage, lists: Iterator[tuple[list, pa.Table]]) -> None:
    """Put the day's lists in the place of what the table has for it, unless they say the same.

    The lists pass through a file on disk, so that the error budget is checked before anything is committed and memory
    stays small; a range of users whose lists are as before keeps the run that wrote them.
    """
    root, today = config.lake.root, ("run_date", "=", config.run.run_date)
    kept = 0
    with Spool(STAGED) as spool:
        for span, rows in lists:
            before = tables.read(root, STAGED, filters=[today, *span])
            before = before.sort_by([("user_id", "ascending"), ("rank", "ascending")])
            same = before.drop_columns("run_id").equals(rows.drop_columns("run_id"))
            kept += before.num_rows if same else 0
            stage.rows_out += rows.num_rows
            spool.write(STAGED, before if same else rows)
        stage.check_budget()
        stage.notes["unchanged"] = kept
        if kept < stage.rows_out or tables.count(root, STAGED, [today]) != kept:
            tables.replace(root, STAGED, spool.batches(STAGED), f"run_date = '{config.run.run_date}'")
