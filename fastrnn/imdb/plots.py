"""Plots of a run, as the bytes of PNG files."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn.imdb.reviews import Corpus
from fastrnn.imdb.sequences import review_lengths as lengths_of
from fastrnn.imdb.state import Epoch

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(**settings: Any) -> Figure:
    """Returns an empty figure with matplotlib's settings."""
    # Imported here, for that takes long and most commands draw nothing.
    from matplotlib.figure import Figure

    return Figure(layout="constrained", **settings)


def losses(history: list[Epoch], best_epoch: int) -> bytes:
    """Returns training and validation loss over the epochs, with a line at the best one."""
    figure = new_figure()
    axes = figure.subplots()
    epochs = [epoch.epoch for epoch in history]
    axes.plot(epochs, [epoch.train_loss for epoch in history], label="training")
    axes.plot(epochs, [epoch.validation_loss for epoch in history], label="validation")
    axes.axvline(best_epoch, color="gray", linestyle=":", label=f"best epoch: {best_epoch}")
    axes.set(xlabel="epoch", ylabel="loss")
    axes.legend(loc="upper right")  # "best" is slow to find
    return png(figure)


def review_lengths(corpus: Corpus) -> bytes:
    """Returns a histogram of the lengths of the training reviews, with mean and median."""
    lengths = lengths_of(corpus.train)
    figure = new_figure()
    axes = figure.subplots()
    axes.hist(lengths, bins=60)
    mean, median = float(lengths.mean()), float(np.median(lengths))
    axes.axvline(mean, color="C1", label=f"mean: {mean:.1f}")
    axes.axvline(median, color="C2", linestyle="--", label=f"median: {median:.1f}")
    axes.set(xlabel="words in a training review", ylabel="reviews")
    axes.legend(loc="upper right")  # "best" is slow to find
    return png(figure)


def png(figure: Figure) -> bytes:
    """Returns a figure as a PNG file."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=120)
    return file.getvalue()
