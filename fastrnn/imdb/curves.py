"""Plots of several runs side by side: their curves, and a figure of each with its spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fastrnn.imdb.plots import new_figure, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STYLES = ("-", "--", ":", "-.")


class Curve(NamedTuple):
    """A curve of one run."""

    x: Sequence[float]
    y: Sequence[float]


class Line(NamedTuple):
    """The same curve of each seed; lines of one `name` have a colour, of one `kind` a stroke."""

    name: str
    kind: str
    runs: Sequence[Curve]


def draw(
    lines: Sequence[Line],
    labels: tuple[str, str],
    points: Mapping[str, Sequence[float]],
    points_label: str,
) -> bytes:
    """Returns a PNG file with the curves, and beside them a point for each name.

    Args:
        lines: the curves.
        labels: what the two axes show.
        points: for each name a value of each seed; the mark is their mean, the bar the standard
            deviation.
        points_label: what these values are.
    """
    figure = new_figure(figsize=(11, 4.2))
    panels = figure.subplots(1, 2, width_ratios=(3, 2), squeeze=False)[0]
    colours = {name: f"C{index}" for index, name in enumerate(points)}
    # The first are wide, so that they show under others that equal them.
    widths = dict(zip(points, np.linspace(3, 1, len(points)).tolist(), strict=True))
    styles = dict(zip(dict.fromkeys(line.kind for line in lines), STYLES, strict=False))
    kind_told = len(styles) > 1
    for line in lines:
        label = f"{line.name}, {line.kind}" if kind_told else line.name
        for index, run in enumerate(line.runs):
            panels[0].plot(
                *run,
                styles[line.kind],
                color=colours[line.name],
                marker="." if len(run.x) == 1 else "",
                alpha=0.8,
                linewidth=widths[line.name],
                label=label if index == 0 else None,
            )
    panels[0].set(xlabel=labels[0], ylabel=labels[1])
    panels[0].grid(alpha=0.3)
    if all(isinstance(x, int) for line in lines for run in line.runs for x in run.x):
        panels[0].locator_params(axis="x", integer=True)
    if lines:
        panels[0].legend(fontsize=8)
    _draw_points(panels[1], points, points_label, colours)
    return png(figure)


def _draw_points(
    axes: Axes, points: Mapping[str, Sequence[float]], label: str, colours: Mapping[str, str]
) -> None:
    for place, (name, values) in enumerate(points.items()):
        deviation = stdev(values) if len(values) > 1 else 0.0
        axes.errorbar(mean(values), place, xerr=deviation, fmt="o", color=colours[name], capsize=4)
    axes.set_yticks(range(len(points)), list(points))
    axes.set_ylim(len(points) - 0.5, -0.5)  # the first on top, as in the table
    axes.set(xlabel=label)
    axes.grid(alpha=0.3)
