"""Which users need no new retrieval: candidates, similar users and evidence are made anew where a user's own inputs
have changed, and carried over elsewhere.

What is known of a user comes from its history and from what was learned from everybody: SASRec, co-occurrence, the
index, the content of the catalog. The second changes a little every night, for everybody at once, and each change would
make every prompt a new one. So it counts as changed only where SASRec is a new one (sasrec.refresh_days) or a setting
is; a user who took something new is retrieved with all that is known today. An item that can no longer be had, or that
the rules exclude, is taken off the candidates; so a candidate's place may stay empty.
"""

import hashlib
import json
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from mmsrarec.config import Config
from mmsrarec.schemas import TABLES
from mmsrarec.storage import tables
from mmsrarec.storage.rules import Rules

MADE = ("similar_users", "candidates", "evidence")
RETRIEVAL_VERSION = 1  # of everything in code that decides what is retrieved


@dataclass(frozen=True)
class Part:
    """Some users: those to retrieve (user_id, item_ids), their rows of `retrievals` to be, and per table the rows that
    are carried over, `retrievals` among them."""

    users: pa.Table
    new: pa.Table
    carried: dict[str, pa.Table]


class Carry:
    """Decides for ranges of users (`part`), given the items that may be listed, SASRec's identity and the rules."""

    def __init__(self, config: Config, servable: pa.Array, model_hash: str, serving: Rules):
        self._config, self._servable, self._rules = config, servable, serving
        self._wanted = max(config.recommend.top_k, 1)
        self._everybody = _everybody(config, model_hash)

    def part(self, span: list[tuple], index_version: str | None) -> Part:
        """The users of a range (a filter on user_id) who get a list, split by whether they are carried over."""
        root = self._config.lake.root
        users = self._rules.served(tables.read(root, "histories", ["user_id", "item_ids"], span)).sort_by("user_id")
        made_from = [self._made_from(item_ids) for item_ids in users["item_ids"].to_pylist()]
        before = {row["user_id"]: row for row in tables.read(root, "retrievals", filters=span).to_pylist()}
        same = [
            user_id
            for user_id, made in zip(users["user_id"].to_pylist(), made_from, strict=True)
            if user_id in before and before[user_id]["made_from"] == made
        ]
        rows = {name: tables.read(root, name, filters=span) for name in MADE} if same else {}
        kept = pa.array(self._full(same, rows["candidates"]) if rows else [], pa.string())
        carried = {name: self._still_there(name, _of(table, kept)) for name, table in rows.items()}
        carried["retrievals"] = tables.from_rows("retrievals", [before[user_id] for user_id in kept.to_pylist()])
        changed = pc.invert(pc.is_in(users["user_id"], value_set=kept))
        versions = pa.array([index_version] * len(users), pa.string())
        new = pa.table([users["user_id"], pa.array(made_from, pa.string()), versions], schema=TABLES["retrievals"])
        return Part(users.filter(changed), new.filter(changed), carried)

    def _made_from(self, item_ids: list[str]) -> str:
        return hashlib.sha256((self._everybody + json.dumps(item_ids)).encode()).hexdigest()[:16]

    def _full(self, user_ids: list[str], candidates: pa.Table) -> list[str]:
        """Those who have enough candidates that may still be listed; under a quota, all they had."""
        left = self._still_there("candidates", candidates)["user_id"].value_counts()
        counts = {row["values"]: row["counts"] for row in left.to_pylist()}
        had = {row["values"]: row["counts"] for row in candidates["user_id"].value_counts().to_pylist()}
        wanted = len(self._servable) if self._rules.limited else self._wanted
        return [user for user in user_ids if counts.get(user, 0) >= min(wanted, had.get(user, wanted))]

    def _still_there(self, name: str, rows: pa.Table) -> pa.Table:
        """Without pairs whose item may no longer be listed."""
        if name == "similar_users":
            return rows
        return rows.filter(pc.is_in(rows["item_id"], value_set=self._servable))


def _of(rows: pa.Table, user_ids: pa.Array) -> pa.Table:
    return rows.filter(pc.is_in(rows["user_id"], value_set=user_ids))


def _everybody(config: Config, model_hash: str) -> str:
    """What decides about everybody's candidates and evidence, as far as a change of it must be seen at once."""
    keywords = tables.read(config.lake.root, "item_keywords", ["model", "prompt_version"])
    makers = sorted(map(str, keywords.group_by(["model", "prompt_version"]).aggregate([]).to_pylist()))
    sections = [part.model_dump(mode="json") for part in (config.build_cf, config.summarize_items, config.retrieve)]
    rules = config.rules.model_dump(mode="json", include={"categories", "quota", "quotas"})
    others = [config.index.positions, config.recommend.top_k, config.run.seed, rules]
    return json.dumps([RETRIEVAL_VERSION, model_hash, sections, others, makers])
