"""`python -m benchmarks` times the layers on this machine, and shows where fastrnn is slower."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import torch

import fastrnn
from benchmarks import readme, report
from benchmarks.cases import CELLS, SHAPES, Case, Shape, all_cases, check, workloads
from benchmarks.timing import interleave

TABLE = "benchmarks"
README_RESULTS = Path(__file__).parent / "results" / "layers.json"
DTYPES = {"float32": torch.float32, "float64": torch.float64}


def shape(text: str) -> Shape:
    """Reads an argument; argparse shows the text of this error alone."""
    try:
        return Shape.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks", description="Time fastrnn's layers against torch.nn's."
    )
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=CELLS)
    parser.add_argument("--shapes", nargs="+", type=shape, default=SHAPES, metavar="T,B,I,H")
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    threads = range(1, (os.cpu_count() or 1) + 1)
    parser.add_argument("--threads", type=int, choices=threads, default=1, metavar="N")
    parser.add_argument("--quick", action="store_true", help="two minutes instead of ten")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the results here too")
    parser.add_argument(
        "--readme",
        action="store_true",
        help="put the table into README.md, and the results it is made from beside the program",
    )
    parser.add_argument(
        "--from",
        dest="earlier",
        type=Path,
        metavar="PATH",
        help="take the results of an earlier run instead of timing",
    )
    return parser.parse_args(argv)


def measure(case: Case, *, quick: bool) -> report.Row:
    """Checks, then times one case."""
    made = workloads(case)
    check(case, made)
    budget_s, min_iterations = (1, 3) if quick else (10, 9)
    times = interleave(made, budget_s=budget_s, min_iterations=min_iterations)
    return report.make_row(case, times)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Times all cases asked for and prints each as it is done."""
    torch.set_num_threads(options.threads)
    dtype = DTYPES[options.dtype]
    results: dict[str, Any] = {"machine": report.machine(dtype), "rows": []}
    for name, value in results["machine"].items():
        print(f"{name:14}{value}")
    print(f"\n{report.HEADER}")
    for case in all_cases(options.cells, options.shapes, dtype):
        results["rows"].append(measure(case, quick=options.quick))
        print(report.line(results["rows"][-1]), flush=True)
    return results


def main(argv: list[str] | None = None) -> None:
    """Does what the command line asks for."""
    options = arguments(argv)
    if options.readme:
        readme.split(readme.README.read_text(), TABLE)  # fails before the work, not after it
    if options.earlier:
        results = json.loads(options.earlier.read_text())
        print(report.HEADER, *map(report.line, results["rows"]), sep="\n")
    elif fastrnn.info().loaded:
        results = run(options)
    else:
        sys.exit(f"Nothing to time, fastrnn's kernels are not loaded: {fastrnn.info().reason}.")
    if options.json:
        report.save(options.json, results)
    if options.readme:
        report.save(README_RESULTS, results)
        readme.put(readme.README, TABLE, report.markdown(results))


if __name__ == "__main__":
    main()
