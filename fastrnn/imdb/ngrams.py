"""What the n-gram that ends at a token says of a review's label: counts and linear weights.

A training review is scored by statistics of other reviews alone. Its own label is part of its own
counts: scored by them, it would give its label away, and a network would learn to read just that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from sklearn.linear_model import LogisticRegression

from fastrnn.imdb.errors import DataError
from fastrnn.imdb.reviews import Reviews

Features = Literal["none", "nb", "nbsvm"]
Floats = npt.NDArray[np.float16]
Ints = npt.NDArray[np.int64]

ORDERS = (1, 2, 3)
LEAST_REVIEWS = 3  # an n-gram in fewer reviews scores 0: it would say more of them than of others
FOLDS = 10
FOLD_SEED = 7
INVERSE_PENALTY = 0.1
# Brings weights to about the spread of log-count ratios, so that a network weighs both alike.
WEIGHT_SCALE = 4.0


def channels(features: Features) -> int:
    """How many scores a token has.

    Example:
        >>> [channels(features) for features in ("none", "nb", "nbsvm")]
        [0, 3, 6]
    """
    return {"none": 0, "nb": 1, "nbsvm": 2}[features] * len(ORDERS)


def ngram_keys(words: npt.NDArray[np.int32], offsets: Ints, vocabulary: int) -> list[Ints]:
    """For each order n, a number for the n-gram that ends at each token, -1 where there is none.

    Args:
        words: ranks from 1 to ``vocabulary + 1``, reviews one after another.
        offsets: (n + 1,), where each review begins and the last ends.
        vocabulary: how many words there are.

    Returns:
        An array of the shape of ``words`` for each order. No two n-grams have the same number, of
        different orders neither, because ranks are digits of the number and none is 0.

    Example:
        >>> words, offsets = np.array([1, 2, 2, 1], np.int32), np.array([0, 3, 4])
        >>> [keys.tolist() for keys in ngram_keys(words, offsets, vocabulary=8)]
        [[1, 2, 2, 1], [-1, 12, 22, -1], [-1, -1, 122, -1]]
    """
    base = vocabulary + 2
    if base ** max(ORDERS) > np.iinfo(np.int64).max:
        raise ValueError(f"ngram_keys: vocabulary must be below 2**21, got {vocabulary:,}")
    digits = words.astype(np.int64)
    position = np.arange(len(words)) - np.repeat(offsets[:-1], np.diff(offsets))
    keys = [digits]
    for order in ORDERS[1:]:
        longer = np.full(len(words), -1)
        # The n-gram that ended a token ago, one digit further up, and this token.
        longer[1:] = keys[-1][:-1] * base + digits[1:]
        longer[position < order - 1] = -1
        keys.append(longer)
    return keys


@dataclass(frozen=True, eq=False)
class NgramScores:
    """A table of n-grams and their scores, made from training reviews.

    Args:
        vocabulary: how many words the reviews that it was made from had.
        keys: int64 (K,), increasing; the n-grams, as `ngram_keys` numbers them.
        scores: float16 (K, S); S is 1 for "nb" and 2 for "nbsvm".
    """

    vocabulary: int
    keys: Ints
    scores: Floats

    def __call__(self, reviews: Reviews) -> Floats:
        """Scores of the n-grams that end at each token: float16 (tokens, S * len(ORDERS)).

        N-grams that are not in the table score 0.
        """
        each = ngram_keys(reviews.words, reviews.offsets, self.vocabulary)
        rows = np.stack([_find(self.keys, keys) for keys in each], 1)
        return _gather(self.scores, rows)


def fit(
    reviews: Reviews, vocabulary: int, features: Features, groups: Ints | None = None
) -> tuple[Floats, NgramScores]:
    """Score training reviews by each other, and make the table for all other reviews.

    The reviews are dealt into `FOLDS` folds. The scores in a fold are statistics of the reviews of
    the other folds; those in the table, of all. ``"nb"`` is one score, ln((p + 1) / (q + 1)) with
    the numbers p of positive and q of negative reviews that hold the n-gram. ``"nbsvm"`` adds the
    n-gram's weight in a logistic regression on such ratios.

    Args:
        reviews: the training reviews.
        vocabulary: how many words there are; ranks are at most one more.
        features: "nb" or "nbsvm".
        groups: (n,), reviews with the same number stay in the same fold; None deals each alone.

    Returns:
        Scores of the reviews, float16 (tokens, channels), first the ratios by order of n-gram and
        then the weights; and the table.

    Raises:
        DataError: there are too few reviews.

    Source:
        Wang and Manning, "Baselines and Bigrams", ACL 2012.
    """
    counts = _Counts.of(reviews, vocabulary)
    folds = deal(len(reviews) if groups is None else groups)
    everything = np.ones(len(reviews), bool)
    parts = [folds != fold for fold in range(FOLDS)]
    if len(counts.keys) == 0 or any(np.ptp(reviews.labels[part]) == 0 for part in parts):
        raise DataError(
            f"--features {features} takes statistics of n-grams that {LEAST_REVIEWS} reviews hold, "
            f"in {FOLDS} parts of the training reviews, and {len(reviews):,} reviews are too few: "
            "give more, or --features none"
        )
    # One after another: the random numbers of liblinear are the process', not a fit's own.
    tables = [_scores(counts, reviews.labels, part, features) for part in [*parts, everything]]
    fold_of_token = np.repeat(folds, np.diff(reviews.offsets))
    scores = np.empty((len(reviews.words), channels(features)), np.float16)
    for fold, table in enumerate(tables[:-1]):
        inside = fold_of_token == fold
        scores[inside] = _gather(table, counts.rows[inside])
    return scores, NgramScores(vocabulary, counts.keys, tables[-1])


def deal(groups: Ints | int) -> Ints:
    """The fold of each review, all of a group in the same.

    Example:
        >>> folds = deal(np.array([8, 9, 8]))
        >>> bool(folds[0] == folds[2])
        True
    """
    distinct, inverse = np.unique(
        np.arange(groups) if isinstance(groups, int) else groups, return_inverse=True
    )
    return (np.random.RandomState(FOLD_SEED).permutation(len(distinct)) % FOLDS)[inverse]


@dataclass(frozen=True, eq=False)
class _Counts:
    """Which n-grams the reviews hold.

    Attributes:
        keys: (K,), the n-grams that enough reviews hold, increasing.
        rows: (tokens, orders), the places in ``keys`` of those that end at a token, -1 for none.
        holds: sparse (n, K), 1 where a review holds an n-gram.
    """

    keys: Ints
    rows: npt.NDArray[np.int32]
    holds: Any

    @classmethod
    def of(cls, reviews: Reviews, vocabulary: int) -> _Counts:
        n = len(reviews)
        review = np.repeat(np.arange(n), np.diff(reviews.offsets))
        kept, rows, columns = [], [], []
        first = 0
        for keys in ngram_keys(reviews.words, reviews.offsets, vocabulary):
            distinct, row = _number(keys)
            held = np.sort(row[keys >= 0] * n + review[keys >= 0])
            held = held[_begins(held)]  # once for each review
            enough = np.bincount(held // n, minlength=len(distinct)) >= LEAST_REVIEWS
            enough &= distinct >= 0
            number = np.where(enough, first + np.cumsum(enough) - 1, -1)
            first += int(np.count_nonzero(enough))
            kept.append(distinct[enough])
            rows.append(number[row].astype(np.int32))
            column = number[held // n]
            columns.append(held[column >= 0] % n * _WIDE + column[column >= 0])
        # By review, then by n-gram, as the rows of a sparse matrix want them.
        entries = np.sort(np.concatenate(columns))
        begins = np.searchsorted(entries, np.arange(n + 1) * _WIDE)
        # liblinear takes indices of 32 bits alone.
        indices, begins = (entries % _WIDE).astype(np.int32), begins.astype(np.int32)
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
    return np.concatenate(([True], ordered[1:] != ordered[:-1]))


def _scores(
    counts: _Counts, labels: Ints, part: npt.NDArray[np.bool_], features: Features
) -> Floats:
    """(K, S), the scores of all n-grams by the reviews in ``part``."""
    holds = counts.holds[part]
    positive = labels[part] == 1
    p, q = holds[positive].sum(0) + 1, holds[~positive].sum(0) + 1
    ratio = np.log(p / q)
    scores = [ratio]
    if features == "nbsvm":
        scale = ratio - np.log(p.sum() / q.sum())
        holds.data *= scale[holds.indices]
        regression = LogisticRegression(
            C=INVERSE_PENALTY, solver="liblinear", dual=True, max_iter=30, tol=1e-2, random_state=0
        )
        scores.append(regression.fit(holds, positive).coef_[0] * scale * WEIGHT_SCALE)
    return np.stack(scores, 1).astype(np.float16)


def _find(keys: Ints, wanted: Ints) -> Ints:
    """The place of each wanted key among the increasing ``keys``, -1 for those not there."""
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[places] == wanted, places, -1)


def _gather(table: Floats, rows: npt.NDArray[Any]) -> Floats:
    """The scores (tokens, S * orders) in ``rows`` (tokens, orders); -1 is a row of zeros."""
    padded = np.concatenate([table, np.zeros((1, table.shape[1]), np.float16)])
    tokens: Floats = padded[rows].swapaxes(1, 2).reshape(len(rows), -1)
    return tokens
