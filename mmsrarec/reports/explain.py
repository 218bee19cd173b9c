"""`mmsrarec explain`: the stories of story.py, item_story.py and why_not.py on a terminal.

Everything that came from the shop is shown as plain text, never as markup or as a terminal's codes.
"""

import sys

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from mmsrarec.config import Config
from mmsrarec.errors import ConfigError
from mmsrarec.reports.cards import ItemCard
from mmsrarec.reports.item_story import ItemStory, Together, of_item
from mmsrarec.reports.steps import SOURCES, Step
from mmsrarec.reports.story import Listed, UserStory, of_users

TITLE_CHARS = 40
TEXT_CHARS = 600
FILE_WIDTH = 200  # where the output is no terminal
REASONS = 8  # keywords shown that brought an item on lists
PIECES = {  # of the evidence, as a column shows them
    "cooccurrence": "together {:.3f}",
    "transition": "follows {:.3f}",
    "similar_users": "similar users {}",
    "content": "like history {:.2f}",
    "similar_content": "like others {:.2f}",
    "sasrec_rank": "SASRec rank {}",
    "popularity": "taken {} times",
}


def explain(
    config: Config,
    user_id: str | None = None,
    item_id: str | None = None,
    why_not: str | None = None,
    run_date: str | None = None,
) -> None:
    """Print the story of the user or of the item, or why the item `why_not` is not on the user's list."""
    console = Console(width=None if sys.stdout.isatty() else FILE_WIDTH)
    if user_id and why_not and not item_id:
        from mmsrarec.reports.why_not import why_not as steps_of  # it alone takes SASRec and the tokenizer

        with console.status("asking the sources"):
            steps = steps_of(config, user_id, why_not, run_date)
        console.print(render_steps(user_id, why_not, steps))
    elif user_id and not item_id and not why_not:
        console.print(render_user(of_users(config, [user_id], run_date)[0]))
    elif item_id and not user_id and not why_not:
        console.print(render_item(of_item(config, item_id, run_date)))
    else:
        raise ConfigError("explain: give --user ID, or --item ID, or --user ID --why-not ITEM")


def render_user(story: UserStory) -> RenderableType:
    history = _table(f"History, {len(story.history)} items, oldest first", "#", "item", "title", "keywords")
    for place, card in enumerate(story.history, 1):
        _add(history, place, *_card(card))
    nearest = f"Similar users, the nearest {len(story.similar)}, took next"
    similar = _table(nearest, "#", "user", "cosine", "item", "title", "keywords")
    for near in story.similar:
        _add(similar, near.rank, near.user_id, _number(near.similarity), *_card(near.next_item))
    head = Text(f"User {_plain(story.user_id)} ({story.split} split)", style="bold")
    return Group(head, history, similar, _list(story), _not_listed(story))


def _list(story: UserStory) -> Table:
    day = f"List of {story.run_date}, by run {story.run_id}" if story.run_date else "No list yet; run recommend"
    if story.previous:
        day += f"; {sum(listed.item.item_id in story.previous for listed in story.listed)} items as the night before"
    table = _table(day, "#", "item", "title", "p_yes", "source", "because", "keywords", "evidence")
    for listed in story.listed:
        new = " new" if story.previous and listed.item.item_id not in story.previous else ""
        because = ", ".join(listed.because) or "no shared keyword"
        shown = _number(listed.p_yes), listed.source, because, ", ".join(listed.item.keywords), _evidence(listed)
        _add(table, f"{listed.rank}{new}", listed.item.item_id, _title(listed.item), *shown)
    if story.marks:
        table.caption = Text(_plain(story.marks))
    return table


def _evidence(listed: Listed) -> str:
    known = {name: value for name, value in listed.evidence.items() if value is not None and name in PIECES}
    return ", ".join(PIECES[name].format(value) for name, value in known.items()) or "not kept"


def _not_listed(story: UserStory) -> Table:
    title = f"Other candidates, {len(story.not_listed)} (--why-not ITEM says where one dropped out)"
    table = _table(title, "#", "item", "title", "source", "cf_score", "evidence as the model read it")
    for other in story.not_listed:
        shown = other.source, _number(other.cf_score), other.levels
        _add(table, other.rank, other.item.item_id, _title(other.item), *shown)
    return table


