"""From text to frequency ranks, by the rules of Keras' ``Tokenizer`` or by finer ones."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, count
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fastrnn.imdb.reviews import Reviews, Tokenised

_SEPARATORS = str.maketrans(dict.fromkeys('!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n', " "))
# \x92 is the apostrophe of Windows' code page, which some of the published reviews kept.
_APOSTROPHES = str.maketrans(dict.fromkeys("\x92\u2019\u00b4`", "'"))
_PIECE = re.compile(
    r"\d+(?:\.\d+)?\s?/\s?\d+"  # a mark out of ten: "8/10", "7.5 / 10"
    r"|\d+(?:[.,]\d+)*"
    r"|[^\W\d_]+(?:'[^\W\d_]+)*"  # letters, with apostrophes inside
    r"|\*+|[!?]+|\.\.+"
    r'|[.,;:()"&$%\-/]'
)


class Tokens(NamedTuple):
    """Rules of what a token is, in two parts because 50,000 reviews have few distinct pieces.

    Attributes:
        cut: cuts a text into pieces; called for every text.
        refine: the tokens of a piece; called once for every distinct piece.
        keeps_unknown: whether a word that training lacks is a token, or is left out.
    """

    cut: Callable[[str], list[str]]
    refine: Callable[[str], Sequence[str]]
    keeps_unknown: bool

    def split(self, text: str) -> list[str]:
        """The tokens of a text.

        Example:
            >>> TOKENS["fine"].split("It isn't 8/10!!!")
            ['it', 'is', "n't", '8/10', '!!']
        """
        return list(chain.from_iterable(map(self.refine, self.cut(text))))


def split_words(text: str) -> list[str]:
    """The words of a text: lower case, cut at punctuation; apostrophes and markup names stay.

    Example:
        >>> split_words("It's GOOD,<br />really.")
        ["it's", 'good', 'br', 'really']
    """
    return [word for word in text.lower().translate(_SEPARATORS).split(" ") if word]


def _cut_finely(text: str) -> list[str]:
    return _PIECE.findall(text.lower().replace("<br />", " ").translate(_APOSTROPHES))


def _refine(piece: str) -> Sequence[str]:
    """Parts "n't" and "'s" from their words, and writes marks and their repetitions in one way."""
    if piece[0] in "!?":
        mark = piece[0] if len(set(piece)) == 1 else "!?"
        return (mark * 2 if len(piece) > 1 and len(mark) == 1 else mark,)
    if piece[0] == "*":
        return (piece[:4],)
    if piece.startswith(".."):
        return ("...",)
    for ending in ("n't", "'s"):
        if piece.endswith(ending) and piece != ending:
            return piece.removesuffix(ending), ending
    return ("".join(piece.split()),)


TOKENS = {
    "keras": Tokens(split_words, lambda word: (word,), keeps_unknown=False),
    "fine": Tokens(_cut_finely, _refine, keeps_unknown=True),
}
"""Rules by name: those of Keras' ``Tokenizer``; and finer ones, in which marks are tokens too."""


def tokenise(
    train: tuple[Iterable[str], Sequence[int]],
    test: tuple[Iterable[str], Sequence[int]],
    tokens: Tokens = TOKENS["keras"],
) -> Tokenised:
    """Number the tokens of two sets of texts by their frequency in the first.

    The most frequent token of ``train`` has rank 1; equally frequent ones rank in the order in
    which they first appear. Tokens of ``test`` that ``train`` lacks are left out, or, if the rules
    keep them, have the rank behind the last.

    Args:
        train: Texts and their labels.
        test: Texts and their labels.
        tokens: The rules.

    Returns:
        Training reviews, test reviews, and the tokens in the order of their ranks.

    Source:
        ``keras.preprocessing.text.Tokenizer`` fitted on the training texts.

    Example:
        >>> train, test, vocabulary = tokenise((["b a", "a"], [0, 1]), (["a new b"], [1]))
        >>> vocabulary, train.words, test.words
        (('a', 'b'), array([2, 1, 1], dtype=int32), array([1, 2], dtype=int32))
    """
    numbers: defaultdict[str, int] = defaultdict(count().__next__)
    splits = [
        [np.fromiter(map(numbers.__getitem__, tokens.cut(text)), np.int32) for text in texts]
        for texts, _ in (train, test)
    ]
    refinement = _Refinement(numbers, tokens.refine)
    (train_words, train_offsets), (test_words, test_offsets) = map(refinement, splits)
    # Numbers were given in order of first appearance, so a stable sort settles ties by it.
    frequency = np.bincount(train_words, minlength=len(refinement.words))
    order = np.argsort(-frequency, kind="stable")[: np.count_nonzero(frequency)]
    ranks = np.full(len(frequency), len(order) + 1, np.int32)
    ranks[order] = np.arange(1, len(order) + 1)
    if not tokens.keeps_unknown:
        known = np.concatenate(([0], np.cumsum(frequency[test_words] > 0)))
        test_words = test_words[frequency[test_words] > 0]
        test_offsets = known[test_offsets]
    return Tokenised(
        Reviews(ranks[train_words], train_offsets, np.array(train[1], np.int64)),
        Reviews(ranks[test_words], test_offsets, np.array(test[1], np.int64)),
        tuple(refinement.words[number] for number in order),
    )


class _Refinement:
    """From numbers of pieces to numbers of tokens, both in order of first appearance."""

    def __init__(self, pieces: Iterable[str], refine: Callable[[str], Sequence[str]]) -> None:
        numbers: defaultdict[str, int] = defaultdict(count().__next__)
        parts = [[numbers[token] for token in refine(piece)] for piece in pieces]
        self.words = list(numbers)
        self._sizes = np.array([len(part) for part in parts], np.int64)
        self._starts = np.cumsum(self._sizes) - self._sizes
        self._parts = np.fromiter(chain.from_iterable(parts), np.int32)

    def __call__(
        self, documents: list[npt.NDArray[np.int32]]
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        """The tokens of all documents, one after another, and where each document begins."""
        pieces = np.concatenate(documents)
        sizes = self._sizes[pieces]
        ends = np.concatenate(([0], np.cumsum(sizes)))
        # Token i of all is part i - (begin of its piece among all) of its piece.
        places = np.arange(ends[-1]) + np.repeat(self._starts[pieces] - ends[:-1], sizes)
        offsets = np.cumsum([0, *map(len, documents)], dtype=np.int64)
        return self._parts[places], ends[offsets]
