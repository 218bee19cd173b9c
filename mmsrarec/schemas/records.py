"""What a lake remembers of its work: answers, rejects, runs, who holds it, and who is to be forgotten."""

from mmsrarec.schemas.table import DOUBLE, LONG, RUN_ID, STRING, TIME, Table

RECORDS: dict[str, Table] = {
    "answers": Table(
        "An answer of the engine, by the hash of all that decides it: the cache behind every stage that asks.",
        ("period", "key"),
        ("summarize_items", "recommend", "evaluate"),
        {
            "period": (
                STRING,
                "first day of the span of `answers.keep_days` in which it was last asked for; one asked for in a later "
                "span is copied there, and spans before the last are deleted",
            ),
            "key": (STRING, "hash of prompt, pixels, sampling, model and engine settings"),
            "kind": (STRING, "text, yes_no or choice"),
            "text": (STRING, "the answer to a text question; the letters' probabilities of a choice, as JSON"),
            "p_yes": (DOUBLE, "the answer to a yes_no question"),
            "prompt_tokens": (LONG, "tokens read"),
            "cached_tokens": (LONG, "of these, from the prefix cache"),
            "output_tokens": (LONG, "tokens written"),
            "error": (STRING, "why the engine refused the request; null where it did not"),
            "stage": (STRING, "that asked first"),
            "run_id": RUN_ID,
        },
        ["period", "kind"],
    ),
    "rejects": Table(
        "A row that could not be processed.",
        ("run_id", "stage", "key"),
        (),
        {
            "run_id": RUN_ID,
            "stage": (STRING, "that rejected it"),
            "key": (STRING, "names the row: item_id, user_id/item_id"),
            "error": (STRING, "reason in a word, such as duplicate_item_id"),
            "message": (STRING, "what is wrong and why"),
            "row": (STRING, "the row as JSON, cut"),
        },
    ),
    "runs": Table(
        "The ledger: a stage of a run. A running row of a run that no longer holds the lake is a run that was lost.",
        ("run_id", "stage"),
        (),
        {
            "run_id": (STRING, "sorts by time"),
            "stage": (STRING, "the stage, or rollback or forget"),
            "status": (STRING, "running, completed, failed or interrupted"),
            "started_at": (TIME, "start"),
            "finished_at": (TIME, "end; null while it runs"),
            "rows_in": (LONG, "rows read"),
            "rows_out": (LONG, "rows written"),
            "rows_rejected": (LONG, "rows of `rejects`"),
            "prompt_tokens": (LONG, "tokens that the engine read"),
            "output_tokens": (LONG, "tokens that it wrote"),
            "versions": (STRING, "JSON: of the code, the model, the prompt and, under tables, of the tables read"),
            "notes": (STRING, "JSON: what the stage noted, such as rejects by reason or the gates' figures"),
        },
    ),
    "locks": Table(
        "Who holds the lake, or (released_at is set) who held it last: always one row.",
        ("token",),
        (),
        {
            "token": (STRING, "new with every holder"),
            "run_id": (STRING, "the holder's run"),
            "command": (STRING, "its command line"),
            "host": (STRING, "its host name"),
            "machine": (STRING, "equal where process ids can be compared"),
            "pid": (LONG, "its process"),
            "process_started": (DOUBLE, "seconds since 1970; tells a pid from the same pid given again"),
            "acquired_at": (TIME, "start"),
            "heartbeat_at": (TIME, "latest heartbeat"),
            "lease_seconds": (LONG, "`run.lease` of the holder"),
            "released_at": (TIME, "end; null while it holds"),
        },
    ),
    "forgotten": Table(
        "A user whom `mmsrarec forget` removed; build_cf leaves them out.",
        ("user_hash",),
        ("forget",),
        {
            "user_hash": (STRING, "SHA-256 of the user_id, as hexadecimal digits"),
            "forgotten_at": (TIME, "when"),
            "run_id": RUN_ID,
        },
    ),
    "training_curves": Table(
        "A point of the course of a training.",
        ("run_id", "stage", "step", "name"),
        ("train_sasrec", "tune_summarizer"),
        {
            "run_id": RUN_ID,
            "stage": (STRING, "that trained; with a network's name behind it where that is not the main one"),
            "step": (LONG, "from 1; of SASRec, the epoch"),
            "name": (STRING, "of the figure: loss, ndcg_at_10, reward_information, …"),
            "value": (DOUBLE, "the figure after the step"),
        },
    ),
}
