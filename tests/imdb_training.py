"""Small made-up reviews and quick settings for the tests of the training program."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrnn.imdb.checkpoint import save_checkpoint
from fastrnn.imdb.config import Config
from fastrnn.imdb.presets import configure
from fastrnn.imdb.reviews import Corpus
from fastrnn.imdb.sources import tokenise_files
from fastrnn.imdb.synthetic import synthetic_reviews
from fastrnn.imdb.training import Result, State, train


@cache
def small_corpus(train: int = 400, test: int = 100) -> Corpus:
    return Corpus(
        *tokenise_files(synthetic_reviews(train=train, test=test)),
        source="made up for a test",
        synthetic=True,
    )


def quick(preset: str | None = None, **given: Any) -> Config:
    """Settings of a preset, cut down to run in a second."""
    defaults = {"num_words": 300, "maxlen": 20, "epochs": 2, "backend": "torch"}
    return configure(preset, **{**defaults, **given})


def losses_of(config: Config, corpus: Corpus | None = None) -> tuple[npt.NDArray[Any], Result]:
    """The loss of each step of a training, and its result."""
    losses: list[float] = []
    result = train(
        config, corpus or small_corpus(), on_step=lambda loss: losses.append(loss.item())
    )
    return np.array(losses), result


def write_checkpoint(path: Path, preset: str | None = None, **given: Any) -> Path:
    """Trains for a moment, with a rate at which words matter, and writes a checkpoint."""
    states: list[State] = []
    config = quick(preset, **{"epochs": 3, "lr": 0.05, **given})
    train(config, small_corpus(), on_epoch=states.append)
    save_checkpoint(path, states[-1])
    return path
