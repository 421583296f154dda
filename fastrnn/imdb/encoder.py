"""From new text to what a trained model reads, exactly as its training did it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from fastrnn.imdb.batches import Examples, Segmented, make_examples
from fastrnn.imdb.config import Config
from fastrnn.imdb.errors import DataError
from fastrnn.imdb.ngrams import NgramTable
from fastrnn.imdb.reviews import Reviews
from fastrnn.imdb.tokens import TOKENS


class Encoder:
    """Turns texts into words, and lists of words into a model's input.

    A word that is not among the model's own has the number that training gave to rare words. A
    corpus leaves out the words of its test reviews that no training review has; here, where the
    training reviews are not at hand, they count as rare.

    Args:
        config: The settings of the model.
        vocabulary: The words that the model knows, most frequent first.
        table: The n-grams that it knows, where it reads any.

    Raises:
        DataError: There is no vocabulary.

    Example:
        >>> encoder = Encoder(Config(maxlen=4), ("the", "film"))
        >>> encoder.words("The FILM, again")
        ['the', 'film', 'again']
        >>> encoder.examples([["the", "film", "again"], []], torch.device("cpu")).ids
        tensor([[1, 4, 5, 2],
                [0, 0, 0, 1]], dtype=torch.int32)
    """

    def __init__(
        self, config: Config, vocabulary: Sequence[str], table: NgramTable | None = None
    ) -> None:
        """Numbers the words."""
        if not vocabulary:
            raise DataError(
                "this model has no words, only their numbers: its reviews were Keras' imdb.npz "
                "without imdb_word_index.json. Put that file beside it and train again"
            )
        self._config = config
        self._table = table
        self._ranks = {word: rank for rank, word in enumerate(vocabulary, 1)}

    def words(self, text: str) -> list[str]:
        """The words of a text, as training cut them."""
        return TOKENS[self._config.tokens].split(text)

    @property
    def size(self) -> int:
        """How many words the model knows."""
        return len(self._ranks)

    def knows(self, word: str) -> bool:
        """Whether the model has a number for this word alone."""
        return word in self._ranks

    def window(self, words: int) -> slice:
        """The part of a review of so many words that the model reads; the rest is cut off."""
        length = self._config.maxlen
        if self._config.truncating == "pre":
            return slice(max(0, words - length), words)
        return slice(0, min(words, length - 1))  # the start number is kept

    def examples(
        self, documents: Sequence[Sequence[str]], device: torch.device
    ) -> Examples | Segmented:
        """The model's input for documents of any number of words, on the device.

        Their labels are unknown, and given as 0.
        """
        rare = self._config.num_words
        ranks = [self._ranks.get(word, rare) for words in documents for word in words]
        reviews = Reviews(
            np.array(ranks, np.int32),
            np.cumsum([0, *map(len, documents)], dtype=np.int64),
            np.zeros(len(documents), np.int64),
        )
        return make_examples(self._config, reviews, device, self._table)

    def renumbered(self, reviews: Reviews, vocabulary: Sequence[str]) -> Reviews:
        """Reviews of a corpus with the ranks that their words have in the model.

        Another copy of the data may rank words otherwise; other data has other words.

        Args:
            reviews: n reviews.
            vocabulary: The words behind their ranks, not empty.
        """
        rare = self._config.num_words
        words = (*vocabulary, "")  # no word is empty; that one stands for those that are unknown
        ranks = np.array([self._ranks.get(word, rare) for word in words], np.int32)
        return Reviews(ranks[reviews.words - 1], reviews.offsets, reviews.labels)
