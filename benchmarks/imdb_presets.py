"""`python -m benchmarks.imdb_presets` trains every preset and tables it beside the reports."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
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


def measure(name: str, corpus: Corpus, seeds: Sequence[int], **given: Any) -> Row:
    """Trains a preset once for each seed, with the settings given instead of its own."""
    results = [train(configure(name, seed=seed, **given), corpus) for seed in seeds]
    config = results[0].config
    *layers, total = layer_table(results[0].model, config)
    return {
        "preset": name,
        "cell": config.cell,
        "recurrent_parameters": {
            "torch": sum(row.torch_parameters for row in layers[1:-1]),
            "keras": sum(row.keras_parameters for row in layers[1:-1]),
        },
        "parameters": {"torch": total.torch_parameters, "keras": total.keras_parameters},
        "reported_validation": PRESETS[name].reported_validation,
        "reported_test": PRESETS[name].reported_test,
        "runs": [
            {
                "seed": result.config.seed,
                "epochs": len(result.history),
                "best_epoch": result.best.epoch,
                "validation": result.validation._asdict(),
                "test": result.test._asdict(),
                "seconds_per_epoch": mean(each.seconds for each in result.history),
            }
            for result in results
        ],
    }


def spread(values: Sequence[float]) -> str:
    """Percent: the mean, and the standard deviation where there is one."""
    deviation = f" ± {100 * stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * mean(values):.1f}{deviation}"


def line(row: Mapping[str, Any]) -> str:
    """One row of the Markdown table."""
    recurrent, total = row["recurrent_parameters"], row["parameters"]
    runs, reported = row["runs"], row["reported_validation"]
    validation = [run["validation"]["accuracy"] for run in runs]
    cells = [
        f"`{row['preset']}`",
        row["cell"],
        *(f"{recurrent[who]:,} / {total[who]:,}" for who in ("torch", "keras")),
        ", ".join(f"{run['epochs']} ({run['best_epoch']})" for run in runs),
        spread(validation),
        f"{100 * reported:.1f}",
        f"{100 * (mean(validation) - reported):+.1f}",
        spread([run["test"]["accuracy"] for run in runs]),
        spread([run["test"]["f1"] for run in runs]),
        f"{mean(run['seconds_per_epoch'] for run in runs):.2f}",
    ]
    return f"| {' | '.join(cells)} |"


TITLES = (
    "preset | cell | parameters: recurrent / all | the same as Keras counts | epochs (best) "
    "| validation accuracy, % | reported | difference | test accuracy, % | F1, % | s per epoch"
)


def markdown(results: Mapping[str, Any]) -> str:
    """The table of the README, with what a reader must know to judge it."""
    facts = results["machine"]
    lines = [
        f"Seeds {', '.join(map(str, results['seeds']))} (mean ± standard deviation), backend "
        f"`{results['backend']}`, {results['reviews']}; "
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
        "seeds": options.seeds,
        # Not corpus.source: it may hold a path of this machine.
        "reviews": f"{len(corpus.train):,} training and {len(corpus.test):,} test reviews",
        "rows": [],
    }
    for name in PRESETS:
        row = measure(name, corpus, options.seeds, backend=options.backend)
        results["rows"].append(row)
        print(line(row), flush=True)
    return results


def main(argv: list[str] | None = None) -> None:
    """Does what the command line asks for."""
    parser = argparse.ArgumentParser("python -m benchmarks.imdb_presets", description=__doc__)
    parser.add_argument("--data", help="where the reviews are; default as fastrnn-imdb's")
    parser.add_argument("--backend", choices=BACKENDS, default="fastrnn")
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 0, 1])
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
