"""A small lake with two published nights, real Delta tables, written without an engine; hostile where a shop can be."""

from pathlib import Path

from PIL import Image

from mmsrarec.config import Config
from mmsrarec.storage import runs, tables
from mmsrarec.training import curve

BEFORE, TONIGHT = "2026-03-01", "2026-03-02"
HOSTILE = {
    "i0": "<script>window.broken = 1; fetch('http://evil.example/')</script>",
    "i1": '"><img src="http://evil.example/x.png" onerror="window.broken = 2">',
    "i2": "</style></script></svg><style>body { display: none }</style>",
    "i3": "abc\u202egnp.exe\u2066\u200b\ufeff\x00\x1b[31m",
    "i4": "' onmouseover='window.broken = 3' x='{{ 7 * 7 }} {% raw %} ${7*7}",
    "i5": "W" * 500,
}
HOSTILE_USER = "u</details><script>window.broken = 4</script>"
USERS = ["u0", "u1", "u2", HOSTILE_USER]
ITEMS = [f"i{number}" for number in range(12)]
TOP_K = 3
SCORES = (0.9, 0.5, 0.1)


def config(folder: Path, **settings: object) -> Config:
    sections = {"lake": {"root": str(folder / "lake")}, "recommend": {"top_k": TOP_K}, **settings}
    inputs = {"items": "-", "interactions": "-", "images": str(folder / "pictures")}
    return Config(inputs=inputs, dataset="<b>shop</b>", **sections)


def write(folder: Path, **settings: object) -> Config:
    """The lake, and pictures of all items but the last two: one has none, one that is broken."""
    made = config(folder, **settings)
    (folder / "pictures").mkdir(parents=True)
    for number, item_id in enumerate(ITEMS[:-2]):
        Image.new("RGB", (300, 200), (20 * number, 80, 160)).save(folder / "pictures" / f"{item_id}.png")
    (folder / "pictures" / f"{ITEMS[-1]}.png").write_bytes(b"no picture")
    _catalog(made)
    _users(made)
    _night(made, "run-1", BEFORE, shift=0)
    _night(made, "run-2", TONIGHT, shift=1)
    return made


def put(made: Config, name: str, rows: list[dict]) -> None:
    tables.append(made.lake.root, name, tables.from_rows(name, rows))


def _catalog(made: Config) -> None:
    addresses = {item_id: f"{item_id}.png" for item_id in ITEMS} | {"i0": "javascript:window.broken=5", "i10": None}
    put(
        made,
        "catalog",
        [
            {
                "item_id": item_id,
                "title": HOSTILE.get(item_id, f"Item {item_id}"),
                "text": f"text of {HOSTILE.get(item_id, item_id)}",
                "image": addresses[item_id],
                "category": "mug",
                "available": item_id != "i11",
                "interactions": 3,
            }
            for item_id in ITEMS
        ],
    )
    words = {item_id: ["red", "mug", f"rare {item_id}"] for item_id in ITEMS} | {"i10": [], "i0": ["<i>red</i>", "mug"]}
    put(
        made,
        "item_keywords",
        [
            {
                "item_id": item_id,
                "image_keywords": found[:1],
                "text_keywords": found[1:],
                "keywords": found,
                "image_ok": item_id not in ("i0", "i10"),
                "image_note": {"i0": "unsupported_address", "i10": "no_picture"}.get(item_id),
                "run_id": "run-1",
            }
            for item_id, found in words.items()
        ],
    )


def _users(made: Config) -> None:
    histories = [
        {"user_id": user_id, "item_ids": ITEMS[number : number + 2 + number], "timestamps": [1] * (2 + number)}
        for number, user_id in enumerate(USERS)
    ]
    put(made, "histories", [row | {"split": "train"} for row in histories])
    similar = {"neighbor_user_id": HOSTILE_USER, "similarity": 0.8, "next_item_id": "i1"}
    put(made, "similar_users", [{"user_id": user_id, "rank": 1} | similar for user_id in USERS])
    sources = ["sasrec", "sasrec", "content", "popular"]
    pairs = [
        {
            "user_id": user_id,
            "item_id": f"i{(number + place) % 12}",
            "source": source,
            "cf_score": 1.5,
            "rank": place + 1,
        }
        for number, user_id in enumerate(USERS)
        for place, source in enumerate(sources)
    ]
    put(made, "candidates", pairs)
    evidence = {"cooccurrence": 0.25, "popularity": 3, "levels": "like history 7"}
    put(made, "evidence", [{"user_id": row["user_id"], "item_id": row["item_id"]} | evidence for row in pairs])


def night_lists(run_id: str, date: str, shift: int) -> list[dict]:
    """User n gets the items n + shift … n + shift + 2, so two of three stay from one night to the next."""
    return [
        {
            "run_date": date,
            "user_id": user_id,
            "rank": place + 1,
            "item_id": f"i{number + shift + place}",
            "score": score,
            "p_yes": score,
            "cf_score": 1.5,
            "source": "sasrec" if place < 2 else "popular",
            "because": ["red"] if place == 0 else [],
            "model": "m-1",
            "index_version": "v-1",
            "run_id": run_id,
        }
        for number, user_id in enumerate(USERS)
        for place, score in enumerate(SCORES)
    ]


def _night(made: Config, run_id: str, date: str, shift: int) -> None:
    with runs.stage(made, "build_cf", run_id) as stage:
        stage.rows_in = stage.rows_out = 100 + shift
        for number in range(4 + shift):
            key = f"<script>{number}</script>"
            stage.reject(key, "unknown_item", "no item <img src=x onerror=alert(1)>", {"key": key})
    with runs.stage(made, "train_sasrec", run_id) as stage:
        if not shift:
            curve.write(made, run_id, stage.name, [*curve.points(1, loss=3.0), *curve.points(2, loss=2.0)])
        stage.rows_in = 4
    with runs.stage(made, "recommend", run_id, ("histories",)) as stage:
        lists = night_lists(run_id, date, shift)
        put(made, "staged_recommendations", lists)
        stage.rows_in, stage.rows_out, stage.prompt_tokens, stage.output_tokens = 16, len(lists), 1000, 16
        stage.notes |= {"cached_tokens": 500, "prefix_cache_hit_rate": 0.5}
        stage.versions["model"] = "m-1"
    with runs.stage(made, "publish", run_id) as stage:
        put(made, "recommendations", lists)
        stage.notes |= {"run_date": date, "published": f"4 lists of {date}", "gates": {"users_covered": 1.0}}
        stage.rows_in = stage.rows_out = len(lists)
    with runs.stage(made, "evaluate", run_id) as stage:
        stage.versions["evaluated"] = "same"
        if shift:
            stage.notes["skipped"] = "same models and settings as in run run-1"
        else:
            put(made, "evaluation", _figures(run_id))


def _figures(run_id: str) -> list[dict]:
    about = {"run_id": run_id, "dataset": "shop", "users": 40, "seconds": 1.0}
    return [
        about
        | {"protocol": "user-split/full", "method": method, "metric": metric, "k": 10}
        | {"value": value, "low": value - 0.05, "high": value + 0.05}
        for metric in ("hr", "ndcg")
        for method, value in (("popularity", 0.1), ("sasrec", 0.2), ("mmsrarec", 0.3))
    ]  # fmt: skip
