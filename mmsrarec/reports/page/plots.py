"""The figures as pictures: matplotlib in, <svg> out (svg.py), narrow enough for a phone; by name, for the template."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.typing import RcKeyType

from mmsrarec.reports.page import svg
from mmsrarec.reports.page.figures import Figures
from mmsrarec.reports.page.lists import BINS, Lists
from mmsrarec.reports.page.outcome import Course, Protocol
from mmsrarec.reports.page.svg import ACCENT, INK, LINE, MUTED

logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it tells of its font cache, which nobody asked for
INCHES = 72  # points, which are the page's pixels
WIDTH, HEIGHT = 330, 215
BARS = 50  # of the distribution of scores
OURS = "mmsrarec"
STYLE: dict[RcKeyType, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "mmsrarec",
    "font.size": 11,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": LINE,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "lines.linewidth": 2,
    "legend.frameon": False,
    "axes.formatter.useoffset": False,
}
PERCENT = FuncFormatter(lambda value, _: f"{100 * value:.4g}%")
COUNT = FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else "")
Plots = dict[str, Markup]


def draw(figures: Figures) -> Plots:
    """scores, overlap, sources, words, evaluation-N-M (protocol, metric), course-N; those that there is data for."""
    found: Plots = {}
    if figures.lists and figures.lists.rows:
        fill = partial(_scores, now=figures.lists, before=figures.lists_before)
        found["scores"] = _plot("scores", "Distribution of the scores", fill)
    if figures.overlap and figures.overlap.compared:
        said = "Users by the number of items that were on their list the night before"
        found["overlap"] = _plot("overlap", said, partial(_overlap, users=figures.overlap.users))
    if figures.sources:
        height = 60 + 34 * len(figures.sources)
        said = "Share of the candidates and of the list places by source"
        found["sources"] = _plot("sources", said, partial(_sources, figures=figures), height)
    if figures.words.vocabulary.num_rows:
        said = "Items per keyword, keywords by frequency"
        found["words"] = _plot("words", said, partial(_words, figures=figures))
    for number, protocol in enumerate(figures.evaluation.protocols if figures.evaluation else []):
        for place, metric in enumerate(protocol.metrics):
            name, said = f"evaluation-{number}-{place}", f"{_label(metric)} by method, {protocol.name}"
            height = 62 + 26 * len(protocol.methods)
            found[name] = _plot(name, said, partial(_methods, protocol=protocol, metric=metric), height)
    for number, course in enumerate(figures.courses):
        name, said = f"course-{number}", f"{course.name} of {course.stage} by step"
        found[name] = _plot(name, said, partial(_course, course=course))
    return found


def _plot(name: str, said: str, fill: Callable[[Axes], None], height: int = HEIGHT) -> Markup:
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH / INCHES, height / INCHES), dpi=INCHES, layout="constrained")
        fill(figure.subplots())
        return svg.inline(figure, name, said)


def _scores(axes: Axes, now: Lists, before: Lists | None) -> None:
    edges = np.linspace(0, 1, BARS + 1)

    def shares(lists: Lists) -> np.ndarray:
        return lists.scores.reshape(BARS, BINS // BARS).sum(axis=1) / max(lists.rows, 1)

    axes.stairs(shares(now), edges, fill=True, color=ACCENT, label="tonight")
    if before:
        axes.stairs(shares(before), edges, color=INK, linewidth=1.2, label="the night before")
        axes.legend(loc="best", fontsize=10)
    axes.set_xlabel("score")
    axes.yaxis.set_major_formatter(PERCENT)
    axes.grid(axis="x", visible=False)
    axes.set_xlim(0, 1)


def _overlap(axes: Axes, users: list[int]) -> None:
    shares = np.array(users) / max(sum(users), 1)
    axes.bar(range(len(users)), shares, color=ACCENT, width=0.82)
    axes.set_xlabel("items that stay on a user's list")
    axes.yaxis.set_major_formatter(PERCENT)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="x", visible=False)


def _sources(axes: Axes, figures: Figures) -> None:
    sources = list(reversed(figures.sources))
    places = np.arange(len(sources))
    for shift, color, name, label in (
        (0.2, MUTED, "candidates", "of candidates"),
        (-0.2, ACCENT, "listed", "of lists"),
    ):
        counts = np.array([getattr(source, name) for source in sources], float)
        axes.barh(places + shift, counts / max(counts.sum(), 1), height=0.36, color=color, label=label)
    axes.set_yticks(places, [source.name.replace("_", " ") for source in sources])
    axes.xaxis.set_major_formatter(PERCENT)
    axes.grid(axis="y", visible=False)
    axes.legend(loc="lower right", fontsize=10)


def _words(axes: Axes, figures: Figures) -> None:
    counts = figures.words.vocabulary["count"].to_numpy()
    steps = np.flatnonzero(np.diff(counts, append=0)) + 1  # one point per different count
    axes.plot(steps, counts[steps - 1], color=ACCENT, drawstyle="steps-pre", marker="o", markersize=2.5)
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(COUNT)
        axis.set_minor_formatter("")
    axes.set_xlabel("keywords, the most frequent first")
    axes.set_ylabel("items")


def _methods(axes: Axes, protocol: Protocol, metric: tuple[str, int]) -> None:
    rows = {method: row for method in protocol.methods if (row := protocol.cell(method, metric))}
    methods = sorted(rows, key=lambda method: rows[method]["value"])
    for place, method in enumerate(methods):
        row, color = rows[method], ACCENT if method == OURS else MUTED
        axes.hlines(place, row["low"], row["high"], color=color, linewidth=2)
        axes.plot(row["value"], place, "o", color=color, markersize=7)
    axes.set_yticks(range(len(methods)), [method.replace("_", " ") for method in methods])
    axes.set_ylim(-0.6, len(methods) - 0.4)
    axes.set_title(_label(metric))
    axes.xaxis.set_major_formatter(PERCENT)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.grid(axis="y", visible=False)


def _course(axes: Axes, course: Course) -> None:
    axes.plot(course.steps, course.values, color=ACCENT, marker="o" if len(course.steps) < 3 else None)
    axes.set_title(course.name.replace("_", " "))
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _label(metric: tuple[str, int]) -> str:
    name, k = metric
    return f"{name.upper()}@{k}" if k else name.upper().replace("_", " ")
