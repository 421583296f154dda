"""Reviews as numbers, all words in one array: 50,000 reviews take 50 MB and load at once."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Reviews:
    """A sequence of tokenised reviews with their labels.

    Args:
        words: int32, the words of all reviews one after another, as frequency ranks from 1
            (the form of Keras' ``imdb.npz``; no padding or start numbers). A word that the
            vocabulary lacks is not there, or has the rank behind the last, as the tokeniser has it.
        offsets: int64 of shape (n + 1,); review i is ``words[offsets[i]:offsets[i + 1]]``.
        labels: int64 of shape (n,); 1 is a positive review, 0 a negative one.
        files: int64 of shape (n,), the numbers in the names of the files, by which reviews of a
            film stand together in their class; None where there were no files.

    Raises:
        ValueError: The arrays do not describe the same reviews.

    Example:
        >>> reviews = Reviews(np.array([5, 1, 2], np.int32), np.array([0, 1, 3]), np.array([1, 0]))
        >>> len(reviews)
        2
        >>> reviews[1]
        array([1, 2], dtype=int32)
    """

    words: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    files: npt.NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        """Check that the arrays belong together."""
        kinds = [str(array.dtype) for array in (self.words, self.offsets, self.labels)]
        if kinds != ["int32", "int64", "int64"]:
            raise ValueError(f"Reviews: dtypes must be int32, int64, int64, got {kinds}")
        if self.words.ndim != 1 or self.offsets.shape != (len(self.labels) + 1,):
            raise ValueError(
                f"Reviews: {len(self.labels)} labels need {len(self.labels) + 1} offsets and flat "
                f"words, got shapes {self.offsets.shape} and {self.words.shape}"
            )
        if self.files is not None and self.files.shape != self.labels.shape:
            raise ValueError(f"Reviews: files must have shape {self.labels.shape}")
        if self.offsets[0] != 0 or self.offsets[-1] != len(self.words):
            raise ValueError(f"Reviews: offsets must run from 0 to {len(self.words)}")
        if np.any(np.diff(self.offsets) < 0):
            raise ValueError("Reviews: offsets must not decrease")

    def __len__(self) -> int:
        """The number of reviews."""
        return len(self.labels)

    def __getitem__(self, index: int) -> npt.NDArray[np.int32]:
        """The ranks of the words of one review, int32, a view into ``words``."""
        return self.words[self.offsets[index] : self.offsets[index + 1]]

    def fingerprint(self) -> int:
        """A number that other reviews, or the same in another order, are unlikely to have.

        Example:
            >>> reviews = Reviews(np.array([5], np.int32), np.array([0, 1]), np.array([1]))
            >>> reviews.fingerprint() == reviews.select(np.array([0])).fingerprint()
            True
        """
        mark = 0
        for array in (self.words, self.offsets, self.labels):
            mark = zlib.crc32(array.tobytes(), mark)
        return mark

    def select(self, indices: npt.NDArray[np.int64]) -> Reviews:
        """The reviews at ``indices``, in that order, as a copy."""
        offsets = np.zeros(len(indices) + 1, np.int64)
        np.cumsum(np.diff(self.offsets)[indices], out=offsets[1:])
        words = np.empty(offsets[-1], np.int32)
        for position, index in enumerate(indices):
            words[offsets[position] : offsets[position + 1]] = self[index]
        files = None if self.files is None else self.files[indices]
        return Reviews(words, offsets, self.labels[indices], files)


class Tokenised(NamedTuple):
    """What every kind of source gives: both splits in the order of its files, and the words."""

    train: Reviews
    test: Reviews
    vocabulary: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Corpus:
    """A training set, a test set and the words behind their numbers.

    Args:
        train: Training reviews, in Keras' shuffled order.
        test: Test reviews, in Keras' shuffled order.
        vocabulary: ``vocabulary[rank - 1]`` is the word of that rank; empty when unknown.
        source: One line for people: where the reviews come from and how many there are.
        synthetic: True when the reviews are made up, so that figures say nothing about IMDB.
    """

    train: Reviews
    test: Reviews
    vocabulary: tuple[str, ...]
    source: str
    synthetic: bool
