"""Plots of `gpu-check`: the ratio to torch.nn over each size, as SVG."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks.gpu_cases import PASSES
from benchmarks.plots import finish
from fastrnn.imdb.files import write_file

AXES = {
    "hidden size": "H", "packed": "H", "layers and directions": "H", "float64": "H", "batch": "B",
    "steps": "T",
}  # fmt: skip


def write(folder: Path, rows: Iterable[Mapping[str, Any]]) -> list[Path]:
    """One file for each group of cases that was timed; returns their paths."""
    timed = [row for row in rows if row["correct"]]
    found = []
    for why, axis in AXES.items():
        here = [row for row in timed if row["why"] == why]
        if not here:
            continue
        path = folder / f"ratio-{why.replace(' ', '-')}.svg"
        write_file(path, plot(here, axis, f"torch.nn / fastrnn: {why}").encode())
        found.append(path)
    return found


def plot(rows: Iterable[Mapping[str, Any]], axis: str, title: str) -> str:
    """Medians with quartiles, a panel for each pass; above 1 fastrnn is faster."""
    rows = list(rows)
    figure = Figure(figsize=(12, 4.5))
    panels = figure.subplots(1, len(PASSES), sharey=True)
    for step, axes in zip(PASSES, panels, strict=True):
        lines: dict[str, list[Mapping[str, Any]]] = {}
        for row in rows:
            if row["pass"] == step:
                name = f"{row['cell']} {row['dtype']}"
                name += " 2 layers" if row["layers"] == 2 else ""
                name += " both ways" if row["bidirectional"] else ""
                lines.setdefault(name, []).append(row)
        for index, (name, points) in enumerate(sorted(lines.items())):
            points.sort(key=lambda row: row[axis])
            sizes, each = [row[axis] for row in points], [row["ratio"] for row in points]
            axes.plot(sizes, [r["median"] for r in each], marker=".", color=f"C{index}", label=name)
            low, high = ([r[side] for r in each] for side in ("low", "high"))
            axes.fill_between(sizes, low, high, color=f"C{index}", alpha=0.2)
        axes.axhline(1, color="black", linewidth=0.8)
        sizes = sorted({row[axis] for row in rows})
        axes.set(xscale="log", yscale="log", xlabel=axis, title=step)
        axes.set_xticks(sizes, labels=sizes)
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("torch.nn / fastrnn, above 1: fastrnn is faster")
    return finish(figure, panels, title)
