"""The steps of an item on its way to a user's list: how each is told, and those that the tables themselves answer."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from mmsrarec.config import Config, Publish
from mmsrarec.reports.story import STAGED, VISIBLE
from mmsrarec.storage import rules, runs, tables

SOURCES = {
    "sasrec": "SASRec",
    "similar_users": "similar users",
    "cooccurrence": "co-occurrence",
    "content": "content",
    "similar_content": "content of what similar users took",
    "new": "new items",
    "popular": "popularity, which fills up",
}


@dataclass(frozen=True)
class Step:
    """`setting` is what would change the outcome: names, with =value where it is known; None where no setting does."""

    name: str
    passed: bool
    sentence: str
    setting: str | None = None


@dataclass(frozen=True)
class Case:
    """A user, an item's row of the catalog and the night that is asked about (None where there is none yet)."""

    config: Config
    user_id: str
    history: list[str]
    item: dict
    run_date: str | None

    @property
    def item_id(self) -> str:
        return self.item["item_id"]

    @cached_property
    def serving(self) -> rules.Rules:
        return rules.load(self.config)

    @cached_property
    def candidates(self) -> dict[str, dict]:
        rows = tables.read(self.config.lake.root, "candidates", filters=[("user_id", "=", self.user_id)])
        return {row["item_id"]: row for row in rows.to_pylist()}

    @cached_property
    def staged(self) -> list[dict]:
        return self._list(STAGED)

    @cached_property
    def visible(self) -> list[dict]:
        return self._list(VISIBLE)

    def row(self, rows: list[dict]) -> dict | None:
        return next((row for row in rows if row["item_id"] == self.item_id), None)

    def _list(self, table: str) -> list[dict]:
        filters = [("run_date", "=", self.run_date), ("user_id", "=", self.user_id)]
        return tables.read(self.config.lake.root, table, filters=filters).sort_by("rank").to_pylist()


def known(case: Case) -> Iterator[Step]:
    title = f" ({case.item['title']})" if case.item["title"] else ""
    taken = case.item["interactions"] or 0
    yield Step("known", True, f"{case.item_id}{title} is in the catalog, taken {taken:,} times in training.")


def available(case: Case) -> Iterator[Step]:
    if case.item["available"] is False:
        column = case.config.inputs.columns.get("available", "available")
        said = f"The shop says that it is not available (column {column} of {case.config.inputs.items})."
        yield Step("available", False, said, "inputs.columns.available")
    else:
        yield Step("available", True, "It is available.")


def allowed(case: Case) -> Iterator[Step]:
    setting, category = case.serving.bars(case.item_id, case.item["category"]), case.item["category"]
    if setting == "rules.exclude_items":
        named = case.item_id in case.config.rules.exclude_items
        yield Step("rules", False, "The rules exclude this item.", setting if named else f"{setting}_file")
    elif setting:
        names = ", ".join(sorted(case.serving.categories))
        yield Step("rules", False, f"Its category is {category or 'none'}; the rules allow only {names}.", setting)
    else:
        yield Step("rules", True, f"No rule keeps it out{f' (category {category})' if category else ''}.")


def served(case: Case) -> Iterator[Step]:
    if case.user_id in case.serving.users:
        named = case.user_id in case.config.rules.exclude_users
        setting = "rules.exclude_users" if named else "rules.exclude_users_file"
        yield Step("user", False, "The rules exclude this user, who gets no list.", setting)
    else:
        yield Step("user", True, f"The user gets lists; items in the history: {len(case.history):,}.")


def unseen(case: Case) -> Iterator[Step]:
    if case.item_id in case.history:
        place = case.history.index(case.item_id) + 1
        said = f"The user has taken it already (item {place:,} of {len(case.history):,}); no list repeats such an item."
        yield Step("unseen", False, said)
    else:
        yield Step("unseen", True, "The user has not taken it yet.")


def listed(case: Case) -> Iterator[Step]:
    """Only for an item that is on a list of the night."""
    row = case.row(case.staged) or case.row(case.visible)
    assert row is not None
    yield Step("candidate", True, f"It was a candidate, named by {SOURCES[row['source']]}.")
    p_yes = "no p_yes" if row["p_yes"] is None else f"p_yes {row['p_yes']:.3f}"
    yield Step("scored", True, f"It had {p_yes}, enough for rank {row['rank']} of the list of {case.run_date}.")
    if case.row(case.staged):
        yield Step("staged", True, f"It is staged for {case.run_date} at rank {row['rank']} (run {row['run_id']}).")


def published(case: Case) -> Iterator[Step]:
    row = case.row(case.visible)
    if row:
        latest = max(tables.partitions(case.config.lake.root, VISIBLE))
        seen = "what readers see" if case.run_date == latest else f"an earlier night; readers see that of {latest}"
        yield Step("published", True, f"It is on the published list of {case.run_date} at rank {row['rank']}, {seen}.")
    else:
        yield _unpublished(case)


def _unpublished(case: Case) -> Step:
    night = f"the night of {case.run_date}"
    for row in reversed(runs.ledger(case.config)):
        notes = row["notes"]
        if row["stage"] == "rollback" and case.run_date in notes.get("taken_back", ()):
            said = f"Rollback to {notes['to']} took back {night} (run {row['run_id']})."
            return Step("published", False, said)
        if row["stage"] == "publish" and notes.get("run_date") == case.run_date and notes.get("failed"):
            said = f"Publish refused {night} for its gates: {', '.join(notes['failed'])} (run {row['run_id']})."
            settings = [f"publish.{name}" for name in notes["failed"] if name in Publish.model_fields]
            return Step("published", False, said, ", ".join(settings) or None)
    return Step("published", False, f"It is staged, but {night} has not been published as it is now: run publish.")
