"""The report of a comparison: one HTML file that opens from disk and needs nothing else."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import jinja2

from fastrnn.imdb import compare, curves, tables
from fastrnn.imdb.compare import Row
from fastrnn.imdb.curves import Curve, Line
from fastrnn.imdb.files import write_file
from fastrnn.imdb.presets import PRESETS
from fastrnn.imdb.sweep import Record
from fastrnn.imdb.tables import Grid

RUN_TITLES = (
    "preset",
    "backend",
    "seed",
    "epochs",
    "best",
    "training loss",
    "validation loss",
    "validation accuracy, %",
    "test accuracy, %",
    "test F1, %",
    "s per epoch",
)


def write_report(folder: Path, rows: Sequence[Row]) -> Path:
    """Writes the plots, losses-PRESET.png, and report.html with all of them inside.

    Args:
        folder: where they go.
        rows: what `compare.make_rows` gave, at least one.

    Returns:
        The page.
    """
    plots = {preset: plot([row for row in rows if row.preset == preset]) for preset in _of(rows)}
    for preset, content in plots.items():
        write_file(folder / f"losses-{preset}.png", content)
    page = folder / "report.html"
    write_file(page, html(rows, plots).encode())
    return page


def _of(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row.preset for row in rows))


def plot(rows: Sequence[Row]) -> bytes:
    """Returns losses over the epochs and the accuracies of the rows of one preset, as a PNG."""
    lines = [
        Line(row.backend, f"{part} loss", [_curve(record, part) for record in row.records])
        for row in rows
        for part in ("training", "validation")
    ]
    points = {row.backend: row.validation for row in rows}
    return curves.draw(lines, ("epoch", "loss"), points, "validation accuracy, %")


def _curve(record: Record, part: str) -> Curve:
    losses = [
        epoch.train_loss if part == "training" else epoch.validation_loss
        for epoch in record.history
    ]
    return Curve([epoch.epoch for epoch in record.history], losses)


def html(rows: Sequence[Row], plots: dict[str, bytes]) -> str:
    """Returns the page.

    Args:
        rows: what it tables.
        plots: a PNG file for each preset.
    """
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    template = files("fastrnn.imdb").joinpath("report.html.jinja").read_text(encoding="utf-8")
    records = [record for row in rows for record in row.records]
    first = records[0].summary
    return environment.from_string(template).render(
        table=compare.table(rows),
        explanations=compare.explanations(rows),
        tolerance=compare.TOLERANCE,
        notes=compare.notes(rows),
        plots=[
            (name, PRESETS[name].about, base64.b64encode(content).decode())
            for name, content in plots.items()
        ],
        runs=_runs(rows),
        backends=list(dict.fromkeys(row.backend for row in rows)),
        seeds=list(dict.fromkeys(record.config.seed for record in records)),
        cut=sum(len(record.history) == record.config.epochs for record in records),
        source=first["source"],
        synthetic=first["synthetic"],
        # More than one where some runs were kept from another day or machine.
        circumstances=list(dict.fromkeys(record.circumstances for record in records)),
    )


def _runs(rows: Sequence[Row]) -> Grid:
    return Grid(
        RUN_TITLES,
        [
            (
                row.preset,
                row.backend,
                str(record.config.seed),
                str(len(record.history)),
                str(record.best.epoch),
                f"{record.best.train_loss:.4f}",
                f"{record.validation.loss:.4f}",
                tables.spread([100 * record.validation.accuracy]),
                tables.spread([100 * record.test.accuracy]),
                tables.spread([100 * record.test.f1]),
                f"{record.seconds_per_epoch:.2f}",
            )
            for row in rows
            for record in row.records
        ],
    )
