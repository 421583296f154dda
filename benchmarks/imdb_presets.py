"""`python -m benchmarks.imdb_presets` trains every preset and tables it beside the reports."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args, get_type_hints

import torch

from benchmarks import readme
from benchmarks.report import machine, save
from fastrnn.imdb.config import Config
from fastrnn.imdb.corpus import load_corpus
from fastrnn.imdb.model import layer_table
from fastrnn.imdb.presets import PRESETS, configure
from fastrnn.imdb.reviews import Corpus
from fastrnn.imdb.training import train

RESULTS = Path(__file__).parent / "results" / "imdb_presets.json"
TABLE = "imdb-presets"
BACKENDS = get_args(get_type_hints(Config)["backend"])

Row = dict[str, Any]
"""One preset as it stands in the JSON; accuracies are fractions."""


def measure(name: str, corpus: Corpus, **given: Any) -> Row:
    """Trains a preset once, with the settings given instead of its own."""
    config = configure(name, **given)
    result = train(config, corpus)
    *layers, total = layer_table(result.model, config)
    return {
        "preset": name,
        "cell": config.cell,
        "recurrent_parameters": {
            "torch": sum(row.torch_parameters for row in layers[1:-1]),
            "keras": sum(row.keras_parameters for row in layers[1:-1]),
        },
        "parameters": {"torch": total.torch_parameters, "keras": total.keras_parameters},
        "epochs": len(result.history),
        "best_epoch": result.best.epoch,
        "validation": result.validation._asdict(),
        "reported_validation": PRESETS[name].reported_validation,
        "test": result.test._asdict(),
        "reported_test": PRESETS[name].reported_test,
        "seconds_per_epoch": sum(each.seconds for each in result.history) / len(result.history),
    }


def line(row: Mapping[str, Any]) -> str:
    """One row of the Markdown table."""
    recurrent, total = row["recurrent_parameters"], row["parameters"]
    accuracy, reported = row["validation"]["accuracy"], row["reported_validation"]
    cells = [
        f"`{row['preset']}`",
        row["cell"],
        *(f"{recurrent[who]:,} / {total[who]:,}" for who in ("torch", "keras")),
        f"{row['epochs']} ({row['best_epoch']})",
        f"{accuracy:.4f}",
        f"{reported:.4f}",
        f"{100 * (accuracy - reported):+.1f}",
        f"{row['test']['accuracy']:.4f}",
        f"{row['test']['f1']:.4f}",
        f"{row['seconds_per_epoch']:.2f}",
    ]
    return f"| {' | '.join(cells)} |"


TITLES = (
    "preset | cell | parameters: recurrent / all | the same as Keras counts | epochs (best) "
    "| validation accuracy | reported | difference, points | test accuracy | F1 | s per epoch"
)


def markdown(results: Mapping[str, Any]) -> str:
    """The table of the README, with what a reader must know to judge it."""
    facts = results["machine"]
    lines = [
        f"Seed {results['seed']}, backend `{results['backend']}`, {results['reviews']}; "
        f"{facts['cpu']}, {facts['threads']} of {facts['cores']} cores, {facts['isa']}; "
        f"torch {facts['torch']}, fastrnn {facts['fastrnn']} at {facts['commit']}, "
        f"{facts['date']}, load average before the run {facts['load_average']}. With 5,000 "
        "validation reviews one standard error of an accuracy is 0.6 points.",
        "",
        f"| {TITLES} |",
        "|---|---|" + "--:|" * (TITLES.count("|") - 1),
        *map(line, results["rows"]),
    ]
    return "\n".join(lines) + "\n"


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Trains all presets and prints each as it is done."""
    if options.threads:
        torch.set_num_threads(options.threads)
    corpus = load_corpus(options.data)
    if corpus.synthetic:
        raise SystemExit(f"No table of made-up reviews: {corpus.source}")
    results: dict[str, Any] = {
        "machine": machine(torch.float32),
        "backend": options.backend,
        "seed": options.seed,
        # Not corpus.source: it may hold a path of this machine.
        "reviews": f"{len(corpus.train):,} training and {len(corpus.test):,} test reviews",
        "rows": [],
    }
    for name in PRESETS:
        row = measure(name, corpus, backend=options.backend, seed=options.seed)
        results["rows"].append(row)
        print(line(row), flush=True)
    return results


def main(argv: list[str] | None = None) -> None:
    """Does what the command line asks for."""
    parser = argparse.ArgumentParser("python -m benchmarks.imdb_presets", description=__doc__)
    parser.add_argument("--data", help="where the reviews are; default as fastrnn-imdb's")
    parser.add_argument("--backend", choices=BACKENDS, default="fastrnn")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--results", type=Path, default=RESULTS, help="JSON file to write")
    parser.add_argument(
        "--readme", type=Path, default=readme.README, help="page to put the table into"
    )
    options = parser.parse_args(argv)
    readme.split(options.readme.read_text(), TABLE)  # fails before the work, not after it
    results = run(options)
    save(options.results, results)
    readme.put(options.readme, TABLE, markdown(results))


if __name__ == "__main__":
    main()
