"""Times all engines on one number of threads, in one process: `python -m benchmarks.worker JOB`.

The program starts one such process for each number of threads, since XLA, oneDNN and others take
theirs when they are loaded. JOB is a JSON file (see `run`); each result is one line of JSON in the
file it names, so what was measured outlives a crash of an engine's native code.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks import peak, report
from benchmarks.cases import Case, Problem, Shape
from benchmarks.check import check, expected
from benchmarks.engines import FASTRNN, TORCH, Engine, Workload, engine
from benchmarks.timing import SETTLE_S, interleave


def start(names: list[str], threads: int) -> tuple[dict[str, Engine], dict[str, dict[str, str]]]:
    """Starts the engines in the order given.

    Returns:
        Those that run, and for each name its version or the reason why it does not run.
    """
    started, found = {}, {}
    for name in names:
        try:
            made = engine(name)
            found[name] = {"version": made.version()}
            made.start(threads)
            started[name] = made
        except Exception as error:
            found[name] = {**found.get(name, {}), "unavailable": reason(error)}
    return started, found


def reason(error: Exception) -> str:
    """An error as a short note."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:300]


def prepare(
    engines: Mapping[str, Engine], case: Case
) -> tuple[dict[str, Workload], dict[str, str]]:
    """Makes and checks the work of every engine.

    Returns:
        The work that is right, and notes on the engines by name: why it is left out, or what to
        know of it.
    """
    problem = Problem.of(case)
    wanted = expected(problem)
    made, notes = {}, {}
    for name, each in engines.items():
        if why := each.unsupported(case):
            notes[name] = why
            continue
        try:
            workload = each.make(problem)
            check(problem, workload, wanted)
        except Exception as error:
            notes[name] = reason(error)
            continue
        made[name] = workload
        if workload.note:
            notes[name] = workload.note
    return made, notes


def measure(engines: Mapping[str, Engine], case: Case, limits: Mapping[str, Any]) -> report.Row:
    """Checks, then times one case.

    Raises:
        RuntimeError: torch.nn or fastrnn itself cannot be timed; a table without them says nothing.
    """
    made, notes = prepare(engines, case)
    for name in (TORCH, FASTRNN):
        if name not in made:
            raise RuntimeError(f"{case} not timed: {name}: {notes.get(name)}")
    settle_s = SETTLE_S if case.threads > 1 else 0
    times = interleave(made, settle_s=settle_s, **limits)
    return report.make_row(case, times, notes)


def cases(job: Mapping[str, Any]) -> Iterator[tuple[Case, list[str]]]:
    """The cases of a job, each with the names of the suites it belongs to."""
    for entry in job["cases"]:
        case = Case(**{**entry["case"], "shape": Shape.parse(entry["case"]["shape"])})
        yield case, entry["suites"]


def run(job: Mapping[str, Any]) -> int:
    """Does a job.

    Args:
        job: `threads`; `engines`, names; `cases`; `limits`, for `interleave`; `until`, the time at
            which no case is begun any more, or None; `output`, the file for the lines.

    Returns:
        In how many cases torch.nn or fastrnn itself could not be timed.
    """
    output, failed = Path(job["output"]), 0
    engines, found = start(job["engines"], job["threads"])
    write(output, {"engines": found})
    write(output, {"peaks": peak.measure(job["threads"])})
    for case, suites in cases(job):
        if job["until"] and time.time() > job["until"]:
            break
        try:
            row = measure(engines, case, job["limits"])
        except RuntimeError as error:
            failed += 1
            print(error, flush=True)
            write(output, {"note": str(error)})
            continue
        write(output, {"row": {**row, "suites": suites}})
        print(report.line(row), flush=True)
    return failed


def write(path: Path, entry: Mapping[str, Any]) -> None:
    """Adds one line of JSON."""
    with path.open("a") as file:
        file.write(json.dumps(entry) + "\n")


if __name__ == "__main__":
    sys.exit(1 if run(json.loads(Path(sys.argv[1]).read_text())) else 0)
