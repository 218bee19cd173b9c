"""The tables: one Arrow schema each, its key, and nothing else. This is the contract with downstream readers.

Every table is a Delta table under `lake.root`. Strings are UTF-8, timestamps are UTC microseconds, and lists that
belong together (`item_ids`, `timestamps`) have the same length and order. No table uses a reader feature of Delta, so
Spark, delta-rs, DuckDB and pandas all read them.
"""

import pyarrow as pa

STRING, LONG, DOUBLE, BOOLEAN = pa.string(), pa.int64(), pa.float64(), pa.bool_()
STRINGS, TIME = pa.list_(pa.string()), pa.timestamp("us", tz="UTC")


def _schema(**columns: pa.DataType) -> pa.Schema:
    return pa.schema(list(columns.items()))


TABLES: dict[str, pa.Schema] = {
    # One row per user, interactions in time order; split is train | validation | test. The last item of a validation
    # or test user is held out: no count, no model and no index below has seen it.
    "histories": _schema(user_id=STRING, item_ids=STRINGS, timestamps=pa.list_(LONG), split=STRING),
    # One row per valid item. image is the address as given, null where there is none; interactions counts the
    # training interactions only. available is false where the shop says so: never recommended.
    "catalog": _schema(
        item_id=STRING, title=STRING, text=STRING, image=STRING, category=STRING, available=BOOLEAN, interactions=LONG
    ),
    # Pairs within a window of positions of training interactions, both directions. count = raw pairs, score = decayed
    # weight over sqrt(weight of item * weight of neighbor), rank from 1.
    "item_cooccurrence": _schema(item_id=STRING, neighbor_id=STRING, count=LONG, score=DOUBLE, rank=LONG),
    # The same in the order of time: next_item_id came after item_id. score sums to at most 1 over an item's row.
    "item_transitions": _schema(item_id=STRING, next_item_id=STRING, count=LONG, score=DOUBLE, rank=LONG),
    # content_hash covers both requests (prompt, picture, model, sampling). image_ok is false where the picture is
    # missing or broken (image_note says why); keywords = image keywords, then text keywords, without repeats.
    "item_keywords": _schema(
        item_id=STRING,
        content_hash=STRING,
        image_keywords=STRINGS,
        text_keywords=STRINGS,
        keywords=STRINGS,
        image_ok=BOOLEAN,
        image_note=STRING,
        model=STRING,
        prompt_version=STRING,
        run_id=STRING,
    ),
    # rank from 1; next_item_id is what the neighbor took next (training users only), never the user's own row.
    "similar_users": _schema(
        user_id=STRING, rank=LONG, neighbor_user_id=STRING, similarity=DOUBLE, next_item_id=STRING
    ),
    # rank from 1 per user, with gaps where a candidate has left the shop since; source = sasrec | similar_users |
    # cooccurrence | content | similar_content | new | popular, the first that named it. cf_score is SASRec's logit,
    # null for an item outside its vocabulary.
    "candidates": _schema(user_id=STRING, item_id=STRING, source=STRING, cf_score=DOUBLE, rank=LONG),
    # Evidence about a (user, candidate) pair, raw: co-occurrence and transition scores summed over the latest items
    # of the history (later items weigh more), similar users who took it next, cosine of its keywords with those of the
    # history (content) and of what similar users took next, SASRec's rank (from 1; null outside its vocabulary),
    # training interactions of the candidate; and levels: the same as short words for the prompt.
    "evidence": _schema(
        user_id=STRING,
        item_id=STRING,
        cooccurrence=DOUBLE,
        transition=DOUBLE,
        similar_users=LONG,
        content=DOUBLE,
        similar_content=DOUBLE,
        sasrec_rank=LONG,
        popularity=LONG,
        levels=STRING,
    ),
    # What readers see; the latest run_date is the current night. rank from 1 per run_date and user; score orders the
    # list; because = keywords shared with the history and the similar users' items; marks: short_history where the user
    # has fewer than 2 interactions, else null.
    "recommendations": _schema(
        run_date=STRING,
        user_id=STRING,
        rank=LONG,
        item_id=STRING,
        score=DOUBLE,
        p_yes=DOUBLE,
        cf_score=DOUBLE,
        source=STRING,
        because=STRINGS,
        marks=STRING,
        model=STRING,
        index_version=STRING,
        run_id=STRING,
    ),
    # What the engine answered, by the hash of everything that decides the answer: the cache behind every stage that
    # asks it. kind = text | yes_no; text for the one, p_yes for the other; error where the engine refused the request.
    # period is the first day of the span of answers.keep_days in which the answer was last asked for: one that is asked
    # for in a later period is copied there, and periods before the last are deleted.
    "answers": _schema(
        period=STRING,
        key=STRING,
        kind=STRING,
        text=STRING,
        p_yes=DOUBLE,
        prompt_tokens=LONG,
        cached_tokens=LONG,
        output_tokens=LONG,
        error=STRING,
        stage=STRING,
        run_id=STRING,
    ),
    # A row that could not be processed: key names it (item_id, user_id/item_id), row is its content as JSON, cut.
    "rejects": _schema(run_id=STRING, stage=STRING, key=STRING, error=STRING, message=STRING, row=STRING),
    "evaluation": _schema(
        run_id=STRING,
        dataset=STRING,
        protocol=STRING,
        method=STRING,
        metric=STRING,
        k=LONG,
        value=DOUBLE,
        low=DOUBLE,
        high=DOUBLE,
        users=LONG,
        seconds=DOUBLE,
    ),
    # The sampled negatives behind a sampled protocol, so that anyone can recompute it.
    "evaluation_candidates": _schema(user_id=STRING, target_item_id=STRING, negative_item_ids=STRINGS),
    # The ledger: one row per run and stage; status = running | completed | failed | interrupted. A running row of a
    # run that no longer holds the lake is a run that was lost. versions (of the code, the model, the prompt and, under
    # tables, the Delta versions of what was read) and notes are JSON.
    "runs": _schema(
        run_id=STRING,
        stage=STRING,
        status=STRING,
        started_at=TIME,
        finished_at=TIME,
        rows_in=LONG,
        rows_out=LONG,
        rows_rejected=LONG,
        prompt_tokens=LONG,
        output_tokens=LONG,
        versions=STRING,
        notes=STRING,
    ),
    # Always one row: who holds the lake, or (released_at is set) who held it last. token is new with every holder;
    # process_started tells a pid from the same pid given again, and pids mean something on the same machine only.
    "locks": _schema(
        token=STRING,
        run_id=STRING,
        command=STRING,
        host=STRING,
        machine=STRING,
        pid=LONG,
        process_started=DOUBLE,
        acquired_at=TIME,
        heartbeat_at=TIME,
        lease_seconds=LONG,
        released_at=TIME,
    ),
    # Users whom `mmsrarec forget` removed: SHA-256 of the user_id, as hexadecimal digits. build_cf leaves them out.
    "forgotten": _schema(user_hash=STRING, forgotten_at=TIME, run_id=STRING),
    # A row says that this user's rows in similar_users, candidates and evidence are complete. made_from is the hash of
    # what they come from (its history, the settings, SASRec); what would come from the same is carried over.
    "retrievals": _schema(user_id=STRING, made_from=STRING, index_version=STRING),
    # The course of a training: what the figure `name` (loss, ndcg_at_10, …) was after step `step` (of SASRec: epoch).
    "training_curves": _schema(run_id=STRING, stage=STRING, step=LONG, name=STRING, value=DOUBLE),
}
# What recommend writes and publish, if the gates let it, makes visible in `recommendations`.
TABLES["staged_recommendations"] = TABLES["recommendations"]

