"""Results: rows, facts of the machine, JSON, and lines of plain text."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import fastrnn
from benchmarks.cases import Case, Shape
from benchmarks.engines import FASTRNN, TORCH
from benchmarks.timing import Spread, ratios
from fastrnn.imdb.files import write_file
from fastrnn.imdb.machine import cpu_model

Row = dict[str, Any]
"""One case as it stands in the JSON: sizes, milliseconds, ratios, notes."""


def make_row(case: Case, times: Mapping[str, list[float]], notes: Mapping[str, str]) -> Row:
    """Sums up the seconds that `interleave` gave.

    Ratios are of times of the same iteration: torch.nn's over each other engine's, and each other
    engine's over fastrnn's.
    """
    return {
        "cell": case.cell,
        "pass": case.step,
        "shape": str(case.shape),
        "dtype": case.dtype,
        "threads": case.threads,
        "iterations": len(times[TORCH]),
        "flop": case.flop,
        "bytes": case.bytes,
        "ms": {name: _rounded(1e3 * Spread.of(values).median) for name, values in times.items()},
        "torch_over": {name: _ratio(times, TORCH, name) for name in times if name != TORCH},
        "over_fastrnn": {name: _ratio(times, name, FASTRNN) for name in times if name != FASTRNN},
        "notes": dict(notes),
    }


def case_of(row: Row) -> Case:
    """The case that a row is of."""
    shape = Shape.parse(row["shape"])
    return Case(row["cell"], row["pass"], shape, row["dtype"], row["threads"])


def _ratio(times: Mapping[str, list[float]], over: str, under: str) -> dict[str, float]:
    return {name: _rounded(each) for name, each in asdict(ratios(times, over, under)).items()}


def _rounded(value: float) -> float:
    """Five digits: more say nothing, and the file holds thousands."""
    return float(f"{value:.5g}")


def best_rival(row: Row) -> str:
    """The fastest engine beside fastrnn; torch.nn is one."""
    return min((name for name in row["ms"] if name != FASTRNN), key=row["ms"].__getitem__)


def machine_facts() -> dict[str, Any]:
    """What a reader must know to judge any figure; taken before the timing begins."""
    return {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "isa": fastrnn.info().cpu_isa,
        "torch": str(torch.__version__),
        "fastrnn": fastrnn.__version__,
        "commit": commit(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "load_average": round(os.getloadavg()[0], 2),
    }


def machine(dtype: torch.dtype) -> dict[str, Any]:
    """The facts of a run on one dtype and torch's present number of threads."""
    return {
        **machine_facts(),
        "threads": torch.get_num_threads(),
        "dtype": str(dtype).removeprefix("torch."),
    }


def commit() -> str | None:
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
    write_file(path, (json.dumps(results, indent=1) + "\n").encode())


def spread_text(spread: Mapping[str, float], digits: int = 2) -> str:
    """Median with quartiles."""
    median, low, high = (f"{spread[name]:.{digits}f}" for name in ("median", "low", "high"))
    return f"{median} ({low} to {high})"


def ratio_text(ratio: Mapping[str, float]) -> str:
    """The same of another's time over one's own, and the word for it where that is the longer."""
    text = spread_text(ratio)
    return f"{text} slower" if ratio["median"] < 1 else text


def ms_text(value: float) -> str:
    """Three digits, and no exponent where there are more."""
    return f"{value:.3g}" if value < 999 else f"{value:.0f}"


def threads_text(threads: int) -> str:
    """The number with its noun."""
    return f"{threads} thread" + ("s" if threads > 1 else "")


def facts_text(facts: Mapping[str, Any]) -> str:
    """The machine and versions in one sentence's first half."""
    return (
        f"{facts['cpu']}, {facts['cores']} cores, {facts['isa']}; torch {facts['torch']}, fastrnn "
        f"{facts['fastrnn']} at {facts['commit']}, {facts['date']}, load average before the run "
        f"{facts['load_average']}"
    )


def group_title(threads: int, dtype: str) -> str:
    """What the rows of one group have in common."""
    return f"{threads_text(threads)}, {dtype}"


def groups(rows: Iterable[Row]) -> dict[tuple[int, str], list[Row]]:
    """The rows by number of threads and dtype: what one plot may show together."""
    found: dict[tuple[int, str], list[Row]] = {}
    for row in rows:
        found.setdefault((row["threads"], row["dtype"]), []).append(row)
    return found


def peak_of(peaks: Mapping[str, Any], threads: int, dtype: str) -> dict[str, float] | None:
    """`flop_per_s` and `bytes_per_s` at most; of float32 where a dtype has no products of its own.

    None where there was nothing to measure them with.
    """
    found = peaks.get(str(threads))
    if found is None:
        return None
    rate = found.get(f"{dtype}_flop_per_s", found["flop_per_s"])
    return {"flop_per_s": rate, "bytes_per_s": found["bytes_per_s"]}


def share(row: Row, name: str, peaks: Mapping[str, Mapping[str, float]]) -> float | None:
    """Part of the measured peak that an engine reached; None without a peak."""
    peak = peak_of(peaks, row["threads"], row["dtype"])
    return None if peak is None else row["flop"] / (row["ms"][name] / 1e3) / peak["flop_per_s"]


def line(row: Row) -> str:
    """One row of the plain table."""
    times = "".join(f"{row['ms'][name]:12.3f}" for name in (TORCH, FASTRNN))
    rival = best_rival(row)
    best = "torch.nn" if rival == TORCH else f"{rival} {ratio_text(row['over_fastrnn'][rival])}"
    return (
        f"{row['threads']:2} {row['dtype']:9}{row['cell']:5}{row['pass']:10}{row['shape']:15}"
        f"{times}{row['iterations']:7}  {ratio_text(row['torch_over'][FASTRNN]):32}{best}"
    )


HEADER = (
    f" t {'dtype':9}{'cell':5}{'pass':10}{'T,B,I,H':15}{'torch ms':>12}{'fastrnn ms':>12}"
    f"{'times':>7}  {'torch.nn / fastrnn (quartiles)':32}best rival / fastrnn"
)


def engine_lines(engines: Mapping[str, Mapping[str, str]]) -> Sequence[str]:
    """One line for each engine: its version, or why it does not run."""
    return [
        f"{name:14}{found['version'] if 'unavailable' not in found else 'left out: '}"
        f"{found.get('unavailable', '')}"
        for name, found in engines.items()
    ]
