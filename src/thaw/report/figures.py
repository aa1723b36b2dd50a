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
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.ticker import MaxNLocator
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from thaw.data.entities import KINDS
from thaw.report.sections import Image, cell_text
from thaw.report.tables import score_tables

Panel = Callable[[Axes], None]  # draws on the axes it is given
INK = "#010203"  # almost black; stands for the theme's colour in SVG, so nothing else may have it
SETTINGS: Any = dict.fromkeys(
    ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK
)
# Text stays text, and the same figure always gives the same file.
SETTINGS |= {"svg.fonttype": "none", "svg.hashsalt": "thaw", "legend.framealpha": 0.0}


def image(
    title: str,
    panels: Mapping[str, Panel],
    size: tuple[float, float] = (5, 3.8),
    shown: bool = True,
    note: str = "",
) -> Image:
    """Draws each panel once: a PNG shows them side by side, and an SVG of each follows the theme.

    Args:
        title: heading in the report.
        panels: functions that draw, by the alternative text of what they draw.
        size: width and height of a panel in inches.
        shown: whether the report shows the figure.
        note: sentence below the title.
    """
    pixels, drawn = [], {}
    with rc_context(SETTINGS):
        for alt, draw in panels.items():
            figure = Figure(figsize=size, dpi=150, layout="constrained")
            axes = figure.subplots()
            draw(axes)
            axes.spines[["top", "right"]].set_visible(False)
            canvas = FigureCanvasAgg(figure)
            canvas.draw()
            pixels.append(np.asarray(canvas.buffer_rgba()))
            # Placed by now: `savefig` would place everything again, and draw it twice for that.
            figure.set_layout_engine("none")
            if shown:
                drawn[alt] = svg(figure)
    png = io.BytesIO()
    imsave(png, np.hstack(pixels), dpi=150, format="png")
    return Image(title, png.getvalue(), drawn, note)


def confusion_figure(confusion: Sequence[Sequence[int]], labels: Sequence[str]) -> Image:
    """Returns a confusion matrix, with true classes in rows and counts in the cells.

    The colour of a cell is its fraction of the row. Names are drawn for up to 30 classes, counts
    for up to 15.
    """
    counts = np.asarray(confusion)
    fractions = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = min(3.2 + 0.5 * len(labels), 16)

    def draw(axes: Axes) -> None:
        cells = axes.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
        axes.figure.colorbar(cells, ax=axes, label="share of the true class", shrink=0.8)
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

    # The report shows the matrix as a table, whose numbers can be read aloud and copied.
    return image("confusion", {"confusion matrix": draw}, (size + 0.8, size), shown=False)


def error_figure(counts: Mapping[str, Mapping[str, int]]) -> Image:
    """Returns, for each entity type, how many entities were found and which errors were made.

    Only the 40 types with the most entities are drawn.
    """
    types = sorted(counts, key=lambda kind: sum(counts[kind].values()))[-40:]
    colours = ("#2f6db3", "#e8a33d", "#f3d07a", "#b8bcc2", "#c8553d")

    def draw(axes: Axes) -> None:
        left = np.zeros(len(types))
        for kind, colour in zip(KINDS, colours, strict=True):
            values = np.array([counts[name].get(kind, 0) for name in types])
            axes.barh(range(len(types)), values, left=left, color=colour, label=kind)
            left += values
        axes.set_yticks(range(len(types)), tick_labels(types))
        axes.set(xlabel="entities, gold and spurious", title="Entities found, test")
        axes.figure.legend(loc="outside lower center", ncols=len(KINDS), frameon=False)

    size = (8, 1.6 + 0.4 * len(types))
    return image("errors", {"entities found and errors": draw}, size, shown=False)


def tick_labels(names: Sequence[str]) -> list[str]:
    """Returns names shortened for an axis, with dollar signs escaped (matplotlib's formulas)."""
    short = [name if len(name) <= 20 else name[:19] + "…" for name in names]
    return [name.replace("$", r"\$") for name in short]


def svg(figure: Figure) -> str:
    """Returns a figure as an SVG image that follows the reader's light or dark theme."""
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    style = "<style>svg{color:#222}@media(prefers-color-scheme:dark){svg{color:#ddd}}</style>"
    return file.getvalue().replace(INK, "currentColor").replace("<defs>", style + "<defs>", 1)


