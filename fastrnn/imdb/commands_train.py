"""The command `train`: trains a model in a run folder, or goes on where a killed run was."""

from __future__ import annotations

import os
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from fastrnn.imdb import presets, tables
from fastrnn.imdb.boards import tensorboard_log
from fastrnn.imdb.config import Config
from fastrnn.imdb.corpus import load_corpus
from fastrnn.imdb.distributed import Left, Team, joined_team
from fastrnn.imdb.errors import DataError
from fastrnn.imdb.extras import require
from fastrnn.imdb.layers import layer_table
from fastrnn.imdb.options import config_options
from fastrnn.imdb.preparation import split_reviews
from fastrnn.imdb.presets import configure
from fastrnn.imdb.progress import training_progress
from fastrnn.imdb.reviews import Corpus
from fastrnn.imdb.runs import RunFolder
from fastrnn.imdb.state import Snapshot, State
from fastrnn.imdb.terminal import announce, epilog, show, use_threads
from fastrnn.imdb.training import find_device, train

PRESET_HELP = "\n\n".join(f"{name}: {preset.about}" for name, preset in presets.ALL.items())
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

    `torchrun --nproc-per-node=N -m fastrnn.imdb train ...` trains with N processes, each of which
    reads its part of every batch.
    """
    given = {name: value for name, value in given.items() if value is not None}
    folder = None
    try:
        with joined_team() as team:
            config, folder = team.share(lambda: _resumed(given) if resume else _begun(given))
            _train_in(folder, config, team)
    except Left:
        print(f"fastrnn-imdb: {_left_alone(folder)}", file=sys.stderr)
        raise typer.Exit(3) from None


def _train_in(folder: RunFolder, config: Config, team: Team) -> None:
    team.take_device(config.device)
    find_device(config.device)
    if config.tensorboard:
        require("tensorboard", "--tensorboard")
    try:
        corpus = team.in_turn(lambda: load_corpus(config.data, tokens=config.tokens))
        use_threads(config.threads)
        snapshot = team.share(lambda: folder.start(config, corpus))
        if team.leads:
            _lead(folder, config, corpus, snapshot, team)
        else:
            train(config, corpus, resume=snapshot, team=team)
    except KeyboardInterrupt:
        if team.leads:
            print(f"fastrnn-imdb: {_interrupted(folder)}", file=sys.stderr)
        raise typer.Exit(130) from None


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


def _lead(
    folder: RunFolder, config: Config, corpus: Corpus, snapshot: Snapshot | None, team: Team
) -> None:
    """Trains, and prints and writes what is found."""
    announce(corpus)
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

        result = train(
            config, corpus, resume=snapshot, team=team, on_step=on_step, on_epoch=on_epoch
        )
    folder.finish(result, corpus)
    show(tables.layers(layer_table(result.model, config)))
    parts = {"validation": result.validation} if config.validation_fraction else {}
    show(tables.scores({**parts, "test": result.test}))
    print(f"\nBest epoch {result.best.epoch} of {len(result.history)}; run folder {folder.path}")


def _interrupted(folder: RunFolder) -> str:
    if not folder.last.exists():
        return "interrupted before training began; nothing is lost"
    return (
        f"interrupted; the last complete epoch is in {folder.last}: `fastrnn-imdb evaluate "
        f"{folder.last}` scores it, `fastrnn-imdb train --resume --run-dir {folder.path}` goes on"
    )


def _left_alone(folder: RunFolder | None) -> str:
    text = f"process {os.environ['RANK']}: another process of this training ended, so it must end"
    if folder is None or not folder.last.exists():
        return f"{text}; no epoch was complete"
    return (
        f"{text}; the last complete epoch is in {folder.last}, and the same call with --resume "
        f"--run-dir {folder.path} goes on"
    )
