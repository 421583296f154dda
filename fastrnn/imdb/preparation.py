"""From a corpus to what a model is trained on, and what it needs to read other reviews."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from fastrnn.imdb.batches import Examples, Segmented, make_examples
from fastrnn.imdb.config import Config
from fastrnn.imdb.errors import DataError
from fastrnn.imdb.ngrams import KINDS, NgramTable, fit
from fastrnn.imdb.reviews import Corpus, Reviews
from fastrnn.imdb.sequences import known_words, split_groups, validation_split

FILES_PER_GROUP = 50  # reviews of a film have numbers that are nearer than this, mostly


class Prepared(NamedTuple):
    """What a training run reads."""

    training: Examples | Segmented
    validation: Examples | Segmented | None
    """None where all reviews are for training."""
    table: NgramTable | None
    """The n-grams of the training part, where the settings want features."""


def prepare(config: Config, corpus: Corpus, device: torch.device) -> Prepared:
    """Divides the training reviews as `config` says, and makes both parts ready to be read.

    Raises:
        DataError: there are too few reviews, or their source lacks what the settings want.
    """
    training, validation = split_reviews(config, corpus.train)
    marks = table = None
    if config.features != "none":
        known, kind = known_words(config.num_words), KINDS[config.features]
        marks, table = fit(training, known, kind, film_groups(training))
    return Prepared(
        make_examples(config, training, device, table, marks),
        None if validation is None else make_examples(config, validation, device, table),
        table,
    )


def split_reviews(config: Config, reviews: Reviews) -> tuple[Reviews, Reviews | None]:
    """Returns the training part and the validation part of the reviews, None if there is none."""
    if config.validation_fraction == 0:
        return reviews, None
    if config.split == "random":
        parts = validation_split(len(reviews), config.validation_fraction)
    else:
        groups = film_groups(reviews)
        if groups is None:
            raise DataError(
                "--split films goes by the names of the review files, which Keras' imdb.npz has "
                "not: give the aclImdb folder or an archive of it with --data"
            )
        parts = split_groups(groups, config.validation_fraction)
    training, validation = map(reviews.select, parts)
    return training, validation


def film_groups(reviews: Reviews) -> npt.NDArray[np.int64] | None:
    """For each review the number of its group; None where there were no files.

    A group has as many reviews of both labels. Reviews of a film with the same label have
    neighbouring files, and are in the same group, mostly.
    """
    return None if reviews.files is None else reviews.files // FILES_PER_GROUP
