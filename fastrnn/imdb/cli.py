"""The commands of `fastrnn-imdb`: results on stdout, progress and mistakes on stderr."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table

from fastrnn.imdb import tables
from fastrnn.imdb.checkpoint import load_model
from fastrnn.imdb.config import Config
from fastrnn.imdb.corpus import load_corpus
from fastrnn.imdb.errors import DataError
from fastrnn.imdb.model import layer_table
from fastrnn.imdb.options import config_options, option_text
from fastrnn.imdb.presets import PRESETS, configure
from fastrnn.imdb.progress import training_progress
from fastrnn.imdb.reviews import Corpus
from fastrnn.imdb.runs import RunFolder
from fastrnn.imdb.sequences import validation_split
from fastrnn.imdb.training import Result, State, evaluate, find_device, make_examples, train

app = typer.Typer(
    help="Sentiment of film reviews with recurrent networks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
PRESET_HELP = "\n\n".join(f"{name}: {preset.about}" for name, preset in PRESETS.items())


def run(arguments: list[str] | None = None) -> int:
    """Runs the command line `arguments`, by default the program's; returns the exit code."""
    try:
        app(arguments, prog_name="fastrnn-imdb")
    except (DataError, OSError) as error:  # OSError: a full disk, a folder without permission
        print(f"fastrnn-imdb: {error}", file=sys.stderr)
        return 2
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    return 0


@app.command("train", epilog=f"Presets:\n\n{PRESET_HELP}")
@config_options
def train_command(**given: Any) -> None:
    """Trains a model, tests its best epoch, and keeps both in a run folder.

    A preset gives the settings, and options override it; without one the defaults below hold.
    Ctrl-C leaves a checkpoint of the last complete epoch.
    """
    config = configure(**given)
    find_device(config.device)
    folder = RunFolder(Path(config.run_dir or _default_run_dir(config)))
    try:
        corpus = load_corpus(config.data)
        result = _train(config, corpus, folder)
    except KeyboardInterrupt:
        print(f"fastrnn-imdb: {_interrupted(folder)}", file=sys.stderr)
        raise typer.Exit(130) from None
    print(f"\nBest epoch {result.best.epoch} of {len(result.history)}; run folder {folder.path}")


def _default_run_dir(config: Config) -> str:
    return f"runs/{config.preset or config.cell}-{time.strftime('%Y%m%d-%H%M%S')}"


def _train(config: Config, corpus: Corpus, folder: RunFolder) -> Result:
    _announce(corpus)
    _use_threads(config.threads)
    folder.start(config, corpus)
    if config.one_hot:
        training, _ = validation_split(len(corpus.train), config.validation_fraction)
        print(tables.one_hot_sizes(config, len(training)))
    with training_progress() as (on_step, show):

        def on_epoch(state: State) -> None:
            folder.update(state)
            show(state)

        result = train(config, corpus, on_step=on_step, on_epoch=on_epoch)
    folder.finish(result, corpus)
    _print(tables.layers(layer_table(result.model, config)))
    _print(tables.scores({"validation": result.validation, "test": result.test}))
    return result


def _interrupted(folder: RunFolder) -> str:
    if not folder.last.exists():
        return "interrupted before training began; nothing is lost"
    return (
        f"interrupted; the last complete epoch is in {folder.last}, "
        f"and `fastrnn-imdb evaluate {folder.last}` scores it"
    )


@app.command("evaluate")
def evaluate_command(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint, such as RUN_DIR/best.pt.")],
    data: Annotated[
        str | None, typer.Option(help=f"{option_text('data')} Default as trained.")
    ] = None,
    device: Annotated[str, typer.Option(help=option_text("device"))] = "cpu",
    threads: Annotated[int | None, typer.Option(help=option_text("threads"), min=1)] = None,
) -> None:
    """Scores a saved checkpoint on the test reviews."""
    config, model, _ = load_model(checkpoint)
    place = find_device(device)
    corpus = load_corpus(data or config.data)
    _announce(corpus)
    _use_threads(threads)
    examples = make_examples(config, corpus.test, place)
    _print(tables.scores({"test": evaluate(model.to(place), examples, config)}))


@app.command("data")
def data_command(
    data: Annotated[str | None, typer.Option(help=option_text("data"))] = None,
) -> None:
    """Tells which reviews were found, how many there are and how long they are."""
    corpus = load_corpus(data)
    _announce(corpus)
    _print(tables.corpus(corpus))


def _announce(corpus: Corpus) -> None:
    """Says where the reviews are from; made-up ones are no result, so that goes to stderr too."""
    print(f"Reviews: {corpus.source}", flush=True)
    if corpus.synthetic:
        print(f"fastrnn-imdb: warning: {corpus.source}", file=sys.stderr)


def _print(table: Table) -> None:
    Console().print(table)


def _use_threads(threads: int | None) -> None:
    if threads is not None:
        torch.set_num_threads(threads)
