"""From text to frequency ranks, by the rules of Keras' ``Tokenizer``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import count

import numpy as np
import numpy.typing as npt

from fastrnn.imdb.reviews import Reviews, Tokenised

_SEPARATORS = str.maketrans(dict.fromkeys('!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n', " "))


def split_words(text: str) -> list[str]:
    """The words of a text: lower case, cut at punctuation; apostrophes and markup names stay.

    Example:
        >>> split_words("It's GOOD,<br />really.")
        ["it's", 'good', 'br', 'really']
    """
    return [word for word in text.lower().translate(_SEPARATORS).split(" ") if word]


def tokenise(
    train: tuple[Iterable[str], Sequence[int]], test: tuple[Iterable[str], Sequence[int]]
) -> Tokenised:
    """Number the words of two sets of texts by their frequency in the first.

    The most frequent word of ``train`` has rank 1; equally frequent words rank in the order in
    which they first appear. Words of ``test`` that ``train`` lacks are left out.

    Args:
        train: Texts and their labels.
        test: Texts and their labels.

    Returns:
        Training reviews, test reviews, and the words in the order of their ranks.

    Source:
        ``keras.preprocessing.text.Tokenizer`` fitted on the training texts.

    Example:
        >>> train, test, vocabulary = tokenise((["b a", "a"], [0, 1]), (["a new b"], [1]))
        >>> vocabulary, train.words, test.words
        (('a', 'b'), array([2, 1, 1], dtype=int32), array([1, 2], dtype=int32))
    """
    numbers: defaultdict[str, int] = defaultdict(count().__next__)
    train_words = [_numbers(map(numbers.__getitem__, split_words(text))) for text in train[0]]
    known = dict(numbers)
    test_words = [
        _numbers(known[word] for word in split_words(text) if word in known) for text in test[0]
    ]
    # Numbers were given in order of first appearance, so a stable sort settles ties by it.
    frequency = np.bincount(np.concatenate(train_words), minlength=len(known))
    order = np.argsort(-frequency, kind="stable")
    ranks = np.empty(len(order), np.int32)
    ranks[order] = np.arange(1, len(order) + 1)
    words = list(known)
    return Tokenised(
        _reviews(train_words, train[1], ranks),
        _reviews(test_words, test[1], ranks),
        tuple(words[number] for number in order),
    )


def _numbers(values: Iterable[int]) -> npt.NDArray[np.int32]:
    return np.fromiter(values, np.int32)


def _reviews(
    documents: Sequence[npt.NDArray[np.int32]],
    labels: Sequence[int],
    ranks: npt.NDArray[np.int32],
) -> Reviews:
    offsets = np.cumsum([0, *map(len, documents)], dtype=np.int64)
    return Reviews(ranks[np.concatenate(documents)], offsets, np.array(labels, np.int64))
