"""Marks of tokens: which n-grams end there, or what these say of a review's label.

A training review is scored by statistics of other reviews alone. Its own label is part of its own
counts: scored by them, it would give its label away, and a network would learn to read just that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastrnn.imdb.errors import DataError
from fastrnn.imdb.reviews import Reviews

Floats = npt.NDArray[np.float16]
Ints = npt.NDArray[np.int64]
Marks = npt.NDArray[np.float16] | npt.NDArray[np.int32]

FOLDS = 10
FOLD_SEED = 7
INVERSE_PENALTY = 0.1
# Brings weights to about the spread of log-count ratios, so that a network weighs both alike.
WEIGHT_SCALE = 4.0


class Kind(NamedTuple):
    """What the marks of a token tell.

    Attributes:
        orders: The n of the n-grams that end at the token.
        scores: How many scores each has; 0 where marks tell which n-gram it is.
        least: N-grams in fewer training reviews are left out: they say more of these reviews than
            of others.
    """

    orders: tuple[int, ...]
    scores: int
    least: int

    @property
    def channels(self) -> int:
        """Marks that a token has."""
        return len(self.orders) * max(1, self.scores)


KINDS = {
    "none": Kind((), 0, 1),
    "learned": Kind((2, 3), 0, 6),
    "nb": Kind((1, 2, 3), 1, 3),
    "nbsvm": Kind((1, 2, 3), 2, 3),
}
"""By the name of the features in the settings."""


def ngram_keys(reviews: Reviews, vocabulary: int, orders: tuple[int, ...]) -> list[Ints]:
    """For each order n, a number for the n-gram that ends at each token, -1 where there is none.

    Args:
        reviews: n reviews.
        vocabulary: How many words have numbers of their own; all others are one word.
        orders: Each at least 1.

    Returns:
        An array (tokens,) for each order. No two n-grams have the same number, of different orders
        neither, because the words' ranks are digits of the number and none is 0.

    Example:
        >>> words, offsets = np.array([1, 2, 9, 1], np.int32), np.array([0, 3, 4])
        >>> reviews = Reviews(words, offsets, np.array([0, 1]))
        >>> [keys.tolist() for keys in ngram_keys(reviews, 8, (1, 2, 3))]
        [[1, 2, 9, 1], [-1, 12, 29, -1], [-1, -1, 129, -1]]
    """
    base = vocabulary + 2
    if base ** max(orders) > np.iinfo(np.int64).max:
        raise ValueError(f"ngram_keys: {vocabulary:,} words are too many for {orders}-grams")
    digits = np.minimum(reviews.words, vocabulary + 1).astype(np.int64)
    position = np.arange(len(digits)) - np.repeat(reviews.offsets[:-1], np.diff(reviews.offsets))
    keys = {1: digits}
    for order in range(2, max(orders) + 1):
        longer = np.full(len(digits), -1)
        # The n-gram that ended a token ago, one digit further up, and this token.
        longer[1:] = keys[order - 1][:-1] * base + digits[1:]
        longer[position < order - 1] = -1
        keys[order] = longer
    return [keys[order] for order in orders]


@dataclass(frozen=True, eq=False)
class NgramTable:
    """The n-grams of training reviews, and their scores.

    Args:
        kind: What the marks are to tell.
        vocabulary: As in `ngram_keys`.
        keys: int64 (K,), increasing; the n-grams that enough reviews hold.
        scores: float16 (K, S), S as the kind says.

    Raises:
        DataError: These arrays are no such table.
    """

    kind: Kind
    vocabulary: int
    keys: Ints
    scores: Floats

    def __post_init__(self) -> None:
        """Checks the arrays, which may come from a file."""
        if (str(self.keys.dtype), str(self.scores.dtype)) != ("int64", "float16"):
            raise DataError("the n-grams must be int64 and their scores float16")
        if self.scores.shape != (self.keys.size, self.kind.scores) or self.keys.size == 0:
            raise DataError("the n-grams must have as many scores as the settings say")
        if self.keys.ndim != 1 or np.any(np.diff(self.keys) <= 0):
            raise DataError("the n-grams must increase")
        if not np.isfinite(self.scores).all():
            raise DataError("the scores of n-grams must be finite")

    def __len__(self) -> int:
        """The number of n-grams."""
        return len(self.keys)

    def marks(self, reviews: Reviews) -> Marks:
        """The marks (tokens, C) of reviews other than those that the table was made from.

        They are float16 scores, score by score, or the int32 places of the n-grams in the table,
        from 1. N-grams that are not in the table have 0.
        """
        each = ngram_keys(reviews, self.vocabulary, self.kind.orders)
        places = [np.searchsorted(self.keys[:-1], keys) for keys in each]
        rows = [
            np.where(self.keys[place] == keys, place + 1, 0).astype(np.int32)
            for place, keys in zip(places, each, strict=True)
        ]
        return _marks(self.scores, np.stack(rows, 1))


def fit(
    reviews: Reviews, vocabulary: int, kind: Kind, groups: Ints | None = None
) -> tuple[Marks, NgramTable]:
    """Mark training reviews by each other, and make the table for all other reviews.

    The reviews are dealt into `FOLDS` folds. The scores in a fold are statistics of the reviews of
    the other folds; those in the table, of all. The first score is ln((p + 1) / (q + 1)) with the
    numbers p of positive and q of negative reviews that hold the n-gram; the second is the
    n-gram's weight in a logistic regression on such ratios.

    Args:
        reviews: The training reviews.
        vocabulary: As in `ngram_keys`.
        kind: What the marks are to tell.
        groups: (n,), reviews with the same number stay in the same fold; None deals each alone.

    Returns:
        Marks of the reviews, as `NgramTable.marks` has them, and the table.

    Raises:
        DataError: There are too few reviews.

    Source:
        Wang and Manning, "Baselines and Bigrams", ACL 2012.
    """
    counts = _Counts.of(reviews, vocabulary, kind)
    if len(counts.keys) == 0:
        raise _too_few(reviews, kind)
    if kind.scores == 0:
        scores = np.empty((len(counts.keys), 0), np.float16)
        return counts.rows, NgramTable(kind, vocabulary, counts.keys, scores)
    folds = deal(np.arange(len(reviews)) if groups is None else groups)
    fold_of_token = np.repeat(folds, np.diff(reviews.offsets))
    marks = np.empty((len(reviews.words), kind.channels), np.float16)
    # One after another: the random numbers of liblinear are the process', not a fit's own.
    for fold in range(FOLDS):
        inside = fold_of_token == fold
        others = _scores(counts, reviews, folds != fold, kind)
        marks[inside] = _marks(others, counts.rows[inside])
    everything = _scores(counts, reviews, np.ones(len(reviews), bool), kind)
    return marks, NgramTable(kind, vocabulary, counts.keys, everything)


def deal(groups: Ints) -> Ints:
    """The fold of each review, all of a group in the same.

    Example:
        >>> folds = deal(np.array([8, 9, 8]))
        >>> bool(folds[0] == folds[2])
        True
    """
    distinct, inverse = np.unique(groups, return_inverse=True)
    return (np.random.RandomState(FOLD_SEED).permutation(len(distinct)) % FOLDS)[inverse]


@dataclass(frozen=True, eq=False)
class _Counts:
    """Which n-grams the reviews hold.

    Attributes:
        keys: (K,), the n-grams that enough reviews hold, increasing.
        rows: (tokens, orders), the places in ``keys`` of those that end at a token, from 1; or 0.
        holds: sparse (n, K), 1 where a review holds an n-gram.
    """

    keys: Ints
    rows: npt.NDArray[np.int32]
    holds: Any

    @classmethod
    def of(cls, reviews: Reviews, vocabulary: int, kind: Kind) -> _Counts:
        n = len(reviews)
        review = np.repeat(np.arange(n), np.diff(reviews.offsets))
        kept, rows, columns = [], [], []
        first = 0
        for keys in ngram_keys(reviews, vocabulary, kind.orders):
            distinct, row = _number(keys)
            held = np.sort(row[keys >= 0] * n + review[keys >= 0])
            held = held[_begins(held)]  # once for each review
            enough = np.bincount(held // n, minlength=len(distinct)) >= kind.least
            number = np.where(enough, first + np.cumsum(enough) - 1, -1)
            first += int(np.count_nonzero(enough))
            kept.append(distinct[enough])
            rows.append(number[row].astype(np.int32) + 1)
            column = number[held // n]
            columns.append(held[column >= 0] % n * _WIDE + column[column >= 0])
        # By review, then by n-gram, as the rows of a sparse matrix want them.
        entries = np.sort(np.concatenate(columns))
        begins = np.searchsorted(entries, np.arange(n + 1) * _WIDE)
        # liblinear takes indices of 32 bits alone.
        indices, begins = (entries % _WIDE).astype(np.int32), begins.astype(np.int32)
        from scipy.sparse import csr_array  # here: few commands count

        holds = csr_array((np.ones(len(entries)), indices, begins), shape=(n, first))
        return cls(np.concatenate(kept), np.stack(rows, 1), holds)


_WIDE = 1 << 32  # more than there are n-grams


def _number(keys: Ints) -> tuple[Ints, Ints]:
    """What `np.unique` with its inverse gives, twice as fast."""
    order = np.argsort(keys)
    ordered = keys[order]
    first = _begins(ordered)
    inverse = np.empty(len(keys), np.int64)
    inverse[order] = np.cumsum(first) - 1
    return ordered[first], inverse


def _begins(ordered: Ints) -> npt.NDArray[np.bool_]:
    """Whether each element differs from the one before it."""
    begins: npt.NDArray[np.bool_] = np.diff(ordered, prepend=-2) != 0
    return begins


def _scores(counts: _Counts, reviews: Reviews, part: npt.NDArray[np.bool_], kind: Kind) -> Floats:
    """(K, S), the scores of all n-grams by the reviews in ``part``."""
    holds = counts.holds[part]
    positive = reviews.labels[part] == 1
    if positive.all() or not positive.any():
        raise _too_few(reviews, kind)
    p, q = holds[positive].sum(0) + 1, holds[~positive].sum(0) + 1
    ratio = np.log(p / q)
    scores = [ratio]
    if kind.scores == 2:
        scale = ratio - np.log(p.sum() / q.sum())
        holds.data *= scale[holds.indices]
        # Imported here: it takes as long as torch, and few commands fit anything.
        from sklearn.linear_model import LogisticRegression

        regression = LogisticRegression(
            C=INVERSE_PENALTY, solver="liblinear", dual=True, max_iter=30, tol=1e-2, random_state=0
        )
        scores.append(regression.fit(holds, positive).coef_[0] * scale * WEIGHT_SCALE)
    return np.stack(scores, 1).astype(np.float16)


def _marks(scores: Floats, rows: npt.NDArray[np.int32]) -> Marks:
    """The scores (tokens, S * orders) in ``rows`` (tokens, orders), or the rows if there are none.

    Row 0 is a row of zeros.
    """
    if scores.shape[1] == 0:
        return rows
    padded = np.concatenate([np.zeros((1, scores.shape[1]), np.float16), scores])
    marks: Floats = padded[rows].swapaxes(1, 2).reshape(len(rows), scores.shape[1] * rows.shape[1])
    return marks


def _too_few(reviews: Reviews, kind: Kind) -> DataError:
    return DataError(
        f"--features takes n-grams that {kind.least} training reviews hold, in {FOLDS} parts "
        f"with both labels, and {len(reviews):,} reviews are too few: give more, or "
        "--features none"
    )
