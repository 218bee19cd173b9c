"""A finding of `mmsrarec check`, and the report made of them: a table on a terminal, plain lines in a pipe, or JSON."""

import json
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mmsrarec.redact import hidden

Level = Literal["error", "warning", "ok"]
LEVELS: tuple[Level, ...] = ("error", "warning", "ok")
COLORS = {"error": "bold red", "warning": "yellow", "ok": "green"}


@dataclass(frozen=True)
class Finding:
    """`where` is a setting, a file or a part of the machine; a finding that is ok needs no remedy.

    An error stops a run or makes its lists worthless; a warning costs rows or quality.
    """

    level: Level
    where: str
    what: str
    remedy: str = ""


def ordered(found: Iterable[Finding]) -> list[Finding]:
    """Worst first, else as they were found."""
    return sorted(found, key=lambda finding: LEVELS.index(finding.level))


def show(found: list[Finding], seconds: float, as_json: bool) -> None:
    """Print the report to standard output."""
    counts = Counter(finding.level for finding in found)
    if as_json:
        summary = {"counts": {level: counts[level] for level in LEVELS}, "seconds": round(seconds, 1)}
        whole = {"findings": [asdict(finding) for finding in found], **summary}
        print(hidden(json.dumps(whole, ensure_ascii=False, indent=2)))
        return
    console = Console(soft_wrap=not sys.stdout.isatty(), highlight=False, markup=False)
    if sys.stdout.isatty():
        console.print(table(found))
    else:
        for finding in found:
            console.print(f"{finding.level:8}{finding.where}: {' '.join(_said(finding).split())}")
    counted = ", ".join(
        f"{counts[level]} {level}{'s' if level != 'ok' and counts[level] != 1 else ''}" for level in LEVELS
    )
    console.print(f"{counted}; {seconds:.1f} s")


def _said(finding: Finding) -> str:
    return hidden(f"{finding.what} → {finding.remedy}" if finding.remedy else finding.what)


def table(found: list[Finding]) -> Table:
    """The report for a terminal; text that comes from the data is never taken for markup."""
    shown = Table("", "where", "what", "remedy")
    for finding in found:
        level = Text(finding.level, COLORS[finding.level])
        shown.add_row(level, *map(Text, (finding.where, hidden(finding.what), finding.remedy)))
    return shown
