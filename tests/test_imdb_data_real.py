"""The published reviews, read from $FASTRNN_DATA: figures that Keras and the authors give."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from fastrnn.imdb.corpus import Corpus, load_corpus
from fastrnn.imdb.sequences import pad_reviews, review_lengths, validation_split

pytestmark = pytest.mark.skipif(
    not os.environ.get("FASTRNN_DATA") or os.environ["FASTRNN_DATA"].endswith(".npz"),
    reason="FASTRNN_DATA does not name the real texts",
)


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def corpus(cache_dir: Path) -> Corpus:
    corpus = load_corpus(cache_dir=cache_dir)
    assert len(corpus.train) == 25_000, "these tests need FASTRNN_DATA to be the full set"
    return corpus


def test_counts(corpus: Corpus) -> None:
    assert len(corpus.test) == 25_000
    assert corpus.train.labels.sum() == corpus.test.labels.sum() == 12_500
    assert not corpus.synthetic
    assert corpus.source.endswith("25,000 training and 25,000 test reviews")


def test_vocabulary(corpus: Corpus) -> None:
    assert len(corpus.vocabulary) == len(set(corpus.vocabulary)) == 88_582
    assert corpus.vocabulary[:7] == ("the", "and", "a", "of", "to", "is", "br")
    assert corpus.train.words.min() == 1
    assert corpus.train.words.max() == 88_582


def test_lengths(corpus: Corpus) -> None:
    lengths = review_lengths(corpus.train)
    assert lengths.mean() == 238.71364
    assert np.median(lengths) == 178
    assert lengths.max() == 2494
    assert lengths[:2].tolist() == [218, 189]


def test_order_of_keras(corpus: Corpus) -> None:
    assert corpus.train.labels[:20].tolist() == [
        *(1, 0, 0, 1, 0, 0, 1, 0, 1, 0, 1, 0, 0, 0, 0, 0, 1, 1, 0, 1)
    ]
    # The words of x_train[0] as every tutorial prints them.
    first = " ".join(corpus.vocabulary[rank - 1] for rank in corpus.train[0][:12])
    assert (
        first
        == "this film was just brilliant casting location scenery story direction everyone's really"
    )


def test_first_review_as_keras_gives_it(corpus: Corpus) -> None:
    (row,) = pad_reviews(
        corpus.train.select(np.array([0])), num_words=500, maxlen=218, truncating="post"
    )
    assert row[:12].tolist() == [1, 14, 22, 16, 43, 2, 2, 2, 2, 65, 458, 2]


def test_split_is_balanced(corpus: Corpus) -> None:
    train, validation = validation_split(len(corpus.train))
    assert (len(train), len(validation)) == (20_000, 5_000)
    assert abs(corpus.train.labels[validation].mean() - 0.5) < 0.03


def test_kept_corpus_loads_in_a_second(corpus: Corpus, cache_dir: Path) -> None:
    start = time.process_time()
    again = load_corpus(cache_dir=cache_dir)
    assert time.process_time() - start < 1
    assert np.array_equal(again.train.words, corpus.train.words)
    assert again.vocabulary == corpus.vocabulary
