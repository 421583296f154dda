"""The Markdown tables of the results."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from benchmarks.cases import PASSES, SWEEPS, Shape
from benchmarks.engines import FASTRNN, TORCH
from benchmarks.report import (
    Row,
    best_rival,
    facts_text,
    ms_text,
    ratio_text,
)

COLUMNS = ("torch ms", "fastrnn ms", "torch / fastrnn (quartiles)", "best rival / fastrnn")


def markdown(
    results: Mapping[str, Any],
    dtype: str = "float32",
    *,
    all_threads: bool = False,
    suites: Collection[str] = ("shapes",),
) -> str:
    """One line per shape and cell, inference beside training.

    Args:
        results: as the program keeps them.
        dtype: whose rows are shown.
        all_threads: those of the largest number of threads, if that is not one; else of one thread.
        suites: whose shapes are shown, suite by suite.
    """
    threads = max([row["threads"] for row in results["rows"]], default=1) if all_threads else 1
    rows = [
        row
        for row in results["rows"]
        if (row["threads"], row["dtype"]) == (threads, dtype) and set(row["suites"]) & set(suites)
    ]
    if not rows or (all_threads and threads == 1):
        return "Not measured yet.\n"
    titles = " | ".join(f"{step}: {' | '.join(COLUMNS)}" for step in PASSES)
    held_to = "One thread" if threads == 1 else f"{threads} threads"
    lines = [
        f"{facts_text(results['machine'])}. {held_to}, {dtype}. {rivals_text(results)}",
        "",
        f"| T,B,I,H | cell | {titles} |",
        "|---|---|" + "--:|--:|:--|:--|" * len(PASSES),
    ]
    for suite in suites:
        found = [row for row in rows if suite in row["suites"]]
        if suite in SWEEPS:
            found.sort(key=lambda row: getattr(Shape.parse(row["shape"]), suite))
        lines += [
            f"| {shape} | {cell} | {' | '.join(_cells(steps))} |"
            for (shape, cell), steps in pairs(found).items()
        ]
    return "\n".join(lines) + "\n"


def pairs(rows: Iterable[Row]) -> dict[tuple[str, str], dict[str, Row]]:
    """The rows by shape and cell, then by pass."""
    found: dict[tuple[str, str], dict[str, Row]] = {}
    for row in rows:
        found.setdefault((row["shape"], row["cell"]), {})[row["pass"]] = row
    return found


def rivals_text(results: Mapping[str, Any]) -> str:
    """Which engines the best rival is the best of, and which were left out."""
    engines = results["engines"]
    ran = [f"{name} ({each['version']})" for name, each in engines.items() if _is_rival(name, each)]
    missing = [name for name, each in engines.items() if "unavailable" in each]
    text = f"Rivals: {', '.join(ran)}."
    return f"{text} Left out: {', '.join(missing)}." if missing else text


def _is_rival(name: str, found: Mapping[str, str]) -> bool:
    return name != FASTRNN and "unavailable" not in found


def _cells(steps: Mapping[str, Row]) -> Iterable[str]:
    for step in PASSES:
        if step not in steps:
            yield from ("",) * len(COLUMNS)
            continue
        row = steps[step]
        rival = best_rival(row)
        yield ms_text(row["ms"][TORCH])
        yield ms_text(row["ms"][FASTRNN])
        yield ratio_text(row["torch_over"][FASTRNN])
        yield f"{rival} {ratio_text(row['over_fastrnn'][rival])}"
