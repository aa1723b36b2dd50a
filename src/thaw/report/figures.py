"""Draws the figures of a run, and prints its closing table.

Shapes: C classes.
"""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from thaw.data.entities import KINDS
from thaw.report.sections import cell_text, score_tables
from thaw.storage.files import atomic

Panel = Callable[[Axes], None]  # draws on the axes it is given


def confusion_figure(confusion: Sequence[Sequence[int]], labels: Sequence[str], path: Path) -> None:
    """Draws a confusion matrix, with true classes in rows and counts in the cells.

    The colour of a cell is its fraction of the row. Names are drawn for up to 30 classes, counts
    for up to 15.
    """
    counts = np.asarray(confusion)
    fractions = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = min(3.2 + 0.5 * len(labels), 16)
    figure = Figure(figsize=(size + 0.8, size), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, label="share of the true class", shrink=0.8)
    if len(labels) <= 30:
        short = tick_labels(labels)
        axes.set_xticks(range(len(labels)), short, rotation=45 if len(labels) > 3 else 0)
        axes.set_yticks(range(len(labels)), short)
    if len(labels) <= 15:
        for (i, j), count in np.ndenumerate(counts):
            colour = "white" if fractions[i, j] > 0.5 else "black"
            axes.text(j, i, f"{count:,}", ha="center", va="center", color=colour)
    which = "" if len(labels) <= 30 else ", by number in the order of labels"
    axes.set(xlabel=f"predicted{which}", ylabel=f"true{which}", title="Confusion matrix, test")
    save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """Writes a figure as PNG."""
    with atomic(path) as aside:
        figure.savefig(aside, dpi=150, format="png")


def error_figure(counts: Mapping[str, Mapping[str, int]], path: Path) -> None:
    """Draws, for each entity type, how many entities were found and which errors were made.

    Only the 40 types with the most entities are drawn.
    """
    types = sorted(counts, key=lambda kind: sum(counts[kind].values()))[-40:]
    figure = Figure(figsize=(8, 1.6 + 0.4 * len(types)), layout="constrained")
    axes = figure.subplots()
    left = np.zeros(len(types))
    colours = ("#2f6db3", "#e8a33d", "#f3d07a", "#b8bcc2", "#c8553d")
    for kind, colour in zip(KINDS, colours, strict=True):
        values = np.array([counts[name].get(kind, 0) for name in types])
        axes.barh(range(len(types)), values, left=left, color=colour, label=kind)
        left += values
    axes.set_yticks(range(len(types)), tick_labels(types))
    axes.set(xlabel="entities, gold and spurious", title="Entities found, test")
    figure.legend(loc="outside lower center", ncols=len(KINDS), frameon=False)
    save(figure, path)


def tick_labels(names: Sequence[str]) -> list[str]:
    """Returns names shortened for an axis, with dollar signs escaped (matplotlib's formulas)."""
    short = [name if len(name) <= 20 else name[:19] + "…" for name in names]
    return [name.replace("$", r"\$") for name in short]


def learning_curve_figure(metrics_csv: Path, path: Path) -> None:
    """Draws training loss, validation loss and validation scores against optimizer steps."""
    save(draw_beside(curves(metrics_csv)), path)


def draw_beside(panels: Sequence[Panel], height: float = 3.8) -> Figure:
    """Returns a figure with `panels` side by side, `height` inches high."""
    figure = Figure(figsize=(5 * len(panels), height), layout="constrained")
    for axes, draw in zip(np.ravel(figure.subplots(1, len(panels))), panels, strict=True):
        draw(axes)
    return figure


def svg(draw: Panel, height: float = 3.4) -> str:
    """Returns a panel as an SVG image that follows the reader's light or dark theme."""
    ink = "#010203"  # stands for the theme's colour, so nothing else may have it
    settings: Any = dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), ink
    )
    # Text stays text, and the same figure always gives the same file.
    settings |= {"svg.fonttype": "none", "svg.hashsalt": "thaw", "legend.framealpha": 0.0}
    with rc_context(settings):
        figure = Figure(figsize=(5, height), layout="constrained")
        axes = figure.subplots()
        draw(axes)
        axes.spines[["top", "right"]].set_visible(False)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    style = "<style>svg{color:#222}@media(prefers-color-scheme:dark){svg{color:#ddd}}</style>"
    return file.getvalue().replace(ink, "currentColor").replace("<defs>", style + "<defs>", 1)


def curves(metrics_csv: Path) -> list[Panel]:
    """Returns panels of the loss and of the validation scores against optimizer steps.

    Returns:
        One panel, or two if the file has validation scores.
    """
    with open(metrics_csv, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))

    def series(key: str) -> tuple[list[int], list[float]]:
        # Lightning counts steps from 0; people read how many steps are done.
        points = [(int(r["step"]) + 1, float(r[key])) for r in rows if r.get(key)]
        return [step for step, _ in points], [value for _, value in points]

    def loss(axes: Axes) -> None:
        steps, losses = series("train/loss")
        axes.plot(steps, losses, color="0.65", linewidth=0.8, label="train")
        if len(losses) >= 10:
            width = max(len(losses) // 15, 2)
            smooth = np.convolve(losses, np.ones(width) / width, mode="valid")
            axes.plot(steps[width - 1 :], smooth, label=f"train, mean of {width} points")
        axes.plot(*series("val/loss"), "o-", label="validation")
        axes.set(xlabel="step", ylabel="loss", ylim=(0, None))
        finish(axes)

    def score(axes: Axes) -> None:
        for key in scores:
            axes.plot(*series(key), "o-", label=key)
        axes.set(xlabel="step", ylabel="score")
        finish(axes)

    def finish(axes: Axes) -> None:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.legend()

    known = ("val/f1", "val/accuracy", "val/precision", "val/recall")
    scores = [key for key in known if rows and key in rows[0]]
    return [loss, score] if scores else [loss]


def reliability_panel(curves: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> Panel:
    """Returns a panel of the share of right predictions against their mean probability.

    Args:
        curves: both in each bin, by the name of the line.
    """

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color="0.65", linewidth=0.8)
        for name, (means, shares) in curves.items():
            axes.plot(means, shares, "o-", label=name)
        axes.set(xlabel="mean probability", ylabel="share of right ones")
        axes.legend()

    return draw


def scatter(points: Sequence[tuple[float, float]]) -> Panel:
    """Returns a panel of predicted numbers against labels, with the line where both are equal.

    Args:
        points: label and prediction of each text; of more than 2,000 some are drawn, evenly spaced.
    """

    def draw(axes: Axes) -> None:
        shown = np.asarray(points[:: -(-len(points) // 2000)])
        axes.plot(*shown.T, "o", markersize=3, alpha=0.5, markeredgewidth=0)
        axes.axline((shown.mean(),) * 2, slope=1, color="0.65", linewidth=0.8)
        axes.set(xlabel="label", ylabel="prediction")

    return draw


def metrics_table(metrics: Mapping[str, float], console: Console | None = None) -> None:
    """Prints the scores of the test, and below them those of each class (50 classes at most)."""
    console = console or Console()
    for scores in score_tables(metrics):
        table = Table(title=scores.title, title_justify="left")
        for number, name in enumerate(scores.columns):
            table.add_column(name, justify="right" if number else "left")
        for label, *values in scores.rows[:50]:
            table.add_row(escape(label), *map(cell_text, values))  # [a] is a name, not a style
        console.print(table)