def render_item(story: ItemStory) -> RenderableType:
    card = story.card
    title = f" {_plain(card.title)}" if card.title else ""
    facts = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    facts.add_column(style="bold")
    facts.add_column(overflow="fold")
    for name, value in _facts(story).items():
        _add(facts, name, value)
    others = [_neighbors("Taken together with", story.together), _neighbors("Then taken", story.next)]
    return Group(Text(f"Item {_plain(card.item_id)}{title}", style="bold"), facts, *others)


def _facts(story: ItemStory) -> dict[str, str]:
    """Name and value of each line about the item."""
    card, made, lists = story.card, story.keywords, story.lists
    facts = {
        "category": card.category or "none",
        "available": "yes" if card.available else "no: never listed",
        "text": (story.text or "none")[:TEXT_CHARS],
        "picture": f"{card.image or 'none'}{f' ({made.image_note})' if made and made.image_note else ''}",
    }
    if story.barred_by:
        facts["available"] += f"; {story.barred_by} keeps it out"
    if made:
        facts["keywords of the picture"] = ", ".join(made.image) or "none"
        facts["keywords of the text"] = ", ".join(made.text) or "none"
        facts["said by"] = f"{made.model}, prompt {made.prompt_version}, run {made.run_id}"
        before = "" if made.before is None else f"; before that: {', '.join(made.before) or 'none'}"
        facts["last changed"] = f"{made.changed or 'on a night that the ledger does not know'}{before}"
    else:
        facts["keywords"] = "none yet; run summarize_items"
    facts["taken"] = f"{story.interactions:,} times in training"
    facts["candidate of"] = f"{story.candidate_of:,} users"
    facts |= {f"rejected by {reject.stage}": f"{reject.error}: {reject.message}" for reject in story.rejected}
    if lists is None:
        return facts | {"lists": "none yet"}
    share = f"{lists.count:,} of {lists.of:,} lists of {lists.run_date}"
    rank = "" if lists.mean_rank is None else f", mean rank {lists.mean_rank:.1f}"
    facts["lists"] = f"{share}{rank}{'' if lists.before is None else f'; {lists.before:,} the night before'}"
    if lists.count:
        facts["named by"] = ", ".join(f"{SOURCES[source]} {count:,}" for source, count in lists.sources.items())
        reasons = list(lists.reasons.items())[:REASONS]
        facts["because of"] = ", ".join(f"{word} {count:,}" for word, count in reasons) or "no shared keyword"
        facts["among them users"] = ", ".join(lists.users)
    return facts


def _neighbors(title: str, others: list[Together]) -> Table:
    table = _table(f"{title}, the nearest {len(others)}", "item", "title", "keywords", "pairs", "score")
    for other in others:
        _add(table, *_card(other.item), other.count, _number(other.score))
    return table


def render_steps(user_id: str, item_id: str, steps: list[Step]) -> RenderableType:
    last = steps[-1]
    table = _table(f"Item {_plain(item_id)} on its way to user {_plain(user_id)}", "", "step", "what happened")
    for step in steps:
        _add(table, "yes" if step.passed else "NO", step.name, step.sentence)
    if last.passed:
        return Group(table, Text("It passed every step: it is on the list.", style="bold"))
    remedy = f"What would change it: {last.setting}" if last.setting else "No setting changes it."
    return Group(table, Text(f"It dropped out at: {last.name}. {_plain(remedy)}", style="bold"))


def _table(title: str, *columns: str) -> Table:
    table = Table(title=Text(_plain(title)), title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _add(table: Table, *cells: object) -> None:
    table.add_row(*(Text(_plain(str(cell))) for cell in cells))


def _plain(text: str) -> str:
    """Without control characters, which a terminal would obey."""
    return "".join(c if c.isprintable() else " " for c in text)


def _card(card: ItemCard) -> tuple[str, str, str]:
    return card.item_id, _title(card), ", ".join(card.keywords)


def _title(card: ItemCard) -> str:
    title = card.title or ""
    return title if len(title) <= TITLE_CHARS else f"{title[: TITLE_CHARS - 1]}…"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
