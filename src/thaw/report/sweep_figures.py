"""Draws the scores and the training time of a sweep."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from thaw.report.figures import Panel, draw_beside, save, tick_labels

# The values of the swept keys, and the scores and seconds of the runs that have these values.
Point = tuple[Mapping[str, str], Sequence[float], Sequence[float]]


def sweep_figure(
    rows: Sequence[Point],
    axes: Sequence[str],
    score: str,
    path: Path,
) -> None:
    """Draws score and training time against the first swept key.

    Each combination of values of the other keys has a line.

    Args:
        rows: scores and seconds of each group of runs, with the values of its swept keys.
        axes: swept keys; the first is the horizontal axis.
        score: name of the score.
        path: PNG file to write.
    """
    panels, lines = sweep_panels(rows, axes, score)
    figure = draw_beside(panels, 3.8 + 0.2 * lines)
    runs = max(len(scores) for _, scores, _ in rows)
    if runs > 1:
        figure.suptitle(f"mean and standard deviation of up to {runs} runs", fontsize=10)
    save(figure, path)


def sweep_panels(
    rows: Sequence[Point],
    axes: Sequence[str],
    score: str,
) -> tuple[list[Panel], int]:
    """Returns panels of score and training time against the first swept key; see `sweep_figure`.

    Returns:
        The two panels, and the number of lines in each.
    """
    key = axes[0] if axes else ""
    ticks = list(dict.fromkeys(row[0].get(key, "") for row in rows))
    try:
        positions, marker = [float(tick) for tick in ticks], "o-"
    except ValueError:
        positions, marker = [float(i) for i in range(len(ticks))], "o"  # no line between names
    position_of = dict(zip(ticks, positions, strict=True))
    lines: dict[str, list] = {}
    for values, scores, seconds in rows:
        name = ", ".join(f"{k}={values[k]}" for k in axes[1:])
        lines.setdefault(name, []).append((position_of[values.get(key, "")], scores, seconds))

    logarithmic = min(positions) > 0 and max(positions) >= 10 * min(positions)

    def shifted(x: float, line: int) -> float:
        """Returns `x` moved a little to the side, so that error bars do not hide each other."""
        part = 0.008 * (line - (len(lines) - 1) / 2)
        low, high = min(positions), max(positions)
        return x * (high / low) ** part if logarithmic else x + (high - low) * part

    def draw(panel: Axes, column: int, title: str) -> None:
        for line, (name, points) in enumerate(lines.items()):
            means = [np.mean(p[column]) for p in points]
            errors = [np.std(p[column], ddof=1) if len(p[column]) > 1 else 0.0 for p in points]
            x = [shifted(p[0], line) for p in points]
            panel.errorbar(x, means, yerr=errors, fmt=marker, capsize=3, label=name or None)
        panel.set(xlabel=key, ylabel=title)
        if logarithmic:
            panel.set_xscale("log")
            panel.minorticks_off()
        if len(positions) <= 12:
            panel.set_xticks(positions, tick_labels(ticks))
        if column == 2:
            panel.set_ylim(bottom=0)
        if len(lines) > 1:
            panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), frameon=False)

    titles = {1: score, 2: "seconds of training"}
    return [partial(draw, column=n, title=t) for n, t in titles.items()], len(lines)
