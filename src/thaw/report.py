"""Figures and the closing table of a run."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from thaw.entities import KINDS
from thaw.files import whole

COLUMNS = ("f1", "precision", "recall", "support")


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
    axes.set(xlabel="predicted", ylabel="true", title="Confusion matrix, test")
    save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """Writes a figure as PNG."""
    with whole(path) as aside:
        figure.savefig(aside, dpi=150, format="png")


def error_figure(counts: Mapping[str, Mapping[str, int]], path: Path) -> None:
    """Draws, for each entity type, how many entities were right and what went wrong with others.

    Args:
        counts: entities by type and then by kind, one of `thaw.entities.KINDS`.
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
    with open(metrics_csv, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))

    def series(key: str) -> tuple[list[int], list[float]]:
        points = [(int(r["step"]), float(r[key])) for r in rows if r.get(key)]
        return [step for step, _ in points], [value for _, value in points]

    figure = Figure(figsize=(10, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    steps, losses = series("train/loss")
    left.plot(steps, losses, color="0.75", linewidth=0.8)
    if len(losses) >= 10:
        width = max(len(losses) // 15, 2)
        smooth = np.convolve(losses, np.ones(width) / width, mode="valid")
        left.plot(steps[width - 1 :], smooth, label=f"train, mean of {width} points")
    left.plot(*series("val/loss"), "o-", label="validation")
    left.set(xlabel="step", ylabel="loss", ylim=(0, None))
    left.legend()
    for key in ("val/f1", "val/accuracy", "val/precision", "val/recall"):
        if key in rows[0]:
            right.plot(*series(key), "o-", label=key)
    right.set(xlabel="step", ylabel="score")
    right.legend()
    save(figure, path)


def metrics_table(metrics: Mapping[str, float], console: Console | None = None) -> None:
    """Prints the test's scores, those of each class below.

    Args:
        metrics: what `metrics.json` holds.
        console: where; None: standard output.
    """
    console = console or Console()
    part = "test" if any(k.startswith("test/") for k in metrics) else "val"
    table = Table(title=f"{part} metrics", title_justify="left")
    table.add_column("metric")
    table.add_column("value", justify="right")
    for key, value in metrics.items():
        if key.startswith(f"{part}/") and key.count("/") == 1:
            table.add_row(key.removeprefix(f"{part}/"), f"{value:.4f}")
    console.print(table)
    classes = [k.split("/", 2)[2] for k in metrics if k.startswith(f"{part}/f1/")]
    if classes:
        table = Table(title="per label", title_justify="left")
        table.add_column("label")
        names = [n for n in COLUMNS if f"{part}/{n}/{classes[0]}" in metrics]
        for name in names:
            table.add_column(name, justify="right")
        for label in classes[:50]:
            values = [metrics[f"{part}/{name}/{label}"] for name in names]
            cells = (f"{v:.4f}" if isinstance(v, float) else f"{v:,}" for v in values)
            table.add_row(escape(label), *cells)  # [a] is a name, not a style
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
    key = axes[0] if axes else ""
    ticks = list(dict.fromkeys(row[0].get(key, "") for row in rows))
    try:
        places = [float(tick) for tick in ticks]
    except ValueError:
        places = [float(i) for i in range(len(ticks))]
    where = dict(zip(ticks, places, strict=True))
    lines: dict[str, list] = {}
    for values, scores, seconds in rows:
        name = ", ".join(f"{k}={values[k]}" for k in axes[1:])
        lines.setdefault(name, []).append((where[values.get(key, "")], scores, seconds))
    figure = Figure(figsize=(10, 3.8 + 0.2 * len(lines)), layout="constrained")
    panels = figure.subplots(1, 2)
    for panel, column, title in zip(panels, (1, 2), (score, "seconds of training"), strict=True):
        for name, points in lines.items():
            means = [np.mean(p[column]) for p in points]
            errors = [np.std(p[column], ddof=1) if len(p[column]) > 1 else 0.0 for p in points]
            panel.errorbar(
                [p[0] for p in points], means, yerr=errors, fmt="o-", capsize=3, label=name or None
            )
        panel.set(xlabel=key, ylabel=title)
        if len(places) <= 12:
            panel.set_xticks(places, shown(ticks))
    panels[1].set_ylim(bottom=0)
    if len(lines) > 1:
        figure.legend(
            *panels[0].get_legend_handles_labels(), loc="outside lower center", frameon=False
        )
    runs = max(len(scores) for _, scores, _ in rows)
    if runs > 1:
        figure.suptitle(f"mean and standard deviation of up to {runs} runs", fontsize=10)
    save(figure, path)
