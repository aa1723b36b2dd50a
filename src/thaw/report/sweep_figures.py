"""Draws the scores and the training time of a sweep, and the trials of a search."""

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from thaw.report.figures import Panel, from_zero, tick_labels
from thaw.report.groups import AVERAGED, Group
from thaw.report.sections import readable


def positions_of(values: Sequence[str]) -> tuple[dict[str, float], bool]:
    """Returns where values stand on an axis, and whether all of them are numbers."""
    try:
        return {value: float(value) for value in values}, True
    except ValueError:
        return {value: float(i) for i, value in enumerate(dict.fromkeys(values))}, False


def set_ticks(panel: Axes, position_of: Mapping[str, float]) -> None:
    """Labels an axis with the values themselves, at an angle where they would overlap."""
    if len(position_of) <= 12:
        labels = tick_labels([readable(value) for value in position_of])
        tilt: Any = {"rotation": 40, "ha": "right"} if sum(map(len, labels)) > 30 else {}
        panel.set_xticks(list(position_of.values()), labels, **tilt)


def sweep_panels(
    table: Sequence[Group], axes: Sequence[str], titles: Mapping[str, str]
) -> tuple[Mapping[str, Panel], int]:
    """Returns panels of the metrics in `titles` against the first swept key, and the number of
    lines in each: one for each combination of values of the other keys."""
    key = axes[0] if axes else ""
    ticks = list(dict.fromkeys(next(iter(group.values), "") for group in table))
    position_of, numeric = positions_of(ticks)
    positions = list(position_of.values())
    lines: dict[str, list[Group]] = {}
    for group in table:
        name = ", ".join(f"{k}={v}" for k, v in zip(axes[1:], group.values[1:], strict=True))
        lines.setdefault(name, []).append(group)
    logarithmic = numeric and min(positions) > 0 and max(positions) >= 10 * min(positions)

    def shifted(x: float, line: int) -> float:
        """Returns `x` moved a little to the side, so that error bars do not hide each other."""
        part = 0.008 * (line - (len(lines) - 1) / 2)
        low, high = min(positions), max(positions)
        return x * (high / low) ** part if logarithmic else x + (high - low) * part

    def draw(panel: Axes, metric: str) -> None:
        for line, (name, found) in enumerate(lines.items()):
            found = [group for group in found if group.numbers(metric)]
            numbers = [group.numbers(metric) for group in found]
            means = [np.mean(n) for n in numbers]
            errors = [float(np.std(n, ddof=1)) if len(n) > 1 else 0.0 for n in numbers]
            x = [shifted(position_of[next(iter(g.values), "")], line) for g in found]
            marker = "o-" if numeric and key not in AVERAGED else "o"  # no line between names
            panel.errorbar(x, means, yerr=errors, fmt=marker, capsize=3, label=name or None)
        panel.set(xlabel=key, ylabel=titles[metric])
        if logarithmic:
            panel.set_xscale("log")
            panel.minorticks_off()
        set_ticks(panel, position_of)
        if "seconds" in titles[metric]:
            from_zero(panel)
        if len(lines) > 1:
            panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), frameon=False)

    against = key or "one value"
    drawn = {f"{title} against {against}": partial(draw, metric=m) for m, title in titles.items()}
    return drawn, len(lines)


def search_panels(
    table: Sequence[Group],
    axes: Sequence[str],
    score: str,
    logarithmic: Collection[str],
    best: Group | None,
) -> Mapping[str, Panel]:
    """Returns a panel for each parameter of a search: the score of all trials against it, the best
    one marked, on the axis of the parameter's distribution."""

    def draw(panel: Axes, place: int) -> None:
        position_of, numeric = positions_of([group.values[place] for group in table])
        x = [position_of[group.values[place]] for group in table]
        y = [float(np.mean(group.numbers(score))) for group in table]
        panel.scatter(x, y, alpha=0.7)
        if best is not None:
            n = table.index(best)
            panel.scatter(x[n], y[n], marker="*", s=160, color="#c8553d")
        if axes[place] in logarithmic:
            panel.set_xscale("log")
        elif not numeric or len(position_of) <= 5:
            set_ticks(panel, position_of)
            panel.margins(x=0.2)
        panel.set(xlabel=axes[place], ylabel=score)

    return {f"{score} against {key}": partial(draw, place=n) for n, key in enumerate(axes)}
