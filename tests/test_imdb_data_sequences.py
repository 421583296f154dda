"""Words to numbers: Keras' tokenising, shuffle, padding and truncation, and sklearn's split."""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fastrnn.imdb.corpus import keras_shuffle
from fastrnn.imdb.errors import DataError
from fastrnn.imdb.reviews import Reviews
from fastrnn.imdb.sequences import pad_reviews, review_lengths, validation_split
from fastrnn.imdb.tokens import split_words, tokenise


def make(documents: list[list[int]], labels: list[int] | None = None) -> Reviews:
    return Reviews(
        np.array([word for document in documents for word in document], np.int32),
        np.cumsum([0, *map(len, documents)], dtype=np.int64),
        np.array(labels or [0] * len(documents), np.int64),
    )


def lists(reviews: Reviews) -> list[list[int]]:
    return [reviews[i].tolist() for i in range(len(reviews))]


# Words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It's GOOD.<br />Very,very good!", ["it's", "good", "br", "very", "very", "good"]),
        ("a\tb\nc", ["a", "b", "c"]),
        ('!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~', []),
        ("'quoted' caf\xe9", ["'quoted'", "caf\xe9"]),
        # Neither a carriage return nor U+0085 nor a hard space ends a word.
        ("a\rb c\x85d e\xa0f", ["a\rb", "c\x85d", "e\xa0f"]),
        ("  ", []),
        ("", []),
    ],
)
def test_split_words(text: str, words: list[str]) -> None:
    assert split_words(text) == words


TEXTS = st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=8).map(" ".join), min_size=1)


@given(train=TEXTS, test=TEXTS)
def test_ranks_follow_frequency_then_first_appearance(train: list[str], test: list[str]) -> None:
    tokenised = tokenise((train, [0] * len(train)), (test, [1] * len(test)))
    counts = Counter(word for text in train for word in text.split())
    expected = [word for word, _ in counts.most_common()]  # stable: first seen comes first
    assert list(tokenised.vocabulary) == expected
    rank = {word: position + 1 for position, word in enumerate(expected)}
    assert lists(tokenised.train) == [[rank[word] for word in text.split()] for text in train]
    assert lists(tokenised.test) == [
        [rank[word] for word in text.split() if word in rank] for text in test
    ]
    assert tokenised.test.labels.tolist() == [1] * len(test)


# Order


def keras_order(train_size: int, test_size: int) -> tuple[list[int], list[int]]:
    """What ``keras.datasets.imdb.load_data`` does to the order, in its own steps."""
    rng = np.random.RandomState(113)
    indices = np.arange(train_size)
    rng.shuffle(indices)
    train = indices.tolist()
    indices = np.arange(test_size)
    rng.shuffle(indices)
    return train, indices.tolist()


@pytest.mark.parametrize("sizes", [(1, 1), (7, 7), (40, 12)])
def test_shuffle_is_keras_shuffle(sizes: tuple[int, int]) -> None:
    train, test = (
        make([[i] * (i % 3) for i in range(size)], [i % 2 for i in range(size)]) for size in sizes
    )
    shuffled = keras_shuffle(train, test)
    for got, order in zip(shuffled, keras_order(*sizes), strict=True):
        assert lists(got) == [[i] * (i % 3) for i in order]
        assert got.labels.tolist() == [i % 2 for i in order]


def test_reviews_select() -> None:
    reviews = make([[1], [], [2, 3]], [1, 0, 1])
    picked = reviews.select(np.array([2, 2, 1]))
    assert lists(picked) == [[2, 3], [2, 3], []]
    assert picked.labels.tolist() == [1, 1, 0]


