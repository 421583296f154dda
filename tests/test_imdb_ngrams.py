"""Scores of n-grams: equal to plain counting, and free of a review's own label."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from imdb_training import small_corpus

from fastrnn.imdb import ngrams
from fastrnn.imdb.errors import DataError
from fastrnn.imdb.reviews import Reviews
from fastrnn.imdb.sources import tokenise_files
from fastrnn.imdb.synthetic import synthetic_reviews

NB, NBSVM, LEARNED = (ngrams.KINDS[name] for name in ("nb", "nbsvm", "learned"))
CORPUS = small_corpus()
TRAIN, SIZE = CORPUS.train, len(CORPUS.vocabulary)


def held(words: np.ndarray, order: int) -> list[tuple[int, ...] | None]:
    """The n-gram that ends at each word."""
    return [
        tuple(words[i - order + 1 : i + 1].tolist()) if i >= order - 1 else None
        for i in range(len(words))
    ]


def plain_ratios(reviews: Reviews, part: np.ndarray, review: int) -> np.ndarray:
    """Ratios of one review's tokens by counting in the reviews of ``part``, (tokens, orders)."""
    columns = []
    for order in NB.orders:
        everywhere: Counter[tuple[int, ...] | None] = Counter()
        counts: tuple[Counter[tuple[int, ...] | None], ...] = (Counter(), Counter())
        for index in range(len(reviews)):
            distinct = set(held(reviews[index], order))
            everywhere.update(distinct)
            if part[index]:
                counts[reviews.labels[index]].update(distinct)
        column = [
            np.log((counts[1][gram] + 1) / (counts[0][gram] + 1))
            if gram is not None and everywhere[gram] >= NB.least
            else 0.0
            for gram in held(reviews[review], order)
        ]
        columns.append(column)
    return np.array(columns).T


def test_keys_are_distinct_and_stop_at_the_start_of_a_review() -> None:
    keys = ngrams.ngram_keys(TRAIN, SIZE, NB.orders)
    grams: dict[int, tuple[int, ...]] = {}
    for order, of_order in zip(NB.orders, keys, strict=True):
        for index in range(len(TRAIN)):
            ends = of_order[TRAIN.offsets[index] : TRAIN.offsets[index + 1]]
            for key, gram in zip(ends.tolist(), held(TRAIN[index], order), strict=True):
                assert (key == -1) == (gram is None)
                if gram is not None:
                    assert grams.setdefault(key, gram) == gram
    assert len(set(grams.values())) == len(grams)


def test_keys_of_a_huge_vocabulary_are_refused() -> None:
    with pytest.raises(ValueError, match="2,097,152 words are too many"):
        ngrams.ngram_keys(TRAIN, 1 << 21, NB.orders)


@pytest.mark.parametrize("review", [0, 57])
def test_ratios_of_training_reviews_count_the_other_folds(review: int) -> None:
    scores, _ = ngrams.fit(TRAIN, SIZE, NB)
    folds = ngrams.deal(np.arange(len(TRAIN)))
    expected = plain_ratios(TRAIN, folds != folds[review], review)
    found = scores[TRAIN.offsets[review] : TRAIN.offsets[review + 1]]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)


def test_ratios_of_other_reviews_count_all() -> None:
    _, table = ngrams.fit(TRAIN, SIZE, NB)
    expected = plain_ratios(TRAIN, np.ones(len(TRAIN), bool), 3)
    np.testing.assert_allclose(
        table.marks(TRAIN.select(np.array([3]))), expected, rtol=1e-3, atol=1e-6
    )


@pytest.mark.parametrize("kind", [NB, NBSVM])
def test_labels_of_a_fold_do_not_change_its_own_scores(kind: ngrams.Kind) -> None:
    groups = np.arange(len(TRAIN)) // 10
    folds = ngrams.deal(groups)
    flipped = replace(TRAIN, labels=np.where(folds == 2, 1 - TRAIN.labels, TRAIN.labels))
    before, _ = ngrams.fit(TRAIN, SIZE, kind, groups)
    after, _ = ngrams.fit(flipped, SIZE, kind, groups)
    own = np.repeat(folds == 2, np.diff(TRAIN.offsets))
    assert np.array_equal(before[own], after[own])
    assert not np.array_equal(before[~own], after[~own])


def test_groups_stay_together() -> None:
    groups = np.random.RandomState(0).randint(0, 40, 400)
    folds = ngrams.deal(groups)
    assert all(len(set(folds[groups == group])) == 1 for group in range(40))
    assert set(folds) == set(range(ngrams.FOLDS))


def test_weights_tell_labels_of_unseen_reviews() -> None:
    scores, table = ngrams.fit(TRAIN, SIZE, NBSVM)
    assert scores.shape == (len(TRAIN.words), NBSVM.channels)
    assert scores.dtype == np.float16
    test = CORPUS.test
    review = np.repeat(np.arange(len(test)), np.diff(test.offsets))
    for channel in (0, len(NB.orders)):
        total = np.bincount(review, table.marks(test)[:, channel].astype(float))
        assert np.mean((total > 0) == test.labels) > 0.9


def test_unknown_words_score_nothing() -> None:
    _, table = ngrams.fit(TRAIN, SIZE, NBSVM)
    unknown = Reviews(np.full(4, SIZE + 1, np.int32), np.array([0, 4]), np.array([1]))
    assert not table.marks(unknown).any()


def test_too_few_reviews() -> None:
    few = tokenise_files(synthetic_reviews(train=2, test=2))
    with pytest.raises(DataError, match=r"--features takes n-grams .* 2 reviews are too few"):
        ngrams.fit(few.train, len(few.vocabulary), NB)


def test_labels_that_are_all_in_one_fold() -> None:
    groups = np.where(TRAIN.labels == 1, 0, np.arange(len(TRAIN)))
    with pytest.raises(DataError, match="both labels"):
        ngrams.fit(TRAIN, SIZE, NB, groups)


def test_places_of_learned_ngrams() -> None:
    marks, table = ngrams.fit(TRAIN, SIZE, LEARNED)
    assert marks.shape == (len(TRAIN.words), 2)
    assert marks.dtype == np.int32
    assert marks.max() == len(table.keys)
    assert np.array_equal(table.marks(TRAIN), marks)
    flipped = replace(TRAIN, labels=1 - TRAIN.labels)
    assert np.array_equal(ngrams.fit(flipped, SIZE, LEARNED)[0], marks)


def test_words_outside_the_vocabulary_are_one() -> None:
    keys = ngrams.ngram_keys(TRAIN, 5, (1, 2))
    assert keys[0].max() == 6
    assert len(np.unique(keys[1])) <= 1 + 6 * 6


@pytest.mark.parametrize(
    ("keys", "scores", "message"),
    [
        (np.array([1, 2]), np.zeros((2, 2)), "float16"),
        (np.array([1, 2]), np.zeros((2, 1), np.float16), "as many scores"),
        (np.array([[1, 2]]), np.zeros((2, 2), np.float16), "increase"),
        (np.empty(0, np.int64), np.zeros((0, 2), np.float16), "as many"),
        (np.array([2, 2]), np.zeros((2, 2), np.float16), "increase"),
        (np.array([1, 2]), np.full((2, 2), np.nan, np.float16), "finite"),
    ],
)
def test_wrong_tables(keys: np.ndarray, scores: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        ngrams.NgramTable(NBSVM, 5, keys, scores)
