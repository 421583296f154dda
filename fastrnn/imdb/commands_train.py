"""The command `train`: trains a model in a run folder, or goes on where a killed run was."""

from __future__ import annotations

import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from fastrnn.imdb import tables
from fastrnn.imdb.boards import tensorboard_log
from fastrnn.imdb.config import Config
from fastrnn.imdb.corpus import load_corpus
from fastrnn.imdb.errors import DataError
from fastrnn.imdb.extras import require
from fastrnn.imdb.model import layer_table
from fastrnn.imdb.options import config_options
from fastrnn.imdb.preparation import split_reviews
from fastrnn.imdb.presets import GOALS, PRESETS, configure
from fastrnn.imdb.progress import training_progress
from fastrnn.imdb.reviews import Corpus
from fastrnn.imdb.runs import RunFolder
from fastrnn.imdb.state import State
from fastrnn.imdb.terminal import announce, epilog, show, use_threads
from fastrnn.imdb.training import Result, find_device, train

ABOUT = {name: each.about for name, each in PRESETS.items()}
ABOUT |= {name: each.about for name, each in GOALS.items()}
PRESET_HELP = "\n\n".join(f"{name}: {about}" for name, about in ABOUT.items())
TRAIN_EPILOG = "\n\n".join(
    [
        f"Presets:\n\n{PRESET_HELP}",
        epilog(
            "train --preset lstm --data aclImdb_v1.tar.gz --run-dir runs/first",
            "train --resume --run-dir runs/first",
            "train --cell gru --hidden-size 64 --bidirectional --pooling max --batches bucketed "
            "--num-words 10000 --maxlen 400 --clip-norm 1 --schedule linear --epochs 4",
        ),
    ]
)

ResumeOption = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Go on from the last complete epoch of the run in --run-dir, with its settings; "
        "begin it where there is none.",
        rich_help_panel="Run",
    ),
]


@config_options
def train_command(*, resume: ResumeOption = False, **given: Any) -> None:
    """Trains a model, tests its best epoch, and keeps both in a run folder.

    A preset gives the settings, and options override it; without one the defaults below hold.
    However a run ends, its last complete epoch is in its folder. `--resume` goes on from there,
    and ends with the same weights as a run that nothing ended.
    """
    given = {name: value for name, value in given.items() if value is not None}
    config, folder = _resumed(given) if resume else _begun(given)
    find_device(config.device)
    if config.tensorboard:
        require("tensorboard", "--tensorboard")
    try:
        corpus = load_corpus(config.data, tokens=config.tokens)
        result = _train(config, corpus, folder)
    except KeyboardInterrupt:
        print(f"fastrnn-imdb: {_interrupted(folder)}", file=sys.stderr)
        raise typer.Exit(130) from None
    print(f"\nBest epoch {result.best.epoch} of {len(result.history)}; run folder {folder.path}")


def _begun(given: dict[str, Any]) -> tuple[Config, RunFolder]:
    config = configure(**given)
    folder = RunFolder(Path(config.run_dir or _default_run_dir(config)))
    folder.require_free()
    return config, folder


def _default_run_dir(config: Config) -> str:
    return f"runs/{config.preset or config.cell}-{time.strftime('%Y%m%d-%H%M%S')}"


def _resumed(given: dict[str, Any]) -> tuple[Config, RunFolder]:
    """Returns the settings of a run that is there, or of a new one, and its folder."""
    if "run_dir" not in given:
        raise DataError("--resume needs --run-dir: the folder of the run to go on with")
    folder = RunFolder(Path(given["run_dir"]))
    kept = folder.settings()
    if kept is None:
        if not set(given) - Config.changeable():
            raise DataError(
                f"--resume: there is no run in {folder.path}; give a run folder, or the settings "
                "of a run to begin there"
            )
        return _begun(given)
    for name in set(given) - Config.changeable():
        if given[name] != getattr(kept, name):
            option = Config.option(name)
            raise DataError(
                f"--resume: the run in {folder.path} has {option} {getattr(kept, name)}, got "
                f"{given[name]}; leave {option} out, or begin a new run"
            )
    return replace(kept, **{n: v for n, v in given.items() if n in Config.changeable()}), folder


def _train(config: Config, corpus: Corpus, folder: RunFolder) -> Result:
    announce(corpus)
    use_threads(config.threads)
    snapshot = folder.start(config, corpus)
    if config.one_hot:
        training, _ = split_reviews(config, corpus.train)
        print(tables.one_hot_sizes(config, len(training)))
    log = tensorboard_log(folder.path / "tensorboard") if config.tensorboard else nullcontext(None)
    with training_progress() as (on_step, show_epoch), log as log_epoch:

        def on_epoch(state: State) -> None:
            folder.update(state)
            show_epoch(state)
            if log_epoch is not None:
                log_epoch(state)

        result = train(config, corpus, resume=snapshot, on_step=on_step, on_epoch=on_epoch)
    folder.finish(result, corpus)
    show(tables.layers(layer_table(result.model, config)))
    parts = {"validation": result.validation} if config.validation_fraction else {}
    show(tables.scores({**parts, "test": result.test}))
    return result


def _interrupted(folder: RunFolder) -> str:
    if not folder.last.exists():
        return "interrupted before training began; nothing is lost"
    return (
        f"interrupted; the last complete epoch is in {folder.last}: `fastrnn-imdb evaluate "
        f"{folder.last}` scores it, `fastrnn-imdb train --resume --run-dir {folder.path}` goes on"
    )
