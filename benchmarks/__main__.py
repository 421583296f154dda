"""`python -m benchmarks` times the layers on this machine, and shows where fastrnn is slower."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import fastrnn
from benchmarks import cores, gpu_check, page, readme, report, tables
from benchmarks.cases import (
    CELLS,
    DTYPES,
    QUICK_SHAPES,
    SHAPES,
    SUITES,
    SWEEPS,
    Shape,
    all_cases,
    suite,
)
from benchmarks.engines import ENGINES, FASTRNN, TORCH, engine
from benchmarks.options import add_threads, shape

# What the tables of the pages show, by their marks.
TABLES: dict[str, dict[str, Any]] = {
    "benchmarks": {},
    "bfloat16": {"dtype": "bfloat16"},
    "threads": {"all_threads": True},
    "sweeps": {"suites": tuple(SWEEPS)},
}
ROOT = Path(__file__).parents[1]
README_RESULTS = Path(__file__).parent / "results" / "layers.json"
OUT = Path("runs") / "benchmarks"
LIMITS = {"budget_s": 4, "min_iterations": 7}
QUICK_LIMITS = {"budget_s": 0.5, "min_iterations": 3}
INTERRUPTED = 130  # what a shell calls it
QUICK_S = 95  # then the last case, the plots and the page


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks",
        description="Time fastrnn's layers against torch.nn and others.",
        epilog="On a machine with a GPU: python -m benchmarks gpu-check, which has its own --help.",
    )
    several: dict[str, Any] = {"nargs": "+"}
    parser.add_argument("--cells", **several, choices=CELLS, default=CELLS)
    parser.add_argument("--suites", **several, choices=SUITES, default=SUITES, help="default: all")
    parser.add_argument(
        "--shapes", **several, type=shape, default=SHAPES, metavar="T,B,I,H", help="of suite shapes"
    )
    parser.add_argument("--dtypes", **several, choices=DTYPES, default=["float32", "bfloat16"])
    add_threads(parser)
    parser.add_argument(
        "--engines", **several, choices=ENGINES, default=tuple(ENGINES), metavar="NAME",
        help=f"beside {TORCH} and {FASTRNN}, which always run; of {', '.join(ENGINES)}",
    )  # fmt: skip
    parser.add_argument(
        "--quick",
        action="store_true",
        help="within two minutes: four shapes, float32, one thread, no sweeps, where not asked for",
    )
    parser.add_argument(
        "--out", type=Path, default=OUT, metavar="FOLDER",
        help="for results.json, index.html and plots; default: %(default)s",
    )  # fmt: skip
    parser.add_argument(
        "--resume",
        action="store_true",
        help="time what the results in FOLDER lack; machine, torch and commit must be theirs",
    )
    parser.add_argument(
        "--readme",
        action="store_true",
        help="put the tables into their pages, and the results they are made from beside the "
        "program",
    )
    parser.add_argument(
        "--from",
        dest="earlier",
        type=Path,
        metavar="PATH",
        help="take the results of an earlier run instead of timing",
    )
    first, _ = parser.parse_known_args(argv)
    if first.quick:
        parser.set_defaults(suites=["shapes"], shapes=QUICK_SHAPES, dtypes=["float32"], threads=[1])
    return parser.parse_args(argv)


def plan(
    options: argparse.Namespace, threads: int, rows: Iterable[report.Row] = ()
) -> list[dict[str, Any]]:
    """The cases for one number of threads; a shape that two suites share is timed once.

    Those of `rows` are left out; what suites they belong to is noted there.
    """
    suites: dict[Shape, list[str]] = {}
    for name in options.suites:
        for each in suite(name, options.shapes):
            suites.setdefault(each, []).append(name)
    there = {report.case_of(row): row for row in rows}
    missing = []
    for case in all_cases(options.cells, suites, options.dtypes, threads):
        names, row = suites[case.shape], there.get(case)
        if row is None:
            given = {**asdict(case), "shape": str(case.shape)}
            missing.append({"case": given, "suites": names})
        else:
            row["suites"] += [name for name in names if name not in row["suites"]]
    return missing


def begin(options: argparse.Namespace) -> dict[str, Any]:
    """Results without rows, or those to go on with.

    Raises:
        SystemExit: there are none to go on with, or they are of another state of things.
    """
    facts = report.machine_facts()
    new: dict[str, Any] = {
        "machine": facts, "engines": {}, "peaks": {}, "notes": [], "rows": [], "failed": False,
    }  # fmt: skip
    if not options.resume:
        return new
    path = options.out / "results.json"
    if not path.exists():
        sys.exit(f"There is nothing to resume: {path} does not exist.")
    found: dict[str, Any] = json.loads(path.read_text())
    for name in facts.keys() - {"date", "load_average"}:
        if found["machine"][name] != facts[name]:
            sys.exit(
                f"The results in {path} are of {name} {found['machine'][name]}, this is "
                f"{facts[name]}: they can't go into one table. Give another --out."
            )
    return {**new, **{name: found[name] for name in ("machine", "engines", "peaks", "rows")}}


def spawn(job: Mapping[str, Any], folder: Path) -> tuple[int, list[dict[str, Any]]]:
    """Runs one worker.

    Returns:
        How it ended, and what it wrote.
    """
    threads, file, output = job["threads"], folder / "job.json", folder / "lines"
    output.write_text("")
    file.write_text(json.dumps({**job, "output": str(output)}))
    environment = dict(os.environ)
    for name in job["engines"]:
        environment.update(engine(name).environment(threads))
    command = [sys.executable, "-m", "benchmarks.worker", str(file)]
    with cores.limited_to(threads):
        try:
            code = subprocess.call(command, cwd=ROOT, env=environment)
        except KeyboardInterrupt:  # what is measured stays
            code = INTERRUPTED
    *whole, _ = output.read_text().split("\n")  # a crash may have cut the last line
    return code, [json.loads(line) for line in whole]


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Times all cases asked for, each number of threads in a process of its own."""
    results = begin(options)
    print(f"{report.facts_text(results['machine'])}.\n\n{report.HEADER}", flush=True)
    names = [name for name in ENGINES if name in {TORCH, FASTRNN, *options.engines}]
    until = time.time() + QUICK_S if options.quick else None
    limits = QUICK_LIMITS if options.quick else LIMITS
    code = 0
    for threads in options.threads:
        planned = plan(options, threads, results["rows"])
        if not planned:
            continue
        job = {
            "threads": threads, "engines": names, "cases": planned, "limits": limits,
            "until": until,
        }  # fmt: skip
        if code != INTERRUPTED:
            with tempfile.TemporaryDirectory() as folder:
                code, entries = spawn(job, Path(folder))
        else:
            entries = []
        missing = len(planned) - merge(results, threads, entries)
        results["failed"] |= code != 0
        if missing:
            why = f"the process ended with status {code}" if code else "the time was over"
            text = f"{report.threads_text(threads)}: {missing} cases were not begun, {why}"
            results["notes"].append(text)
    return results


