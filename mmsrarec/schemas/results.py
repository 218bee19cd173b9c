"""What a night makes, in the order of its stages: from histories and items to the lists, and their evaluation."""

from dataclasses import replace

from mmsrarec.schemas.table import BOOLEAN, DOUBLE, LONG, LONGS, MODEL, RUN_ID, STRING, STRINGS, VECTOR, VERSION, Table

RESULTS: dict[str, Table] = {
    "histories": Table(
        "A user with all interactions in time order. The last `held_out` of them (of a night: the last item of a "
        "validation or test user) no count, no model and no index below has seen.",
        ("user_id",),
        ("build_cf",),
        {
            "user_id": (STRING, "as in the interactions"),
            "item_ids": (STRINGS, "items taken, oldest first"),
            "timestamps": (LONGS, "microseconds since 1970, UTC; a mere position in the order counts as seconds"),
            "split": (STRING, "train, validation or test"),
            "held_out": (LONG, "how many of the last items are held out from all learning"),
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
    "item_vectors": Table(
        "What the text of an item means, where `retrieve.fusion.sentence_encoder` names an encoder.",
        ("item_id",),
        ("train_fusion", "retrieve"),
        {
            "item_id": (STRING, "the item"),
            "text_hash": (STRING, "of the text that was encoded"),
            "encoder": (STRING, "its name and a hash of its weights"),
            "vector": (VECTOR, "of length 1"),
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
            "similarity": (DOUBLE, "cosine of their states in the network of `retrieve.similar_by`"),
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
                "what named it first: sasrec, similar_users, cooccurrence, content, similar_content, new or popular; "
                "with `retrieve.fusion` also linear, follows, text or keywords",
            ),
            "cf_score": (DOUBLE, "SASRec's logit; null for an item outside its vocabulary"),
            "rank": (LONG, "from 1 per user, with gaps where a candidate has left the shop since"),
            "prior": (DOUBLE, "score of the fusion; null without `retrieve.fusion` and for what fills up"),
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
            "pieces": (
                VECTOR,
                "with retrieve.fusion.keep_pieces what the fusion hears, in the order of `pieces` in "
                "models/fusion.json; null where nothing is known",
            ),
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
            "p_yes": (
                DOUBLE,
                "p(yes) / (p(yes) + p(no)) of the model; with `recommend.scoring=choice` n p / (1 + n p) of the "
                "candidate's letter among n",
            ),
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
            "protocol": (
                STRING,
                "how histories were cut, then what the held-out item is ranked among (full or sampled negatives), then "
                "the slice, if it is one: leave-one-out/full/history <=5",
            ),
            "method": (STRING, "mmsrarec or a baseline"),
            "metric": (
                STRING,
                "hr, ndcg, mrr, auc, auc_pooled; coverage, popularity_bias; ratio_hr, ratio_ndcg to the baseline, and "
                "with _fusion behind it to the fusion",
            ),
            "k": (LONG, "length of the list that counts; 0 for auc and auc_pooled"),
            "value": (DOUBLE, "the figure; a share from 0 to 1, a bias from -1 to 1, or a ratio"),
            "low": (DOUBLE, "lower end of the 95% interval; null where there is none, as for coverage"),
            "high": (DOUBLE, "upper end"),
            "users": (LONG, "test users behind it"),
            "seconds": (DOUBLE, "time that the method took"),
            "configuration": (STRING, "hash of the settings, but for places and machines"),
        },
    ),
    "ablation": Table(
        "A figure of MMSRARec with a part of it left out or done otherwise.",
        ("run_id", "row", "among", "metric", "k"),
        ("ablate",),
        {
            "run_id": RUN_ID,
            "dataset": (STRING, "`dataset` of the configuration"),
            "protocol": (STRING, "how histories were cut"),
            "row": (STRING, "what is otherwise; whole: nothing"),
            "configuration": (STRING, "hash of the settings, but for places and machines"),
            "among": (STRING, "full or sampled: what the held-out item is ranked among"),
            "metric": (STRING, "as in evaluation"),
            "k": (LONG, "as in evaluation"),
            "value": (DOUBLE, "the figure"),
            "low": (DOUBLE, "lower end of the 95% interval"),
            "high": (DOUBLE, "upper end"),
            "users": (LONG, "test users behind it"),
            "tokens": (LONG, "that the row asked engines for; what an earlier row was answered costs nothing"),
            "seconds": (DOUBLE, "that its stages took, tuning included"),
        },
    ),
    "evaluation_candidates": Table(
        "The sampled negatives of a question, so that anyone can recompute a sampled protocol.",
        ("user_id", "position"),
        ("evaluate",),
        {
            "user_id": (STRING, "the test user"),
            "position": (LONG, "place of the held-out item in the user's item_ids, from 0"),
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
