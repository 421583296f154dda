"""The commands of `fastrnn-imdb`: results on stdout, progress and mistakes on stderr."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import typer

from fastrnn.imdb import tables
from fastrnn.imdb.commands_compare import COMPARE_EPILOG, compare_command
from fastrnn.imdb.commands_data import DATA_EPILOG, data_command
from fastrnn.imdb.commands_model import (
    EVALUATE_EPILOG,
    EXPLAIN_EPILOG,
    PREDICT_EPILOG,
    evaluate_command,
    explain_command,
    predict_command,
)
from fastrnn.imdb.config import Config
from fastrnn.imdb.corpus import load_corpus
from fastrnn.imdb.errors import DataError
from fastrnn.imdb.model import layer_table
from fastrnn.imdb.options import config_options
from fastrnn.imdb.presets import PRESETS, configure
from fastrnn.imdb.progress import training_progress
from fastrnn.imdb.reviews import Corpus
from fastrnn.imdb.runs import RunFolder
from fastrnn.imdb.sequences import validation_split
from fastrnn.imdb.terminal import EXIT_CODES, announce, show, use_threads
from fastrnn.imdb.training import Result, State, find_device, train

app = typer.Typer(
    help="Sentiment of film reviews with recurrent networks.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("evaluate", epilog=EVALUATE_EPILOG)(evaluate_command)
app.command("predict", epilog=PREDICT_EPILOG)(predict_command)
app.command("explain", epilog=EXPLAIN_EPILOG)(explain_command)
app.command("data", epilog=DATA_EPILOG)(data_command)
app.command("compare", epilog=COMPARE_EPILOG)(compare_command)
PRESET_HELP = "\n\n".join(f"{name}: {preset.about}" for name, preset in PRESETS.items())


def run(arguments: list[str] | None = None) -> int:
    """Runs the command line `arguments`, by default the program's; returns the exit code."""
    try:
        app(arguments, prog_name="fastrnn-imdb")
    except (DataError, OSError) as error:  # OSError: a full disk, a folder without permission
        print(f"fastrnn-imdb: {error}", file=sys.stderr)
        code = 2
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    return _flushed(code)


def _flushed(code: int) -> int:
    """Writes out what is left, and returns `code`, or 1 where nobody reads it any more."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes once more at its end, and would complain of the pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


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
    announce(corpus)
    use_threads(config.threads)
    folder.start(config, corpus)
    if config.one_hot:
        training, _ = validation_split(len(corpus.train), config.validation_fraction)
        print(tables.one_hot_sizes(config, len(training)))
    with training_progress() as (on_step, show_epoch):

        def on_epoch(state: State) -> None:
            folder.update(state)
            show_epoch(state)

        result = train(config, corpus, on_step=on_step, on_epoch=on_epoch)
    folder.finish(result, corpus)
    show(tables.layers(layer_table(result.model, config)))
    show(tables.scores({"validation": result.validation, "test": result.test}))
    return result


def _interrupted(folder: RunFolder) -> str:
    if not folder.last.exists():
        return "interrupted before training began; nothing is lost"
    return (
        f"interrupted; the last complete epoch is in {folder.last}, "
        f"and `fastrnn-imdb evaluate {folder.last}` scores it"
    )
