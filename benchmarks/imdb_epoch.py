"""`python -m benchmarks.imdb_epoch`: seconds of one epoch of the IMDB job, by engine.

The job: 20,000 sequences of 100 random ids in batches of 64; embedding of 500 words in 16
dimensions, one recurrent layer of 8 units, its last state to one logit, binary cross-entropy, Adam.
An epoch is everything: shuffling, batches, forward, backward, optimizer. Engines: `torch.nn`;
`fastrnn`, in the same loop, whose layer reads the ids; Keras 3 on JAX by its own `fit`, where it is
installed (`pip install keras jax`); and the floor, the same loop on torch with a mean over time for
a recurrent layer: what the loop and the embedding take by themselves.

Each engine runs in processes of its own, bound to as many cores as it may use threads, one engine
after the other in an order shuffled anew in each round. The first epoch is not timed (JAX compiles
in it). A round gives the median of its epochs; the figures are medians of rounds, with quartiles,
and ratios are of the same round. CPU seconds, of all threads, tell how far to trust them: where one
thread's are fewer than the seconds that passed, something else had the core. Before anything is
reported the losses are compared: torch.nn and fastrnn start from the same weights with the same
batches, so they must agree.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import fastrnn
from benchmarks.cases import CELLS
from benchmarks.cores import limited_to
from benchmarks.engines.keras_jax import KerasJax
from benchmarks.imdb_loops import BATCH, ENGINES, Job, Result, encode
from benchmarks.options import add_threads
from benchmarks.report import machine_facts, save, spread_text
from benchmarks.timing import Spread

ROOT = Path(__file__).parents[1]
# Mean losses drift apart by the order of float32 sums alone, by far less; but later, when the
# network leaves its first plateau, one rounding of torch's own first weights moves them by 4e-3.
LOSS_TOLERANCE = 1e-3
COMPARED_EPOCHS = 2

Row = dict[str, Any]
"""One cell and number of threads: `seconds` by engine and `ratio` by rival are spreads."""


def installed() -> tuple[str, ...]:
    """The engines that this interpreter can run."""
    have_keras = all(importlib.util.find_spec(name) for name in ("keras", "jax"))
    return tuple(name for name in ENGINES if name != "keras-jax" or have_keras)


def run_job(job: Job) -> dict[str, Result]:
    """Runs `benchmarks.imdb_loops` in a process of its own, on the cores it may use."""
    with limited_to(job.threads):
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.imdb_loops", encode(job)],
            cwd=ROOT,
            env=os.environ | KerasJax().environment(job.threads),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    return json.loads(done.stdout)


def check_losses(results: Mapping[str, Mapping[str, Result]]) -> None:
    """Compares what torch.nn and fastrnn learnt.

    Raises:
        ValueError: the mean loss of one of the first epochs differs by more than LOSS_TOLERANCE.
    """
    for cell, ours in results["fastrnn"].items():
        pairs = zip(ours["losses"], results["torch"][cell]["losses"], strict=True)
        for epoch, (loss, wanted) in enumerate(islice(pairs, COMPARED_EPOCHS), 1):
            if not abs(loss - wanted) <= LOSS_TOLERANCE:
                raise ValueError(
                    f"{cell}: fastrnn's loss of epoch {epoch} is {loss:.5f}, torch.nn's "
                    f"{wanted:.5f}, wanted within {LOSS_TOLERANCE}; such work is not compared"
                )


def make_row(cell: str, threads: int, rounds: Sequence[Mapping[str, Mapping[str, Result]]]) -> Row:
    """Sums up the rounds of one cell."""
    seconds = {
        engine: [median(each[engine][cell]["seconds"]) for each in rounds] for engine in rounds[0]
    }
    ours = seconds["fastrnn"]
    ratios = {
        engine: [rival / own for rival, own in zip(values, ours, strict=True)]
        for engine, values in seconds.items()
        if engine != "fastrnn"
    }
    return {
        "cell": cell,
        "threads": threads,
        "rounds": len(rounds),
        "losses": {engine: rounds[0][engine][cell]["losses"] for engine in seconds},
        "seconds": {engine: asdict(Spread.of(values)) for engine, values in seconds.items()},
        "cpu_seconds": {
            engine: median(median(each[engine][cell]["cpu_seconds"]) for each in rounds)
            for engine in seconds
        },
        "ratio": {engine: asdict(Spread.of(values)) for engine, values in ratios.items()},
    }


def lines(row: Row) -> list[str]:
    """The rows of the table for one cell: a line for each engine, and how fastrnn compares."""
    table = []
    for engine, seconds in row["seconds"].items():
        text = f"{row['threads']:7} {row['cell']:5}{engine:10} {spread_text(seconds, 3):26}"
        text += f"{row['cpu_seconds'][engine]:7.3f} "
        if engine in row["ratio"]:
            ratio = row["ratio"][engine]
            text += f" {spread_text(ratio, 3):26}"
            if engine != "floor" and ratio["median"] < 1:
                text += " fastrnn is slower"
        table.append(text.rstrip())
    return table


HEADER = (
    f"{'threads':7} {'cell':5}{'engine':10} {'s per epoch (quartiles)':26}{'CPU s':>7}  "
    "engine / fastrnn (quartiles)"
)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Runs all rounds, and prints the rows of each number of threads as they are done."""
    engines, cells = installed(), tuple(options.cells)
    results: dict[str, Any] = {
        "machine": {**machine_facts(), "dtype": "float32"},  # each row has its own threads
        "job": {"sequences": options.sequences, "batch": BATCH, "epochs": options.epochs},
        "skipped": sorted(set(ENGINES) - set(engines)),
        "rows": [],
    }
    for name, value in results["machine"].items():
        print(f"{name:14}{value}")
    for engine in results["skipped"]:
        print(f"Not run, its packages are missing: {engine} (pip install keras jax).")
    print(f"\n{HEADER}", flush=True)
    shuffle = random.Random(0)
    for threads in options.threads:
        rounds = []
        for number in range(1, options.rounds + 1):
            found = {}
            for name in shuffle.sample(engines, len(engines)):
                print(f"{threads} threads, round {number}: {name}", file=sys.stderr, flush=True)
                job = Job(name, cells, threads, options.sequences, options.epochs)
                found[name] = run_job(job)
            rounds.append({name: found[name] for name in engines})
            check_losses(rounds[-1])
        rows = [make_row(cell, threads, rounds) for cell in cells]
        results["rows"] += rows
        print(*(text for row in rows for text in lines(row)), sep="\n", flush=True)
    return results


def count(text: str) -> int:
    """Reads a positive number."""
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def main(argv: list[str] | None = None) -> None:
    """Does what the command line asks for."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.imdb_epoch", description="Time an epoch of the IMDB job by engine."
    )
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=CELLS)
    add_threads(parser)
    parser.add_argument("--rounds", type=int, choices=range(2, 100), default=5, metavar="N")
    parser.add_argument("--epochs", type=count, default=2, help="timed epochs per process")
    parser.add_argument("--sequences", type=count, default=20_000)
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the results here too")
    options = parser.parse_args(argv)
    if not fastrnn.info().loaded:
        sys.exit(f"Nothing to time, fastrnn's kernels are not loaded: {fastrnn.info().reason}.")
    results = run(options)
    if options.json:
        save(options.json, results)


if __name__ == "__main__":
    main()