@pytest.mark.parametrize(
    ("words", "offsets", "labels", "message"),
    [
        ([1, 2], [0, 2], [1, 0], "2 labels need 3 offsets"),
        ([1, 2], [0, 1], [1], "offsets must run from 0 to 2"),
        ([1, 2], [1, 2], [1], "offsets must run from 0 to 2"),
        ([1, 2], [0, 2, 1, 2], [1, 0, 1], "offsets must not decrease"),
    ],
)
def test_reviews_refuse_arrays_that_disagree(
    words: list[int], offsets: list[int], labels: list[int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Reviews(np.array(words, np.int32), np.array(offsets), np.array(labels))
    with pytest.raises(ValueError, match="dtypes must be int32, int64, int64"):
        Reviews(np.array(words), np.array(offsets), np.array(labels))


# Padding: rank 4 is number 7, the largest that num_words=8 keeps; rank 5 becomes 2.

PADDED = {
    ("pre", "pre"): [[0, 0, 1, 7], [4, 5, 6, 2], [0, 0, 0, 1]],
    ("pre", "post"): [[0, 0, 1, 7], [1, 4, 5, 6], [0, 0, 0, 1]],
    ("post", "pre"): [[1, 7, 0, 0], [4, 5, 6, 2], [1, 0, 0, 0]],
    ("post", "post"): [[1, 7, 0, 0], [1, 4, 5, 6], [1, 0, 0, 0]],
}


@pytest.mark.parametrize(("padding", "truncating"), PADDED)
def test_padding_worked_by_hand(padding: str, truncating: str) -> None:
    reviews = make([[4], [1, 2, 3, 5], []])
    rows = pad_reviews(reviews, num_words=8, maxlen=4, padding=padding, truncating=truncating)
    assert rows.tolist() == PADDED[padding, truncating]
    assert rows.dtype == np.int64


def keras_rows(
    documents: list[list[int]], num_words: int, maxlen: int, padding: str, truncating: str
) -> list[list[int]]:
    """Keras' ``load_data`` and ``pad_sequences``, one number at a time."""
    rows = []
    for document in documents:
        row = [1] + [word + 3 for word in document]
        row = [number if number < num_words else 2 for number in row]
        row = row[-maxlen:] if truncating == "pre" else row[:maxlen]
        fill = [0] * (maxlen - len(row))
        rows.append(fill + row if padding == "pre" else row + fill)
    return rows


@given(
    documents=st.lists(st.lists(st.integers(1, 30), max_size=12), max_size=6),
    num_words=st.integers(3, 40),
    maxlen=st.integers(1, 15),
    padding=st.sampled_from(["pre", "post"]),
    truncating=st.sampled_from(["pre", "post"]),
)
def test_padding_is_keras_padding(
    documents: list[list[int]], num_words: int, maxlen: int, padding: str, truncating: str
) -> None:
    rows = pad_reviews(
        make(documents), num_words=num_words, maxlen=maxlen, padding=padding, truncating=truncating
    )
    assert rows.shape == (len(documents), maxlen)
    assert rows.tolist() == keras_rows(documents, num_words, maxlen, padding, truncating)


@given(words=arrays(np.int32, st.integers(1, 20), elements=st.integers(1, 90_000)))
def test_every_number_is_below_num_words(words: npt.NDArray[np.int32]) -> None:
    rows = pad_reviews(make([words.tolist()]), num_words=3, maxlen=30)
    assert rows.max() < 3


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_words": 2}, "num_words must be at least 3, got 2"),
        ({"maxlen": 0}, "maxlen must be at least 1, got 0"),
        ({"padding": "left"}, "padding must be 'pre' or 'post', got 'left'"),
        ({"truncating": ""}, "truncating must be 'pre' or 'post', got ''"),
    ],
)
def test_padding_refuses(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=f"pad_reviews: {message}"):
        pad_reviews(make([[1]]), **({"num_words": 10, "maxlen": 5} | wrong))


def test_lengths_count_the_start_number() -> None:
    assert review_lengths(make([[4], [1, 2, 3], []])).tolist() == [2, 4, 1]


# Split


def test_split_worked_by_hand() -> None:
    # numpy.random.RandomState(42).permutation(10) is 8 1 5 0 7 2 9 4 3 6.
    train, validation = validation_split(10)
    assert validation.tolist() == [8, 1]
    assert train.tolist() == [5, 0, 7, 2, 9, 4, 3, 6]


@pytest.mark.parametrize(("n", "fraction", "seed"), [(25_000, 0.2, 42), (11, 0.25, 0), (3, 0.5, 7)])
def test_split_is_sklearn_split(n: int, fraction: float, seed: int) -> None:
    selection = pytest.importorskip("sklearn.model_selection")
    expected = selection.train_test_split(np.arange(n), test_size=fraction, random_state=seed)
    for got, wanted in zip(validation_split(n, fraction, seed), expected, strict=True):
        assert got.tolist() == wanted.tolist()


@pytest.mark.parametrize(("n", "fraction"), [(10, 0.0), (10, 1.0), (10, -0.5), (1, 0.2), (0, 0.2)])
def test_split_refuses_an_empty_part(n: int, fraction: float) -> None:
    with pytest.raises(DataError, match=f"must leave both parts an example, got {fraction} of {n}"):
        validation_split(n, fraction)
