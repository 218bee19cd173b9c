"""The evaluation on the screen: a table per protocol, a row per method, value over 95% interval, and one of its slices.

Shares are in percent, ratios to the baseline as they are. MRR, and the shorter lists' ratios, are in the table
`evaluation` but not here: they would only make the tables too wide for a terminal.
"""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mmsrarec import log
from mmsrarec.progress import aside

SHOWN = ("hr", "ndcg", "ratio_ndcg", "ratio_ndcg_fusion", "auc", "auc_pooled", "coverage", "popularity_bias")
LONGEST_ONLY = ("ratio_ndcg", "ratio_ndcg_fusion", "coverage", "popularity_bias")
SLICED = ("ndcg", "ratio_ndcg")
LOG_WIDTH = 140  # where standard output is no terminal, so that no cell is folded
Rows = list[dict]


def show(rows: Rows, baseline: str = "the baseline", console: Console | None = None) -> None:
    """Print rows of `evaluation` of one run to standard output."""
    console = console or log.console(LOG_WIDTH)
    names = list(dict.fromkeys(row["protocol"] for row in rows))
    whole = [name for name in names if name.count("/") == 1]
    with aside():
        for name in whole:
            console.print(_table(name, _of(rows, name), baseline))
        for name in whole:
            if parts := [part for part in names if part.startswith(f"{name}/")]:
                console.print(_slices(name, parts, [row for row in rows if row["protocol"] in parts]))
        said = "Percent, with the 95% bootstrap interval over users"
        ratios = f"; x: ratio to {baseline}, paired" if any(row["metric"] == "ratio_ndcg" for row in rows) else ""
        console.print(f"{said}{ratios}.", style="dim")


def _of(rows: Rows, protocol: str) -> Rows:
    return [row for row in rows if row["protocol"] == protocol]


def _table(protocol: str, rows: Rows, baseline: str) -> Table:
    longest = max(row["k"] for row in rows)
    found = dict.fromkeys((row["metric"], row["k"]) for row in rows)
    kept = [(metric, k) for metric, k in found if metric not in LONGEST_ONLY or k == longest]
    metrics = [pair for name in SHOWN for pair in kept if pair[0] == name]
    title = Text(f"{rows[0]['dataset']}  {protocol}  {rows[0]['users']:,} users")
    table = Table(title=title, title_justify="left", show_lines=True)
    table.add_column("method")
    for metric, k in metrics:
        table.add_column(_head(metric, k, baseline), justify="right")
    table.add_column("seconds", justify="right")
    cells = {(row["method"], row["metric"], row["k"]): row for row in rows}
    for method, seconds in {row["method"]: row["seconds"] for row in rows}.items():
        values = (cell(cells.get((method, *metric))) for metric in metrics)
        table.add_row(method, *values, f"{seconds:.1f}")
    return table


def _slices(protocol: str, parts: list[str], rows: Rows) -> Table:
    """NDCG at the longest k and its ratio, a row per slice, a column per method."""
    k = max(row["k"] for row in rows)
    table = Table(title=Text(f"{rows[0]['dataset']}  {protocol}  NDCG@{k} by slice"), title_justify="left")
    table.add_column("slice")
    table.add_column("users", justify="right")
    methods = list(dict.fromkeys(row["method"] for row in rows))
    for method in methods:
        table.add_column(method, justify="right")
    for part in parts:
        own = _of(rows, part)
        cells = {(row["method"], row["metric"]): row for row in own if row["metric"] in SLICED}
        values = (_short(cells.get((method, "ndcg")), cells.get((method, "ratio_ndcg"))) for method in methods)
        table.add_row(Text(part.removeprefix(f"{protocol}/")), f"{own[0]['users']:,}", *values)
    return table


def _head(metric: str, k: int, baseline: str) -> str:
    if metric.startswith("ratio_ndcg"):
        return f"x {metric.removeprefix('ratio_ndcg').strip('_') or baseline}"
    return f"{metric.upper()}@{k}".replace("_", " ") if k else metric.upper().replace("_", " ")


def _short(own: dict | None, ratio: dict | None) -> str:
    if own is None:
        return "-"
    return f"{100 * own['value']:.1f}" + (f" x{ratio['value']:.2f}" if ratio and ratio["value"] is not None else "")


def cell(row: dict | None) -> str:
    """The value of a row of `evaluation` over its interval, if it has one."""
    if row is None or row["value"] is None:
        return "-"
    scale, digits = (1, 2) if row["metric"].startswith("ratio") else (100, 1)
    value = f"{scale * row['value']:.{digits}f}"
    if row["low"] is None:
        return value
    low, high = (f"{scale * row[name]:.{digits}f}" for name in ("low", "high"))
    return f"{value}\n{low} to {high}" if low.startswith("-") else f"{value}\n{low}-{high}"
