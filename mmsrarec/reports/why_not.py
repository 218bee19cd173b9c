"""Why an item is not on a user's list: the steps an item goes through, in order, up to the one where it dropped out.

why_not(config, "7", "590")    of the latest night, staged or published

An item that is on the list has its steps from the list's own row. Otherwise candidates and scores are those of the
latest retrieve, and where the item is no candidate, each source is asked again for its whole order.
"""

from collections.abc import Callable, Iterator
from itertools import chain
from typing import TYPE_CHECKING

from mmsrarec.config import Config
from mmsrarec.errors import InputError
from mmsrarec.reports import steps
from mmsrarec.reports.cards import unknown
from mmsrarec.reports.item_story import not_there
from mmsrarec.reports.steps import SOURCES, Case, Step
from mmsrarec.reports.story import STAGED, VISIBLE
from mmsrarec.storage import tables

if TYPE_CHECKING:
    from mmsrarec.reports.places import Ranking  # with torch and the tokenizer, which most steps do without

Check = Callable[[Case], Iterator[Step]]


def why_not(config: Config, user_id: str, item_id: str, run_date: str | None = None) -> list[Step]:
    """The last step is the first that the item did not pass; all passed: it is on the list, and what readers see. What
    would keep an item of the list off the next one follows `published`.

    Raises InputError for an unknown user, item or night.
    """
    case = _case(config, user_id, item_id, run_date)
    today: tuple[Check, ...] = (steps.available, steps.allowed, steps.served, steps.unseen)
    if case.row(case.staged) or case.row(case.visible):
        since = [step for check in today for step in check(case) if not step.passed]
        told = [*_until_failure(case, (steps.known, steps.listed, steps.published))]
        return told + since[:1] if told[-1].passed else told
    return [*_until_failure(case, (steps.known, *today, _candidate, _ranked, _staged))]


def _case(config: Config, user_id: str, item_id: str, run_date: str | None) -> Case:
    root = config.lake.root
    users = tables.read(root, "histories", ["user_id", "item_ids"], [("user_id", "=", user_id)]).to_pylist()
    if not users:
        raise unknown(config, "histories", "user_id", user_id)
    items = tables.read(root, "catalog", filters=[("item_id", "=", item_id)]).to_pylist()
    if not items:
        raise not_there(config, item_id)
    dates = sorted({date for table in (VISIBLE, STAGED) for date in tables.partitions(root, table)})
    if run_date and run_date not in dates:
        raise InputError(f"{config.table(STAGED)}: no lists of {run_date}; there are {', '.join(dates[-9:]) or 'none'}")
    return Case(config, user_id, users[0]["item_ids"], items[0], run_date or max(dates, default=None))


def _until_failure(case: Case, checks: tuple[Check, ...]) -> Iterator[Step]:
    for step in chain.from_iterable(check(case) for check in checks):
        yield step
        if not step.passed:
            return


def _candidate(case: Case) -> Iterator[Step]:
    row = case.candidates.get(case.item_id)
    if row:
        source = SOURCES[row["source"]]
        said = f"It is candidate {row['rank']:,} of {len(case.candidates):,}, named by {source}."
        yield Step("candidate", True, said)
    elif not case.candidates:
        yield Step("candidate", False, "The user has no candidates: retrieve has not been run for this user.")
    else:
        yield _left_out(case)


def _left_out(case: Case) -> Step:
    """Why the candidates of the user do not have the item."""
    from mmsrarec.reports.places import pool

    found, wanted = pool(case.config, case.user_id, case.item_id), len(case.candidates)
    size = max(case.config.retrieve.candidates, case.config.recommend.top_k)
    cuts = {source: getattr(case.config.retrieve, f"from_{source}") for source in found.places}
    orders = ", ".join(f"{SOURCES[source]} {found.places[source]:,} (of {cuts[source]:,})" for source in cuts) or "none"
    if found.place <= size:
        said = (
            f"It would be candidate {found.place:,} by what is known today (places by source: {orders}), but the "
            f"user's {wanted:,} candidates are those of an earlier night, carried over."
        )
        return Step("candidate", False, said, "sasrec.refresh_days")
    if found.source != "popular":
        said = (
            f"It is named by {SOURCES[found.source]} (places by source: {orders}), but it would be candidate "
            f"{found.place:,} and {size:,} are kept."
        )
        return Step("candidate", False, said, f"retrieve.candidates={found.place}")
    said = f"No source names it among its best (places by source: {orders})."
    nearest = min(cuts, key=lambda source: found.places[source] - cuts[source], default=None)
    setting = f"retrieve.from_{nearest}={found.places[nearest]}" if nearest else f"retrieve.candidates={found.place}"
    return Step("candidate", False, said, setting)


def _ranked(case: Case) -> Iterator[Step]:
    from mmsrarec.reports.places import ranking

    found = ranking(case.config, case.user_id)
    item = next(scored for scored in found.ordered if scored.item_id == case.item_id)
    place, count = found.place(case.item_id), len(found.ordered)
    refused = found.unanswered.get(case.item_id)
    if item.p_yes is None and not refused:
        said = "No answer to today's prompt is kept: keywords, history or model have changed since, or it was deleted."
        yield Step("scored", False, said, "answers.keep_days")
        return
    score = f"no p_yes (the engine refused: {refused})" if refused else f"p_yes {item.p_yes:.3f}"
    said = f"It has {score}, place {place:,} of {count:,} candidates"
    quota_full = _quota_full(case, found, place)
    if item not in found.listed and not quota_full:
        last = found.listed[-1]
        least = "none" if last.p_yes is None else f"{last.p_yes:.3f}"
        said += f"; the list ends with {last.item_id} (p_yes {least}) at place {found.place(last.item_id):,}"
        yield Step("scored", False, f"{said}.", f"recommend.top_k={place}")
        return
    yield Step("scored", True, f"{said}.")
    if case.serving.limited:
        yield _quota(case, place, not quota_full)


def _quota_full(case: Case, found: "Ranking", place: int) -> bool:
    """Whether the item would be listed, but for the others of its category."""
    if any(scored.item_id == case.item_id for scored in found.listed):
        return False
    category = case.item["category"]
    same = sum(scored.category == category for scored in found.listed)
    behind = any(found.place(scored.item_id) > place for scored in found.listed)
    short = len(found.listed) < case.config.recommend.top_k
    return same >= case.serving.limit(category) and (behind or short)


def _quota(case: Case, place: int, passed: bool) -> Step:
    category = case.item["category"]
    if passed:
        return Step("quota", True, f"The list has room for category {category or 'none'}.")
    setting = f"rules.quotas.{category}" if category in case.serving.quotas else "rules.quota"
    if place > case.config.recommend.top_k:
        setting += f", with recommend.top_k={place}"
    said = f"The list has {case.serving.limit(category):,} better ones of category {category}, the most allowed."
    return Step("quota", False, said, setting)


def _staged(case: Case) -> Iterator[Step]:
    """For an item that by today's tables should be on the list, and is not on that of the night."""
    if case.run_date is None:
        yield Step("staged", False, "There are no lists yet: run recommend.")
    elif not (case.staged or case.visible):
        yield Step("staged", False, f"The user has no list of {case.run_date}: run recommend.")
    else:
        said = f"By today's tables it would be on the list; that of {case.run_date} was made before: run recommend."
        yield Step("staged", False, said)
