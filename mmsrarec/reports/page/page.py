"""The page: figures, plots and looks into template/, to one file below LIMIT bytes.

Nothing that comes from the shop is trusted. Every value is escaped and freed of characters that are not seen or that
turn the text around; no value is put where a browser looks for a script, a style or an address. And should something
get through: the page's own policy lets nothing run but its one script, and nothing be fetched at all.
"""

import base64
import hashlib
import unicodedata
from dataclasses import replace
from datetime import UTC
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from mmsrarec.config import Config
from mmsrarec.errors import ConfigError
from mmsrarec.reports.page import looks as seen
from mmsrarec.reports.page.figures import Figures
from mmsrarec.reports.page.lists import QUANTILES
from mmsrarec.reports.page.looks import Looks
from mmsrarec.reports.page.plots import Plots
from mmsrarec.reports.page.words import shares
from mmsrarec.storage import files
from mmsrarec.storage.runs import seconds

LIMIT = 8_000_000
TEMPLATE = Path(__file__).parent / "template"
JOINERS = "\u200c\u200d"  # unseen, but part of how Persian and emoji are written
SOURCES = {
    "sasrec": "SASRec expects it next",
    "similar_users": "similar users took it next",
    "cooccurrence": "taken together with the history",
    "content": "its keywords are like the history's",
    "similar_content": "its keywords are like what similar users took",
    "new": "new in the shop",
    "linear": "goes with all of the history",
    "follows": "taken after the latest items",
    "text": "its text is like the history's",
    "keywords": "its keywords are like the history's",
    "popular": "popular",
}


def render(config: Config, figures: Figures, plots: Plots, looks: Looks) -> str:
    """HTML of at most LIMIT bytes; where it would be longer, the last users are left out, and the page says so."""
    style, script = (Markup((TEMPLATE / name).read_text(encoding="utf-8")) for name in ("style.css", "page.js"))
    values = {"config": config, "figures": figures, "plots": plots, "style": style, "script": script}
    values |= {
        "policy": _policy(style, script),
        "asked": len(looks.users),
        "seen": seen,
        "sources": SOURCES,
        "quantiles": QUANTILES,
    }
    template = _environment().get_template("page.html")
    while True:
        numbers = {item_id: number for number, item_id in enumerate(looks.pictures)}
        html = template.render(values, looks=looks, numbers=numbers)
        size = len(html.encode())
        if size <= LIMIT or not looks.users:
            return html
        looks = replace(looks, users=looks.users[: int(len(looks.users) * 0.9 * LIMIT / size)])


def write(html: str, place: str | Path) -> None:
    """Whoever reads the file sees the old page or the new one."""
    try:
        files.write(place, html.encode())
    except (PermissionError, FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        remedy = "name another file by --out or report.out"
        raise ConfigError(f"{place}: the page cannot be written there ({error.strerror}); {remedy}") from None


def plain(value: object) -> object:
    """Text as people can see it: control characters, direction marks and zero-width characters go."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return "".join(_seen(character) for character in value)


def _seen(character: str) -> str:
    kind = unicodedata.category(character)
    if kind in ("Cc", "Zl", "Zp"):
        return " "
    return "" if kind in ("Cf", "Cs") and character not in JOINERS else character


def _environment() -> Environment:
    found = Environment(
        loader=FileSystemLoader(TEMPLATE),
        autoescape=True,
        finalize=plain,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "number": _number,
        "compact": _compact,
        "percent": lambda value: f"{100 * value:.3g}%" if value < 0.9995 else f"{100 * value:.4g}%",
        "score": lambda value: f"{value:.3f}",
        "duration": _duration,
        "when": lambda value: f"{value.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if value else "–",
        "words": lambda value: str(value).replace("_", " "),
        "cut": lambda value, length: value if len(value) <= length else f"{value[: length - 1]}…",
        "seconds": seconds,
        "shares": shares,
        "metric": _metric,
    }
    return found


def _policy(style: str, script: str) -> str:
    hashes = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script))
    style_hash, script_hash = (f"'sha256-{digest}'" for digest in hashes)
    return (
        f"default-src 'none'; img-src data:; style-src {style_hash}; script-src {script_hash}; "
        "base-uri 'none'; form-action 'none'"
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() or abs(value) >= 100 else f"{value:,.2f}"


def _compact(value: float) -> str:
    for size, sign in ((1e9, "G"), (1e6, "M")):
        if value >= size:
            return f"{value / size:.3g} {sign}"
    return _number(value)


def _duration(value: float) -> str:
    if abs(value) < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _metric(metric: tuple[str, int]) -> str:
    name, k = metric
    return f"{name.upper()}@{k}" if k else name.upper().replace("_", " ")
