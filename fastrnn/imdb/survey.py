"""What the reviews are like: their lengths, and what a vocabulary and a length keep of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastrnn.imdb.reviews import Corpus, Reviews
from fastrnn.imdb.sequences import INDEX_FROM, review_lengths

BAND = 100  # words; a band of the histogram
BANDS = 10  # the last takes all longer reviews
NUM_WORDS = (100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 30_000)
MAXLENS = (50, 100, 200, 300, 400, 500, 1_000)
ID_BYTES = ELEMENT_BYTES = 4  # int32 and float32


class Lengths(NamedTuple):
    """The reviews of a split, each as long as Keras counts it: its words and the start number."""

    reviews: int
    positive: int
    mean: float
    median: float
    longest: int
    histogram: list[int]
    """Reviews of 0 to 99 words, of 100 to 199, and so on; the last of 900 and more."""


class Coverage(NamedTuple):
    """What a vocabulary keeps, and what one-hot vectors of it would take."""

    num_words: int
    training: float
    """Share of the words of the training reviews that keep a number of their own."""
    test: float
    """The same of the test reviews, of the words in them that the training reviews have."""
    one_hot_bytes: int
    """For all training reviews at once, cut or filled to one length, in float32."""


class Cut(NamedTuple):
    """What a length leaves of the training reviews."""

    maxlen: int
    whole: float
    """Share of the reviews that are not cut."""
    kept: float
    """Share of their words and start numbers that stay."""


class Survey(NamedTuple):
    """All that is known about a corpus."""

    source: str
    synthetic: bool
    training: Lengths
    test: Lengths
    vocabulary: int
    """Different words in the training reviews."""
    maxlen: int
    """The length to which `ids_bytes` and `one_hot_bytes` refer."""
    ids_bytes: int
    """The training reviews as numbers, in int32."""
    coverage: list[Coverage]
    cuts: list[Cut]

    def to_dict(self) -> dict[str, Any]:
        """The survey as plain values, for JSON."""
        return {
            **self._asdict(),
            "training": self.training._asdict(),
            "test": self.test._asdict(),
            "coverage": [each._asdict() for each in self.coverage],
            "cuts": [each._asdict() for each in self.cuts],
        }


def survey(corpus: Corpus, maxlen: int) -> Survey:
    """Returns what a corpus is like, and the memory that it takes at a length.

    Args:
        corpus: The reviews.
        maxlen: Numbers in a review after it was cut or filled.
    """
    most = int(corpus.train.words.max(initial=0))
    ids = len(corpus.train) * maxlen
    sizes = [size for size in NUM_WORDS if size <= most + INDEX_FROM]
    kept = {"train": _kept(corpus.train, most), "test": _kept(corpus.test, most)}
    return Survey(
        corpus.source,
        corpus.synthetic,
        _lengths(corpus.train),
        _lengths(corpus.test),
        most,
        maxlen,
        ids * ID_BYTES,
        [
            Coverage(
                size,
                float(kept["train"][size - INDEX_FROM - 1]),
                float(kept["test"][size - INDEX_FROM - 1]),
                ids * size * ELEMENT_BYTES,
            )
            # The last keeps every word.
            for size in [*sizes, most + INDEX_FROM + 1]
        ],
        _cuts(corpus.train),
    )


def _lengths(reviews: Reviews) -> Lengths:
    lengths = review_lengths(reviews)
    bands = np.bincount(np.minimum(lengths // BAND, BANDS - 1), minlength=BANDS)
    return Lengths(
        len(reviews),
        int(reviews.labels.sum()),
        float(lengths.mean()),
        float(np.median(lengths)),
        int(lengths.max()),
        bands.tolist(),
    )


def _kept(reviews: Reviews, most: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The share of the words whose rank is at most the index."""
    counts = np.bincount(reviews.words, minlength=most + 1)
    return np.cumsum(counts) / max(1, len(reviews.words))


def _cuts(reviews: Reviews) -> list[Cut]:
    lengths = review_lengths(reviews)
    return [
        Cut(
            maxlen,
            float(np.mean(lengths <= maxlen)),
            float(np.minimum(lengths, maxlen).sum() / lengths.sum()),
        )
        for maxlen in MAXLENS
        if maxlen < lengths.max()
    ]
