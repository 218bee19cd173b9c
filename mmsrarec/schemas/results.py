"""What a night makes, in the order of its stages: from histories and items to the lists, and their evaluation."""

from dataclasses import replace

from mmsrarec.schemas.table import BOOLEAN, DOUBLE, LONG, LONGS, MODEL, RUN_ID, STRING, STRINGS, VERSION, Table

RESULTS: dict[str, Table] = {
    "histories": Table(
        "A user with all interactions in time order. The last item of a validation or test user is held out: no count, "
        "no model and no index below has seen it.",
        ("user_id",),
        ("build_cf",),
        {
            "user_id": (STRING, "as in the interactions"),
            "item_ids": (STRINGS, "items taken, oldest first"),
            "timestamps": (LONGS, "microseconds since 1970, UTC; a mere position in the order counts as seconds"),
            "split": (STRING, "train, validation or test"),
        },
    ),
    "catalog": Table(
        "A valid item.",
        ("item_id",),
        ("build_cf",),
        {
            "item_id": (STRING, "as in the items"),
            "title": (STRING, "as given"),
            "text": (STRING, "the columns of `inputs.text`, joined"),
            "image": (STRING, "the address as given; null where there is none"),
            "category": (STRING, "as given"),
            "available": (BOOLEAN, "false where the shop says so: never recommended"),
            "interactions": (LONG, "training interactions only"),
        },
    ),
    "item_cooccurrence": Table(
        "A pair within a window of positions of training interactions, in both directions.",
        ("item_id", "neighbor_id"),
        ("build_cf",),
        {
            "item_id": (STRING, "the item"),
            "neighbor_id": (STRING, "an item taken near it"),
            "count": (LONG, "pairs, unweighted"),
            "score": (DOUBLE, "decayed weight over sqrt(weight of item * weight of neighbor)"),
            "rank": (LONG, "from 1 per item, best first"),
        },
    ),
    "item_transitions": Table(
        "The same in the order of time.",
        ("item_id", "next_item_id"),
        ("build_cf",),
        {
            "item_id": (STRING, "the item"),
            "next_item_id": (STRING, "an item taken after it"),
            "count": (LONG, "pairs, unweighted"),
            "score": (DOUBLE, "decayed weight; sums to at most 1 over an item's rows"),
            "rank": (LONG, "from 1 per item, best first"),
        },
    ),
    "item_keywords": Table(
        "What the model says of an item.",
        ("item_id",),
        ("summarize_items",),
        {
            "item_id": (STRING, "the item"),
            "content_hash": (STRING, "of both requests: prompt, picture, model, sampling"),
            "image_keywords": (STRINGS, "of the picture"),
            "text_keywords": (STRINGS, "of the text"),
            "keywords": (STRINGS, "image keywords, then text keywords, without repeats"),
            "image_ok": (BOOLEAN, "false where the picture is missing or broken"),
            "image_note": (STRING, "why image_ok is false"),
            "model": MODEL,
            "prompt_version": (STRING, "of the prompt for keywords"),
            "run_id": RUN_ID,
        },
    ),
    "similar_users": Table(
        "A training user near the user, and what that one took next; never the user's own row.",
        ("user_id", "rank"),
        ("retrieve",),
        {
            "user_id": (STRING, "the user"),
            "rank": (LONG, "from 1 per user, nearest first"),
            "neighbor_user_id": (STRING, "the similar user"),
            "similarity": (DOUBLE, "cosine of the SASRec embeddings"),
            "next_item_id": (STRING, "what the neighbor took next"),
        },
    ),
    "candidates": Table(
        "An item that may come on the user's list.",
        ("user_id", "item_id"),
        ("retrieve",),
        {
            "user_id": (STRING, "the user"),
            "item_id": (STRING, "the candidate"),
            "source": (
                STRING,
                "what named it first: sasrec, similar_users, cooccurrence, content, similar_content, new or popular",
            ),
            "cf_score": (DOUBLE, "SASRec's logit; null for an item outside its vocabulary"),
            "rank": (LONG, "from 1 per user, with gaps where a candidate has left the shop since"),
        },
    ),
    "evidence": Table(
        "What speaks for a candidate, raw.",
        ("user_id", "item_id"),
        ("retrieve",),
        {
            "user_id": (STRING, "the user"),
            "item_id": (STRING, "the candidate"),
            "cooccurrence": (DOUBLE, "score summed over the latest items of the history; later items weigh more"),
            "transition": (DOUBLE, "the same of item_transitions"),
            "similar_users": (LONG, "similar users who took it next"),
            "content": (DOUBLE, "cosine of its keywords with those of the history"),
            "similar_content": (DOUBLE, "cosine of its keywords with those of what similar users took next"),
            "sasrec_rank": (LONG, "from 1; null outside SASRec's vocabulary"),
            "popularity": (LONG, "training interactions of the candidate"),
            "levels": (STRING, "all of this as short words, for the prompt"),
        },
    ),
    "retrievals": Table(
        "A user whose rows in similar_users, candidates and evidence are complete.",
        ("user_id",),
        ("retrieve",),
        {
            "user_id": (STRING, "the user"),
            "made_from": (
                STRING,
                "hash of history, settings and SASRec; what would come from the same is carried over",
            ),
            "index_version": VERSION,
        },
    ),
    "recommendations": Table(
        "An item on a list: what readers see. The latest run_date is the current night.",
        ("run_date", "user_id", "rank"),
        ("publish",),
        {
            "run_date": (STRING, "the night, YYYY-MM-DD"),
            "user_id": (STRING, "the user"),
            "rank": (LONG, "from 1 per run_date and user"),
            "item_id": (STRING, "the item"),
            "score": (DOUBLE, "p_yes rounded, 0 without one; orders the list"),
            "p_yes": (DOUBLE, "p(yes) / (p(yes) + p(no)) of the model"),
            "cf_score": (DOUBLE, "as in candidates"),
            "source": (STRING, "as in candidates"),
            "because": (STRINGS, "keywords shared with the history and the similar users' items"),
            "marks": (STRING, "short_history where the user has fewer than 2 interactions, else null"),
            "model": MODEL,
            "index_version": VERSION,
            "run_id": RUN_ID,
        },
        ["run_date"],
    ),
    "evaluation": Table(
        "A figure of a method on the held-out items of the test users.",
        ("run_id", "dataset", "protocol", "method", "metric", "k"),
        ("evaluate",),
        {
            "run_id": RUN_ID,
            "dataset": (STRING, "`dataset` of the configuration"),
            "protocol": (STRING, "what the held-out item is ranked among: user-split/full or sampled negatives"),
            "method": (STRING, "mmsrarec or a baseline"),
            "metric": (STRING, "hr, ndcg, mrr, auc or auc_pooled"),
            "k": (LONG, "length of the list that counts; 0 for auc and auc_pooled"),
            "value": (DOUBLE, "the figure, from 0 to 1"),
            "low": (DOUBLE, "lower end of the 95% interval"),
            "high": (DOUBLE, "upper end"),
            "users": (LONG, "test users behind it"),
            "seconds": (DOUBLE, "time that the method took"),
        },
    ),
    "evaluation_candidates": Table(
        "The sampled negatives of a test user, so that anyone can recompute a sampled protocol.",
        ("user_id",),
        ("evaluate",),
        {
            "user_id": (STRING, "the test user"),
            "target_item_id": (STRING, "the held-out item"),
            "negative_item_ids": (STRINGS, "items never taken"),
        },
    ),
}
RESULTS["staged_recommendations"] = replace(
    RESULTS["recommendations"],
    meaning="What recommend writes and publish, if the gates let it, makes visible in recommendations.",
    writers=("recommend",),
)
