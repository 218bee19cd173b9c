"""The evaluation on the screen: a table per protocol, a row per method, value over 95% interval, in percent.

MRR is in the table `evaluation` but not here: beside NDCG it would only make the table too wide for a terminal.
"""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mmsrarec import log
from mmsrarec.progress import aside

SHOWN = ("hr", "ndcg", "auc", "auc_pooled")
LOG_WIDTH = 120  # where standard output is no terminal, so that no cell is folded


def show(rows: list[dict], console: Console | None = None) -> None:
    """Print rows of `evaluation` of one run to standard output."""
    console = console or Console(file=log.results(), width=None if log.results().isatty() else LOG_WIDTH)
    with aside():
        for protocol in dict.fromkeys(row["protocol"] for row in rows):
            console.print(_table(protocol, [row for row in rows if row["protocol"] == protocol]))
        console.print("Percent, with the 95% bootstrap interval over users.", style="dim")


def _table(protocol: str, rows: list[dict]) -> Table:
    metrics = list(dict.fromkeys((row["metric"], row["k"]) for row in rows if row["metric"] in SHOWN))
    title = Text(f"{rows[0]['dataset']}  {protocol}  {rows[0]['users']:,} users")
    table = Table(title=title, title_justify="left", show_lines=True)
    table.add_column("method")
    for metric, k in metrics:
        table.add_column(f"{metric.upper()}@{k}" if k else metric.upper().replace("_", " "), justify="right")
    table.add_column("seconds", justify="right")
    cells = {(row["method"], row["metric"], row["k"]): row for row in rows}
    for method, seconds in {row["method"]: row["seconds"] for row in rows}.items():
        values = (_cell(cells.get((method, *metric))) for metric in metrics)
        table.add_row(method, *values, f"{seconds:.1f}")
    return table


def _cell(row: dict | None) -> str:
    if row is None:
        return "-"
    value, low, high = (100 * row[name] for name in ("value", "low", "high"))
    return f"{value:.1f}\n{low:.1f}-{high:.1f}"