KEYS: dict[str, tuple[str, ...]] = {
    "histories": ("user_id",),
    "catalog": ("item_id",),
    "item_cooccurrence": ("item_id", "neighbor_id"),
    "item_transitions": ("item_id", "next_item_id"),
    "item_keywords": ("item_id",),
    "similar_users": ("user_id", "rank"),
    "candidates": ("user_id", "item_id"),
    "evidence": ("user_id", "item_id"),
    "recommendations": ("run_date", "user_id", "rank"),
    "answers": ("period", "key"),
    "rejects": ("run_id", "stage", "key"),
    "evaluation": ("run_id", "dataset", "protocol", "method", "metric", "k"),
    "evaluation_candidates": ("user_id",),
    "runs": ("run_id", "stage"),
    "locks": ("token",),
    "forgotten": ("user_hash",),
    "staged_recommendations": ("run_date", "user_id", "rank"),
    "retrievals": ("user_id",),
    "training_curves": ("run_id", "stage", "step", "name"),
}

PARTITIONS: dict[str, list[str]] = {
    "recommendations": ["run_date"],
    "staged_recommendations": ["run_date"],
    "answers": ["period", "kind"],
}

# The stage that makes what another one reads: tables, the checkpoint (sasrec) and the index (training_users).
MADE_BY: dict[str, str] = {
    "histories": "build_cf",
    "catalog": "build_cf",
    "item_cooccurrence": "build_cf",
    "item_transitions": "build_cf",
    "sasrec": "train_sasrec",
    "training_users": "index_cf",
    "item_keywords": "summarize_items",
    "similar_users": "retrieve",
    "candidates": "retrieve",
    "evidence": "retrieve",
    "retrievals": "retrieve",
    "staged_recommendations": "recommend",
    "recommendations": "publish",
}
