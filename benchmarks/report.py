"""Results as JSON, as plain text and as the Markdown table of the README."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import fastrnn
from benchmarks.cases import PASSES, Case
from benchmarks.timing import Spread, ratios
from fastrnn.imdb.files import replacing

Row = dict[str, Any]
"""One case as it stands in the JSON: sizes, milliseconds, ratio."""


def make_row(case: Case, times: Mapping[str, list[float]]) -> Row:
    """Sums up the seconds that `interleave` gave."""
    return {
        "cell": case.cell,
        "pass": case.step,
        "shape": str(case.shape),
        "iterations": len(times["torch"]),
        "ms": {name: 1e3 * Spread.of(values).median for name, values in times.items()},
        "ratio": asdict(ratios(times)),
    }


def machine(dtype: torch.dtype) -> dict[str, Any]:
    """What a reader must know to judge the figures; taken before the timing begins."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "isa": fastrnn.info().cpu_isa,
        "threads": torch.get_num_threads(),
        "dtype": str(dtype).removeprefix("torch."),
        "torch": str(torch.__version__),
        "fastrnn": fastrnn.__version__,
        "commit": _commit(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "load_average": round(os.getloadavg()[0], 2),
    }


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _commit() -> str | None:
    """The commit that is checked out, "-dirty" if files differ from it; None outside of git."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.check_output(
            command, cwd=Path(__file__).parent, text=True, stderr=subprocess.DEVNULL
        ).strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def save(path: Path, results: Mapping[str, Any]) -> None:
    """Writes results, whole or not at all."""
    with replacing(path) as file:
        file.write((json.dumps(results, indent=1) + "\n").encode())


def ratio_text(ratio: Mapping[str, float]) -> str:
    """Median with quartiles, and the word for it where fastrnn loses."""
    text = "{median:.2f} ({low:.2f} to {high:.2f})".format(**ratio)
    return f"{text} slower" if ratio["median"] < 1 else text


def line(row: Row) -> str:
    """One row of the plain table."""
    times = "".join(f"{row['ms'][name]:12.3f}" for name in ("torch", "fastrnn"))
    return (
        f"{row['cell']:5}{row['pass']:11}{row['shape']:18}{times}{row['iterations']:8}"
        f"   {ratio_text(row['ratio'])}"
    )


HEADER = (
    f"{'cell':5}{'pass':11}{'T,B,I,H':18}{'torch ms':>12}{'fastrnn ms':>12}{'times':>8}"
    "   torch / fastrnn (quartiles)"
)


def markdown(results: Mapping[str, Any]) -> str:
    """The table of the README: one line per shape and cell, inference beside training."""
    facts = results["machine"]
    threads = f"{facts['threads']} thread" + ("s" if facts["threads"] > 1 else "")
    titles = " | ".join(f"{step}: torch ms | fastrnn ms | ratio (quartiles)" for step in PASSES)
    lines = [
        f"{facts['cpu']}, {facts['cores']} cores, {facts['isa']}, {threads}, {facts['dtype']}; "
        f"torch {facts['torch']}, fastrnn {facts['fastrnn']} at {facts['commit']}, "
        f"{facts['date']}, load average before the run {facts['load_average']}.",
        "",
        f"| T,B,I,H | cell | {titles} |",
        "|---|---|" + "--:|--:|:--|" * len(PASSES),
    ]
    pairs: dict[tuple[str, str], dict[str, Row]] = {}
    for row in results["rows"]:
        pairs.setdefault((row["shape"], row["cell"]), {})[row["pass"]] = row
    lines += [
        f"| {shape} | {cell} | {_cells(rows[step] for step in PASSES)} |"
        for (shape, cell), rows in pairs.items()
    ]
    return "\n".join(lines) + "\n"


def _cells(rows: Iterable[Row]) -> str:
    return " | ".join(
        f"{_ms(row['ms']['torch'])} | {_ms(row['ms']['fastrnn'])} | {ratio_text(row['ratio'])}"
        for row in rows
    )


def _ms(value: float) -> str:
    """Three digits, and no exponent where there are more."""
    return f"{value:.3g}" if value < 999 else f"{value:.0f}"
