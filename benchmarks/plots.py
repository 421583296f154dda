"""Plots of the results, as SVG: time and share of peak over each size, and a roofline."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.cases import CELLS, PASSES, SWEEPS, Shape
from benchmarks.engines import ENGINES, FASTRNN, TORCH
from benchmarks.report import Row, group_title, groups, peak_of, share

COLOURS = {name: f"C{index}" for index, name in enumerate(ENGINES)}
MARKERS = dict(zip(CELLS, "o^s", strict=True))
Point = tuple[float, float]


def plots(results: Mapping[str, Any]) -> dict[str, str]:
    """All plots that the results allow, as SVG by name; the name is that of the file too."""
    made = {}
    for (threads, dtype), rows in groups(results["rows"]).items():
        key, title = f"{dtype}-threads-{threads}", group_title(threads, dtype)
        peak = peak_of(results["peaks"], threads, dtype)
        for axis in SWEEPS:
            swept = [row for row in rows if axis in row["suites"]]
            if len({row["shape"] for row in swept}) < 2:
                continue
            made[f"time-{axis}-{key}"] = over_size(swept, axis, f"Time over {axis}: {title}")
            if peak is not None:
                made[f"share-{axis}-{key}"] = over_size(
                    swept, axis, f"Share of peak over {axis}: {title}", results["peaks"]
                )
        if peak is not None:
            made[f"roofline-{key}"] = roofline(rows, peak, f"Roofline: {title}")
    return made


def over_size(
    rows: Sequence[Row], axis: str, title: str, peaks: Mapping[str, Any] | None = None
) -> str:
    """Milliseconds, or with `peaks` percent of the peak: a panel for each pass and cell."""
    figure = Figure(figsize=(11, 6))
    panels = figure.subplots(len(PASSES), len(CELLS), sharex=True, squeeze=False)
    label = "ms" if peaks is None else "% of peak"
    for step, line in zip(PASSES, panels, strict=True):
        for cell, axes in zip(CELLS, line, strict=True):
            here = [row for row in rows if (row["pass"], row["cell"]) == (step, cell)]
            for name, points in series(here, axis, peaks).items():
                width = 2.2 if name == FASTRNN else 1
                axes.plot(*zip(*points, strict=True), color=COLOURS[name], linewidth=width,
                          marker=".", label=name)  # fmt: skip
            sizes = sorted({getattr(Shape.parse(row["shape"]), axis) for row in here})
            axes.set_xscale("log")
            axes.set_xticks(sizes, labels=sizes)
            axes.set_yscale("log" if peaks is None else "linear")
            axes.minorticks_off()
            axes.set_title(f"{cell} {step}", fontsize=10)
            axes.grid(alpha=0.3)
        line[0].set_ylabel(label)
    for axes in panels[-1]:
        axes.set_xlabel(axis)
    return finish(figure, panels.flat, title)


def series(
    rows: Iterable[Row], axis: str, peaks: Mapping[str, Any] | None
) -> dict[str, list[Point]]:
    """The points of each engine in the order of the size."""
    found: dict[str, list[Point]] = {}
    for row in sorted(rows, key=lambda row: getattr(Shape.parse(row["shape"]), axis)):
        size = getattr(Shape.parse(row["shape"]), axis)
        for name, ms in row["ms"].items():
            value = ms if peaks is None else 100 * (share(row, name, peaks) or 0)
            found.setdefault(name, []).append((size, value))
    return found


def roofline(rows: Iterable[Row], peak: Mapping[str, float], title: str) -> str:
    """Measured rates of torch.nn and fastrnn under the two measured roofs.

    Where a point stands from left to right is a model: operations per byte if each tensor went
    through memory once.
    """
    figure = Figure(figsize=(11, 4.5))
    panels = figure.subplots(1, len(PASSES), sharey=True)
    for step, axes in zip(PASSES, panels, strict=True):
        here = [row for row in rows if row["pass"] == step]
        for name, row in ((name, row) for row in here for name in (TORCH, FASTRNN)):
            axes.plot(row["flop"] / row["bytes"], row["flop"] / row["ms"][name] / 1e6,
                      MARKERS[row["cell"]], color=COLOURS[name], markersize=5, linestyle="",
                      markerfacecolor=COLOURS[name] if name == FASTRNN else "none",
                      label=f"{name} {row['cell']}")  # fmt: skip
        ridge = peak["flop_per_s"] / peak["bytes_per_s"]
        right = max([10 * ridge, *(2 * row["flop"] / row["bytes"] for row in here)])
        bends = (ridge / 100, ridge, right)
        roof = [min(peak["flop_per_s"], peak["bytes_per_s"] * x) / 1e9 for x in bends]
        axes.plot(bends, roof, color="black", label="measured roof")
        axes.set(xscale="log", yscale="log", xlabel="operations per byte (modelled)", title=step)
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("GFLOP/s")
    return finish(figure, panels, title)


def finish(figure: Figure, panels: Iterable[Axes], title: str) -> str:
    """Adds title and legend, each engine once, and draws."""
    labelled = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            labelled.setdefault(label, handle)
    figure.suptitle(title)
    figure.legend(labelled.values(), labelled.keys(), loc="center right", fontsize=8)
    height = figure.get_figheight()
    # By hand: a layout that measures every label takes as long as the drawing.
    figure.subplots_adjust(left=0.06, right=0.86, wspace=0.18,
                           bottom=0.55 / height, top=1 - 0.6 / height)  # fmt: skip
    file = io.StringIO()
    # The same results give the same bytes; text stays text.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": title}):
        figure.savefig(file, format="svg", metadata={"Date": None})
    svg = file.getvalue()
    return svg[svg.index("<svg") :]
