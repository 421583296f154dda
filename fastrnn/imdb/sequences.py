"""From reviews to the fixed-size number tables a network reads, exactly as Keras makes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from fastrnn.imdb.errors import DataError
from fastrnn.imdb.reviews import Reviews

PADDING, START, OUT_OF_VOCABULARY = 0, 1, 2
INDEX_FROM = 3  # Keras' name: the word of rank r has the number r + 3

Side = Literal["pre", "post"]


def pad_reviews(
    reviews: Reviews,
    *,
    num_words: int,
    maxlen: int,
    padding: Side = "pre",
    truncating: Side = "pre",
) -> npt.NDArray[np.int64]:
    """Cut or fill every review to ``maxlen`` numbers.

    Every review starts with the number 1; the word of rank r becomes r + 3 if that is less than
    ``num_words``, else 2; 0 fills up. Hence ``num_words=500`` keeps the 496 most frequent words.

    Args:
        reviews: n reviews.
        num_words: Numbers in use, at least 3; every number returned is smaller.
        maxlen: Length of a row, at least 1.
        padding: The side on which short reviews are filled.
        truncating: The side on which long reviews are cut; with "pre" the start number goes first.

    Returns:
        int64 of shape (n, maxlen).

    Raises:
        DataError: An argument is out of its range.

    Source:
        ``keras.datasets.imdb.load_data`` followed by ``keras.utils.pad_sequences``.

    Example:
        >>> reviews = Reviews(np.array([1, 9, 2], np.int32), np.array([0, 1, 3]), np.array([1, 0]))
        >>> pad_reviews(reviews, num_words=10, maxlen=3)
        array([[0, 1, 4],
               [1, 2, 5]])
    """
    _check_at_least("num_words", num_words, OUT_OF_VOCABULARY + 1)
    _check_at_least("maxlen", maxlen, 1)
    _check_side("padding", padding)
    _check_side("truncating", truncating)
    numbers, offsets = number_reviews(reviews, num_words)
    rows = np.full((len(reviews), maxlen), PADDING, np.int64)
    for row, begin, end in zip(rows, offsets[:-1], offsets[1:], strict=True):
        length = min(end - begin, maxlen)
        kept = numbers[end - length : end] if truncating == "pre" else numbers[begin:][:length]
        if padding == "pre":
            row[maxlen - length :] = kept
        else:
            row[:length] = kept
    return rows


def number_reviews(
    reviews: Reviews, num_words: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """The numbers of ``pad_reviews`` without padding or cutting.

    Returns:
        The numbers of all reviews one after another, int32, and where each begins and the last
        ends, int64 of shape (n + 1,).

    Example:
        >>> reviews = Reviews(np.array([1, 9, 2], np.int32), np.array([0, 1, 3]), np.array([1, 0]))
        >>> number_reviews(reviews, num_words=10)
        (array([1, 4, 1, 2, 5], dtype=int32), array([0, 2, 5]))
    """
    numbers = np.where(
        reviews.words < num_words - INDEX_FROM, reviews.words + INDEX_FROM, OUT_OF_VOCABULARY
    )
    return (
        np.insert(numbers, reviews.offsets[:-1], START),
        reviews.offsets + np.arange(len(reviews) + 1),
    )


def known_words(num_words: int) -> int:
    """How many words have a number below ``num_words``, if there are as many.

    Example:
        >>> known_words(500)
        496
    """
    return num_words - INDEX_FROM - 1


def kept_words(vocabulary: Sequence[str], num_words: int) -> tuple[str, ...]:
    """The words of ``vocabulary``, most frequent first, that have a number below ``num_words``.

    Example:
        >>> kept_words(("the", "and", "a"), num_words=6)
        ('the', 'and')
    """
    return tuple(vocabulary[: known_words(num_words)])


def review_lengths(reviews: Reviews) -> npt.NDArray[np.int64]:
    """Length of each review as Keras counts it: its words and the start number; int64, (n,).

    Example:
        >>> reviews = Reviews(np.array([1, 9, 2], np.int32), np.array([0, 1, 3]), np.array([1, 0]))
        >>> review_lengths(reviews)
        array([2, 3])
    """
    return np.diff(reviews.offsets) + 1


def validation_split(
    n: int, fraction: float = 0.2, seed: int = 42
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Divide n examples at random into a training and a validation part.

    Args:
        n: Number of examples.
        fraction: Share of the validation part, between 0 and 1; a broken example counts whole.
        seed: Seed of the permutation.

    Returns:
        Indices of the training part and of the validation part, int64.

    Raises:
        DataError: One of the parts would be empty.

    Source:
        ``sklearn.model_selection.train_test_split(test_size=fraction, random_state=seed)``: the
        same indices in the same order.

    Example:
        >>> validation_split(5)
        (array([4, 2, 0, 3]), array([1]))
    """
    validation = int(np.ceil(fraction * n))
    if not 0 < validation < n:
        raise DataError(
            f"validation_split: fraction must leave both parts an example, got {fraction} of {n}"
        )
    order = np.random.RandomState(seed).permutation(n)
    return order[validation:], order[:validation]


def split_groups(
    groups: npt.NDArray[np.int64], fraction: float = 0.2, seed: int = 42
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """As `validation_split`, where examples of a group come in the same part.

    Args:
        groups: (n,), the number of each example's group.
        fraction: Share of the groups in the validation part; a broken group counts whole.
        seed: Seed of the permutation.

    Returns:
        Indices of the training part and of the validation part, int64, increasing.

    Raises:
        DataError: One of the parts would be empty.

    Example:
        >>> split_groups(np.array([7, 7, 3, 3, 9]), fraction=0.5)
        (array([4]), array([0, 1, 2, 3]))
    """
    distinct, group = np.unique(groups, return_inverse=True)
    _, held_out = validation_split(len(distinct), fraction, seed)
    inside = np.isin(group, held_out)
    return np.flatnonzero(~inside), np.flatnonzero(inside)


def _check_at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise DataError(f"pad_reviews: {name} must be at least {least}, got {value}")


def _check_side(name: str, value: str) -> None:
    if value not in ("pre", "post"):
        raise DataError(f"pad_reviews: {name} must be 'pre' or 'post', got {value!r}")