def learning_curve(metrics_csv: Path, monitor: str, chosen: float | None = None) -> Image:
    """Returns the figure of `curves`, or a note that metrics.csv was not kept."""
    if not metrics_csv.exists():
        return Image("learning curve", note="No learning curve was kept; logger=csv keeps it.")
    return image("learning curve", curves(metrics_csv, monitor, chosen))


def curves(metrics_csv: Path, monitor: str, chosen: float | None) -> Mapping[str, Panel]:
    """Returns panels of the loss and of the validation scores, with the watched metric, against
    optimizer steps; the `chosen` step, whose weights are the result, is marked."""
    with open(metrics_csv, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))

    def series(key: str) -> tuple[list[int], list[float]]:
        # Lightning counts steps from 0; people read how many steps are done.
        points = [(int(r["step"]) + 1, float(r[key])) for r in rows if r.get(key)]
        return [step for step, _ in points], [value for _, value in points]

    def loss(axes: Axes) -> None:
        steps, losses = series("train/loss")
        several = len(losses) >= 10  # fewer points are drawn as such
        look: Any = {"alpha": 0.4} if several else {"marker": "o"}
        axes.plot(steps, losses, color="C0", label="train", **look)
        if several:
            width = max(len(losses) // 15, 2)
            smooth = np.convolve(losses, np.ones(width) / width, mode="valid")
            mean = f"train, mean of {width} points"
            axes.plot(steps[width - 1 :], smooth, color="C0", label=mean)
        axes.plot(*series("val/loss"), "o-", color="C1", label="validation")
        axes.set(xlabel="step", ylabel="loss")
        from_zero(axes)
        finish(axes)

    def score(axes: Axes) -> None:
        for key, colour in scores.items():
            axes.plot(*series(key), "o-", color=colour, label=key)
        axes.set(xlabel="step", ylabel="score")
        finish(axes)

    def finish(axes: Axes) -> None:
        if chosen is not None:
            axes.axvline(chosen, color="0.5", linestyle=":", label=f"chosen, step {chosen:.0f}")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.figure.legend(loc="outside lower center", ncols=2, frameon=False)

    known = dict.fromkeys(("val/f1", "val/accuracy", "val/precision", "val/recall", monitor))
    scores = {  # with their colours; C0 is that of training
        key: f"C{number}"
        for number, key in enumerate(known, 1)
        if key != "val/loss" and rows and key.startswith("val/") and key in rows[0]
    }
    shown = {"scores of validation against steps": score} if scores else {}
    return {"loss against steps": loss} | shown


def from_zero(axes: Axes) -> None:
    """Lets the y axis begin at zero, and leaves room above the highest point."""
    axes.set_ylim(0, 1.05 * axes.get_ylim()[1])


def reliability_panel(curves: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> Panel:
    """Returns a panel of the share of right predictions in each bin against their mean probability,
    with a line for each of `curves`."""

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color="0.65", linewidth=0.8)
        for name, (means, shares) in curves.items():
            axes.plot(means, shares, "o-", label=name)
        axes.set(xlabel="mean probability", ylabel="share of right ones")
        axes.legend()

    return draw


def scatter(points: Sequence[tuple[float, float]]) -> Panel:
    """Returns a panel of predicted numbers against labels, with the line where both are equal; of
    more than 2,000 points some are drawn, evenly spaced."""

    def draw(axes: Axes) -> None:
        shown = np.asarray(points[:: -(-len(points) // 2000)])
        axes.plot(*shown.T, "o", markersize=3, alpha=0.5, markeredgewidth=0)
        axes.axline((shown.mean(),) * 2, slope=1, color="0.65", linewidth=0.8)
        axes.set(xlabel="label", ylabel="prediction")

    return draw


def metrics_table(metrics: Mapping[str, float]) -> None:
    """Prints the scores of the test, and below them those of each class (50 classes at most)."""
    console = Console()
    for scores in score_tables(metrics):
        table = Table(title=scores.title, title_justify="left")
        for number, name in enumerate(scores.columns):
            table.add_column(name, justify="right" if number else "left")
        for label, *values in scores.rows[:50]:
            table.add_row(escape(label), *map(cell_text, values))  # [a] is a name, not a style
        console.print(table)
