"""The page: one HTML file that opens from disk, with all tables and plots."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from benchmarks.cases import SWEEP_BASE
from benchmarks.check import TOLERANCES
from benchmarks.engines import ENGINES, FASTRNN, TORCH
from benchmarks.report import (
    Row,
    best_rival,
    facts_text,
    group_title,
    groups,
    ms_text,
    peak_of,
    ratio_text,
    share,
)
from fastrnn.imdb.files import write_file

TEMPLATE = Path(__file__).with_suffix(".html.jinja")
NOTHING = "-"


def write(folder: Path, results: Mapping[str, Any]) -> Path:
    """Writes index.html and, where matplotlib is installed, plots/*.svg; returns the page."""
    drawn: dict[str, str] = {}
    if importlib.util.find_spec("matplotlib"):
        from benchmarks.plots import plots

        drawn = plots(results)
    for name, svg in drawn.items():
        _write(folder / "plots" / f"{name}.svg", svg)
    _write(folder / "index.html", html(results, drawn))
    return folder / "index.html"


def _write(path: Path, text: str) -> None:
    write_file(path, text.encode())


def html(results: Mapping[str, Any], drawn: Mapping[str, str]) -> str:
    """The text of the page."""
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    template = environment.from_string(TEMPLATE.read_text())
    return template.render(
        results=results,
        facts=facts_text(results["machine"]),
        base=SWEEP_BASE,
        tolerances=TOLERANCES,
        groups=[group(results["peaks"], *each, drawn) for each in groups(results["rows"]).items()],
        unplotted=not drawn and not importlib.util.find_spec("matplotlib"),
    )


def group(
    peaks: Mapping[str, Any], key: tuple[int, str], rows: Sequence[Row], drawn: Mapping[str, str]
) -> dict[str, Any]:
    """What the page shows of one number of threads and one dtype."""
    threads, dtype = key
    engines = [name for name in ENGINES if any(name in row["ms"] for row in rows)]
    suffix = f"-{dtype}-threads-{threads}"
    tables = {
        "The shapes": [row for row in rows if "shapes" in row["suites"]],
        "The sweeps": [row for row in rows if set(row["suites"]) - {"shapes"}],
    }
    return {
        "title": group_title(threads, dtype),
        "peak": peak_of(peaks, threads, dtype),
        "engines": [name for name in engines if name not in (TORCH, FASTRNN)],
        "behind": behind(rows),
        "tables": {
            name: [table_row(row, engines, peaks) for row in found]
            for name, found in tables.items()
            if found
        },
        "notes": notes(rows),
        "plots": {name: svg for name, svg in drawn.items() if name.endswith(suffix)},
    }


def behind(rows: Sequence[Row]) -> dict[str, int]:
    """How often fastrnn loses."""
    return {
        "rows": len(rows),
        "torch": sum(row["torch_over"][FASTRNN]["median"] < 1 for row in rows),
        "rival": sum(row["over_fastrnn"][best_rival(row)]["median"] < 1 for row in rows),
    }


def table_row(row: Row, engines: Sequence[str], peaks: Mapping[str, Any]) -> dict[str, Any]:
    """The texts of one row, and whether fastrnn is behind."""
    rival = best_rival(row)
    return {
        "case": [row["shape"], row["cell"], row["pass"]],
        "torch": ms_text(row["ms"][TORCH]),
        "fastrnn": ms_text(row["ms"][FASTRNN]),
        "share": share_text(row, peaks),
        "to_torch": ratio_text(row["torch_over"][FASTRNN]),
        "behind_torch": row["torch_over"][FASTRNN]["median"] < 1,
        "rival": rival,
        "to_rival": ratio_text(row["over_fastrnn"][rival]),
        "behind_rival": row["over_fastrnn"][rival]["median"] < 1,
        "others": [
            f"{ms_text(row['ms'][name])} ({row['torch_over'][name]['median']:.2f})"
            if name in row["ms"]
            else NOTHING
            for name in engines
            if name not in (TORCH, FASTRNN)
        ],
    }


def share_text(row: Row, peaks: Mapping[str, Any]) -> str:
    """Percent of the measured peak that fastrnn reached."""
    part = share(row, FASTRNN, peaks)
    return NOTHING if part is None else f"{100 * part:.1f}"


def notes(rows: Iterable[Row]) -> list[tuple[str, str, int]]:
    """Engine, note, and of how many rows it is true."""
    counted = Counter((name, text) for row in rows for name, text in row["notes"].items())
    return [(name, text, count) for (name, text), count in counted.items()]
