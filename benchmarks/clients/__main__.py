"""`python -m benchmarks.clients`: whole programs of others before and after `fastrnn.accelerate`.

Each client runs in a process of its own for each number of threads, bound to as many cores. There
its outputs before and after are compared first; then the whole program, with all that is not
recurrent, is run before and after in turns, in an order shuffled anew each time. The ratio is of
neighbouring runs, median with quartiles; below 1 the program is slower after `accelerate`. The
share is that of forward calls of recurrent modules in a run before it: the whole program can gain
1 / (1 - share) where it does not train, and somewhat more where backward is recurrent too.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fastrnn
from benchmarks import readme
from benchmarks.clients import CLIENTS, INSTALL, Missing, require
from benchmarks.clients.measure import FAST, STOCK, Row
from benchmarks.cores import limited_to
from benchmarks.report import facts_text, machine_facts, ratio_text, save

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "clients.json"
TABLE = "clients"
MIN_ITERATIONS = 7


def run_job(name: str, threads: int, limits: Mapping[str, Any]) -> Row:
    """`benchmarks.clients.measure` in a process of its own, on the cores it may use."""
    job = json.dumps({"client": name, "threads": threads, "limits": limits})
    with limited_to(threads):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "benchmarks.clients.measure", job],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": str(threads)},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    row: Row = json.loads(done.stdout)
    return row


HEADER = (
    f"{'threads':8}{'client':21}{'share':>5}{'before s':>10}{'after s':>9}{'CPU s':>9}{'CPU s':>9}"
    f"{'times':>7}  before / after (quartiles)"
)


def line(row: Row) -> str:
    """One row of the plain table."""
    seconds = [row["seconds"][each]["median"] for each in (STOCK, FAST)]
    seconds += [row["cpu_seconds"][each] for each in (STOCK, FAST)]
    return (
        f"{row['threads']:<8}{row['client']:21}{row['recurrent_share']:5.0%} "
        + "".join(f"{each:9.3f}" for each in seconds)
        + f"{row['iterations']:7}  {ratio_text(row['ratio'])}"
    )


TITLES = (
    "client | what it does | threads | share of recurrent forward calls, % | before s | after s "
    "| before / after (quartiles)"
)


def markdown(results: Mapping[str, Any]) -> str:
    """The table of the README."""

    def cells(row: Row) -> list[str]:
        seconds = [f"{row['seconds'][each]['median']:.3g}" for each in (STOCK, FAST)]
        share = f"{100 * row['recurrent_share']:.0f}"
        name = f"{row['client']} {row['version']}"
        return [name, row["does"], str(row["threads"]), share, *seconds, ratio_text(row["ratio"])]

    lines = [
        f"{facts_text(results['machine'])}.",
        "",
        f"| {TITLES} |",
        "|---|---|--:|--:|--:|--:|:--|",
        *(f"| {' | '.join(cells(row))} |" for row in results["rows"]),
    ]
    return "\n".join(lines) + "\n"


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measures all that is installed, and prints each row as it is done."""
    results: dict[str, Any] = {"machine": machine_facts(), "skipped": {}, "rows": []}
    for name, value in results["machine"].items():
        print(f"{name:14}{value}")
    installed = []
    for name in options.clients:
        try:
            require(CLIENTS[name].packages)
            installed.append(name)
        except Missing as missing:
            results["skipped"][name] = str(missing)
            print(f"Not run: {name}: {missing}")
    limits = {"budget_s": options.budget, "min_iterations": MIN_ITERATIONS}
    print(f"\n{HEADER}", flush=True)
    for threads in options.threads:
        for name in installed:
            row = run_job(name, threads, limits)
            results["rows"].append(row)
            print(line(row), flush=True)
    return results


def main(argv: list[str] | None = None) -> None:
    """Does what the command line asks for."""
    available = len(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(
        "python -m benchmarks.clients",
        description="Time whole programs of others before and after fastrnn.accelerate.",
    )
    parser.add_argument("--clients", nargs="+", choices=CLIENTS, default=list(CLIENTS))
    parser.add_argument(
        "--threads",
        nargs="+",
        type=int,
        choices=range(1, available + 1),
        default=sorted({1, available}),
        metavar="N",
        help="numbers of threads (default: 1 and all)",
    )
    parser.add_argument("--budget", type=float, default=30, help="seconds for one client")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the results here too")
    parser.add_argument(
        "--readme", action="store_true", help=f"put the table into README.md and {RESULTS.name}"
    )
    options = parser.parse_args(argv)
    if not fastrnn.info().loaded:
        sys.exit(f"Nothing to time, fastrnn's kernels are not loaded: {fastrnn.info().reason}.")
    results = run(options)
    if not results["rows"]:
        sys.exit(f"Nothing is installed: {INSTALL}")
    if options.json:
        save(options.json, results)
    if options.readme:
        save(RESULTS, results)
        readme.put(readme.README, TABLE, markdown(results))


if __name__ == "__main__":
    main()