def merge(results: dict[str, Any], threads: int, entries: Iterable[Mapping[str, Any]]) -> int:
    """Puts what a worker wrote into the results; returns the number of cases it is about."""
    rows = [entry["row"] for entry in entries if "row" in entry]
    notes = [entry["note"] for entry in entries if "note" in entry]
    results["rows"] += rows
    results["notes"] += notes
    for entry in entries:
        results["engines"].update(entry.get("engines", {}))
        if "peaks" in entry:
            results["peaks"][str(threads)] = entry["peaks"]
    return len(rows) + len(notes)


def page_of(table: str) -> Path:
    """Where the table is."""
    return readme.README if table == "benchmarks" else readme.FEATURES


def main(argv: list[str] | None = None) -> None:
    """Does what the command line asks for."""
    words = sys.argv[1:] if argv is None else argv
    if words[:1] == ["gpu-check"]:
        sys.exit(gpu_check.main(words[1:]))
    options = arguments(words)
    for table in TABLES if options.readme else ():
        readme.split(page_of(table).read_text(), table)  # fails before the work, not after it
    if options.earlier:
        results = json.loads(options.earlier.read_text())
        print(report.HEADER, *map(report.line, results["rows"]), sep="\n")
    elif fastrnn.info().loaded:
        results = run(options)
    else:
        sys.exit(f"Nothing to time, fastrnn's kernels are not loaded: {fastrnn.info().reason}.")
    print("", *report.engine_lines(results["engines"]), *results["notes"], sep="\n")
    report.save(options.out / "results.json", results)
    print(f"\nThe page is {page.write(options.out, results)}")
    if options.readme:
        report.save(README_RESULTS, results)
        for table, shown in TABLES.items():
            readme.put(page_of(table), table, tables.markdown(results, **shown))
    if results["failed"]:
        sys.exit("Not all went well: see the notes.")


if __name__ == "__main__":
    main()
