"""Tokens of the finer rules: marks, contractions, and words that training lacks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from imdb_fixtures import TINY, write_npz, write_tree

from fastrnn.imdb.corpus import load_corpus
from fastrnn.imdb.errors import DataError
from fastrnn.imdb.sources import tokenise_files
from fastrnn.imdb.tokens import TOKENS, tokenise

FINE = TOKENS["fine"]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("A 10/10, or 7.5 / 10?", ["a", "10/10", ",", "or", "7.5/10", "?"]),
        ("1,000 of 3.5 in 1999", ["1,000", "of", "3.5", "in", "1999"]),
        ("don't I can't it's", ["do", "n't", "i", "ca", "n't", "it", "'s"]),
        ("don\x92t it\u2019s it\u00b4s it`s", ["do", "n't", *["it", "'s"] * 3]),
        ("n't 's rock'n'roll", ["n't", "s", "rock'n'roll"]),
        ("! !! !!!! ? ??? ?!?", ["!", "!!", "!!", "?", "??", "!?"]),
        (". .. ..... *** ******", [".", "...", "...", "***", "****"]),
        ('"So-so" (50% & $5);:', ['"', "so", "-", "so", '"', "(", *"50 % & $ 5 ) ; :".split()]),
        ("one<br /><br />TWO_three", ["one", "two", "three"]),
        ("caf\u00e9 \x85 \u4e2d", ["caf\u00e9", "\u4e2d"]),
        ("", []),
    ],
)
def test_tokens(text: str, tokens: list[str]) -> None:
    assert FINE.split(text) == tokens


def test_numbers_are_ranks_and_unknown_words_stay() -> None:
    train, test, vocabulary = tokenise(
        (["isn't is", "", "a!!! a!!"], [1, 0, 1]), (["a b!!!!", ""], [0, 1]), FINE
    )
    assert vocabulary == ("is", "a", "!!", "n't")
    assert train.words.tolist() == [1, 4, 1, 2, 3, 2, 3]
    assert train.offsets.tolist() == [0, 3, 3, 7]
    assert test.words.tolist() == [2, 5, 3]
    assert test.offsets.tolist() == [0, 3, 3]


def test_one_word_after_another_gives_the_same() -> None:
    tokenised = tokenise_files(TINY, "fine")
    ranks = {word: rank for rank, word in enumerate(tokenised.vocabulary, 1)}
    texts = ["a film", "Good, good film.<br />It's GOOD", "bad film"]
    for index, text in enumerate(texts):
        assert tokenised.train[index].tolist() == [ranks[word] for word in FINE.split(text)]


def test_numbers_of_files_are_kept_in_the_cache_and_in_keras_order(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "aclImdb")
    corpora = [load_corpus(root, tokens="fine", cache_dir=tmp_path / "cache") for _ in range(2)]
    for corpus in corpora:
        assert corpus.train.files is not None
        pairs = zip(corpus.train.files.tolist(), corpus.train.labels.tolist(), strict=True)
        assert sorted(pairs) == [(2, 1), (4, 0), (10, 1), (30, 0)]
        (first,) = np.flatnonzero(corpus.train.files == 10)
        words = [corpus.vocabulary[rank - 1] for rank in corpus.train[first]]
        assert words == ["a", "film"]


def test_each_kind_of_tokens_is_kept_by_itself(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "aclImdb")
    kinds = {name: load_corpus(root, tokens=name, cache_dir=tmp_path / "cache") for name in TOKENS}
    assert "it's" in kinds["keras"].vocabulary
    assert "it's" not in kinds["fine"].vocabulary


def test_keras_file_has_no_text(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "imdb.npz", [[1, 2], [2]], [[1], [2]])
    with pytest.raises(
        DataError, match=r"imdb\.npz: holds the numbers of Keras' tokens and no text"
    ):
        load_corpus(path, tokens="fine", cache_dir=tmp_path / "cache")
