"""Figures and the closing table of a run."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from functools import partial
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
from thaw.report.sections import scores_of, shown_number
from thaw.storage.files import atomic

Panel = Callable[[Axes], None]


def confusion_figure(confusion: Sequence[Sequence[int]], labels: Sequence[str], path: Path) -> None:
    """Draws a confusion matrix: true classes in rows, shares of a row as colour, counts written.

    Args:
        confusion: (C, C) counts.
        labels: C names.
        path: of a PNG.
    """
    counts = np.asarray(confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = min(3.2 + 0.5 * len(labels), 16)
    figure = Figure(figsize=(size + 0.8, size), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, label="share of the true class", shrink=0.8)
    if len(labels) <= 30:
        short = shown(labels)
        axes.set_xticks(range(len(labels)), short, rotation=45 if len(labels) > 3 else 0)
        axes.set_yticks(range(len(labels)), short)
    if len(labels) <= 15:
        for (i, j), count in np.ndenumerate(counts):
            colour = "white" if shares[i, j] > 0.5 else "black"
            axes.text(j, i, f"{count:,}", ha="center", va="center", color=colour)
    which = "" if len(labels) <= 30 else ", by number in the order of labels"
    axes.set(xlabel=f"predicted{which}", ylabel=f"true{which}", title="Confusion matrix, test")
    save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """Writes a figure as PNG."""
    with atomic(path) as aside:
        figure.savefig(aside, dpi=150, format="png")


def error_figure(counts: Mapping[str, Mapping[str, int]], path: Path) -> None:
    """Draws, for each entity type, how many entities were right and what went wrong with others.

    Args:
        counts: entities by type and then by kind, one of `thaw.data.entities.KINDS`.
        path: of a PNG.
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
    axes.set_yticks(range(len(types)), shown(types))
    axes.set(xlabel="entities, gold and spurious", title="Entities found, test")
    figure.legend(loc="outside lower center", ncols=len(KINDS), frameon=False)
    save(figure, path)


def shown(names: Sequence[str]) -> list[str]:
    """Names as a figure draws them: short, and dollars are no formula."""
    short = [name if len(name) <= 20 else name[:19] + "…" for name in names]
    return [name.replace("$", r"\$") for name in short]


def learning_curve_figure(metrics_csv: Path, path: Path) -> None:
    """Draws training and validation loss and the validation scores against optimizer steps.

    Args:
        metrics_csv: as Lightning's CSVLogger writes it.
        path: of a PNG.
    """
    save(draw_beside(curves(metrics_csv)), path)


def draw_beside(panels: Sequence[Panel], height: float = 3.8) -> Figure:
    """A figure of panels side by side."""
    figure = Figure(figsize=(5 * len(panels), height), layout="constrained")
    for axes, draw in zip(np.ravel(figure.subplots(1, len(panels))), panels, strict=True):
        draw(axes)
    return figure


def svg(draw: Panel, height: float = 3.4) -> str:
    """A panel as an SVG image of its own, in the reader's light or dark colours."""
    ink = "#010203"  # no other colour of the figure
    settings: Any = dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), ink
    )
    # Text stays text, and equal figures are equal files.
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
    """Loss, and the scores of validation, against optimizer steps.

    Args:
        metrics_csv: as Lightning's CSVLogger writes it.
    """
    with open(metrics_csv, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))

    def series(key: str) -> tuple[list[int], list[float]]:
        # Lightning counts steps from 0; what people read counts those that are done.
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


def metrics_table(metrics: Mapping[str, float], console: Console | None = None) -> None:
    """Prints the test's scores, those of each class below.

    Args:
        metrics: what `metrics.json` holds.
        console: where; None: standard output.
    """
    console = console or Console()
    for scores in scores_of(metrics):
        table = Table(title=scores.title, title_justify="left")
        for number, name in enumerate(scores.columns):
            table.add_column(name, justify="right" if number else "left")
        for label, *values in scores.rows[:50]:
            table.add_row(escape(label), *map(shown_number, values))  # [a] is a name, not a style
        console.print(table)


def sweep_figure(
    rows: Sequence[tuple[Mapping[str, str], Sequence[float], Sequence[float]]],
    axes: Sequence[str],
    score: str,
    path: Path,
) -> None:
    """Draws score and seconds of a sweep against its first key, a line for each value of the rest.

    Args:
        rows: the values of the swept keys, scores and seconds of the runs that have them.
        axes: the swept keys; the first one is the horizontal axis.
        score: the score's name.
        path: of a PNG.
    """
    panels, lines = sweep_panels(rows, axes, score)
    figure = draw_beside(panels, 3.8 + 0.2 * lines)
    runs = max(len(scores) for _, scores, _ in rows)
    if runs > 1:
        figure.suptitle(f"mean and standard deviation of up to {runs} runs", fontsize=10)
    save(figure, path)


def sweep_panels(
    rows: Sequence[tuple[Mapping[str, str], Sequence[float], Sequence[float]]],
    axes: Sequence[str],
    score: str,
) -> tuple[list[Panel], int]:
    """Score, and seconds, against the first key of a sweep; see `sweep_figure`.

    Returns:
        The panels, and how many lines each has.
    """
    key = axes[0] if axes else ""
    ticks = list(dict.fromkeys(row[0].get(key, "") for row in rows))
    try:
        places, mark = [float(tick) for tick in ticks], "o-"
    except ValueError:
        places, mark = [float(i) for i in range(len(ticks))], "o"  # nothing lies between names
    where = dict(zip(ticks, places, strict=True))
    lines: dict[str, list] = {}
    for values, scores, seconds in rows:
        name = ", ".join(f"{k}={values[k]}" for k in axes[1:])
        lines.setdefault(name, []).append((where[values.get(key, "")], scores, seconds))

    wide = min(places) > 0 and max(places) >= 10 * min(places)  # as of rates, or 4,8,16,32,64

    def beside(x: float, line: int) -> float:
        """A place a little aside, so that spreads at one value do not hide each other."""
        part = 0.008 * (line - (len(lines) - 1) / 2)
        low, high = min(places), max(places)
        return x * (high / low) ** part if wide else x + (high - low) * part

    def draw(panel: Axes, column: int, title: str) -> None:
        for line, (name, points) in enumerate(lines.items()):
            means = [np.mean(p[column]) for p in points]
            errors = [np.std(p[column], ddof=1) if len(p[column]) > 1 else 0.0 for p in points]
            at = [beside(p[0], line) for p in points]
            panel.errorbar(at, means, yerr=errors, fmt=mark, capsize=3, label=name or None)
        panel.set(xlabel=key, ylabel=title)
        if wide:
            panel.set_xscale("log")
            panel.minorticks_off()
        if len(places) <= 12:
            panel.set_xticks(places, shown(ticks))
        if column == 2:
            panel.set_ylim(bottom=0)
        if len(lines) > 1:
            panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), frameon=False)

    titles = {1: score, 2: "seconds of training"}
    return [partial(draw, column=n, title=t) for n, t in titles.items()], len(lines)
