"""`python -m benchmarks.imdb_goals`: what the sentiment program's presets with goals reach.

Each training is the whole command as a user gives it, in a process of its own, timed from its start
to its end: imports, reading the reviews, training, scoring the test reviews, plots. All tokenised
reviews are kept in a folder that is empty at first, so the first command of a preset tokenises, and
counts n-grams; the others find them. Ways to train the same preset take turns in shuffled order.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from benchmarks.readme import README, put
from benchmarks.report import facts_text, machine_facts, save
from fastrnn.imdb.presets import GOALS

ROOT = Path(__file__).parents[1]

WAYS: dict[str, tuple[tuple[str, ...], ...]] = {
    "quick": ((), ("--backend", "torch")),
    "best-cpu": ((), ("--features", "none")),
    "best-lstm": ((),),
}
"""By preset, the options beside it; the first way has none, and is the first to run."""

Run = dict[str, Any]
"""One training: preset, options, seed, and what came of it."""


def train(preset: str, way: Sequence[str], seed: int, data: str, cache: Path) -> Run:
    """Runs the command; its own words go to stderr.

    Raises:
        SystemExit: it failed.
    """
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "run"
        options = ["--preset", preset, *way, "--seed", str(seed), "--data", data]
        command = [sys.executable, "-m", "fastrnn.imdb", "train", *options]
        first = not cache.exists()
        begin = time.perf_counter()
        done = subprocess.run(
            [*command, "--run-dir", str(folder)],
            cwd=ROOT,
            env=os.environ | {"FASTRNN_CACHE": str(cache)},
            stdout=sys.stderr,
            check=False,
        )
        seconds = time.perf_counter() - begin
        if done.returncode:
            raise SystemExit(f"this failed with {done.returncode}: {' '.join(command)}")
        result = json.loads((folder / "result.json").read_text())
    kept = ("test", "epochs", "seconds_per_epoch", "threads")
    return {
        "preset": preset,
        "options": list(way),
        "seed": seed,
        "seconds": seconds,
        "tokenises": first,
        **{name: result[name] for name in kept},
    }


def measure(preset: str, seeds: Sequence[int], data: str) -> list[Run]:
    """Runs all ways to train a preset with all seeds."""
    runs: list[Run] = []
    with tempfile.TemporaryDirectory() as parent:
        for seed in seeds:
            ways = list(WAYS[preset])
            if runs:
                random.shuffle(ways)
            runs += [train(preset, way, seed, data, Path(parent) / "cache") for way in ways]
    return runs


def markdown(results: Mapping[str, Any]) -> str:
    """The table of the README."""
    runs: list[Run] = results["runs"]
    seeds = sorted({run["seed"] for run in runs})
    lines = [
        f"{facts_text(results['machine'])}. Seeds {', '.join(map(str, seeds))}.",
        "",
        "| `train --preset` | threads | test accuracy, % | seconds per epoch | whole command, s | "
        "first command, s |",
        "|---|--:|:--|--:|--:|--:|",
    ]
    for preset, ways in WAYS.items():
        for way in ways:
            found = [r for r in runs if (r["preset"], tuple(r["options"])) == (preset, way)]
            if found:
                lines.append(_line(" ".join([preset, *way]), found))
    return "\n".join(lines) + "\n"


def _line(name: str, runs: Sequence[Run]) -> str:
    accuracies = [100 * run["test"]["accuracy"] for run in runs]
    spread = f" ± {stdev(accuracies):.2f}" if len(runs) > 1 else ""
    epochs = _range([run["seconds_per_epoch"] for run in runs])
    later = _range([run["seconds"] for run in runs if not run["tokenises"]])
    first = _range([run["seconds"] for run in runs if run["tokenises"]])
    return (
        f"| `{name}` | {runs[0]['threads']} | {mean(accuracies):.2f}{spread} | {epochs} | "
        f"{later} | {first} |"
    )


def _range(seconds: Sequence[float]) -> str:
    texts = [f"{s:.3g}" if s < 100 else f"{s:.0f}" for s in sorted(seconds)]
    return " to ".join(dict.fromkeys(texts[:1] + texts[-1:]))


def main(argv: list[str] | None = None) -> None:
    """Does what the command line asks for."""
    parser = argparse.ArgumentParser("python -m benchmarks.imdb_goals", description=__doc__)
    parser.add_argument("--data", required=True, help="the reviews, as `fastrnn-imdb` takes them")
    parser.add_argument("--presets", nargs="+", choices=GOALS, default=list(WAYS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="SEED")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the results here too")
    parser.add_argument("--readme", action="store_true", help="put the table into README.md")
    options = parser.parse_args(argv)
    facts = machine_facts()  # before: it tells the load that others make
    runs = [
        run for preset in options.presets for run in measure(preset, options.seeds, options.data)
    ]
    results = {"machine": facts, "runs": runs}
    print(markdown(results), end="")
    if options.json:
        save(options.json, results)
    if options.readme:
        put(README, "imdb-goals", markdown(results))


if __name__ == "__main__":
    main()
