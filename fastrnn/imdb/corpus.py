"""The one entry to the data: find the reviews, tokenise them once, put them in Keras' order."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fastrnn.imdb import cache
from fastrnn.imdb.download import cache_folder
from fastrnn.imdb.errors import DataError
from fastrnn.imdb.review_files import FULL_SPLIT
from fastrnn.imdb.reviews import Corpus, Reviews, Tokenised
from fastrnn.imdb.sources import Source, find_path, open_source, tokenise_files
from fastrnn.imdb.synthetic import synthetic_reviews

__all__ = ["Corpus", "Reviews", "load_corpus"]

KERAS_SEED = 113


def load_corpus(
    data: str | Path | None = None,
    *,
    tokens: str = "keras",
    cache_dir: Path | None = None,
    offline: bool = False,
) -> Corpus:
    """Load the IMDB reviews of Maas et al., tokenised and in the order Keras gives them.

    Args:
        data: The ``aclImdb`` folder or the folder around it; an archive of it (.tar, .tar.gz,
            .tgz, .tar.xz, .txz); or Keras' ``imdb.npz``. None tries $FASTRNN_DATA,
            ``~/.keras/datasets/imdb.npz``, ``cache_dir``, and last the published archive, which
            is downloaded (84 MB) and verified.
        tokens: Name of the rules in ``tokens.TOKENS`` by which texts are cut; ``imdb.npz`` has
            Keras' tokens and no others.
        cache_dir: Where downloads and tokenised reviews are kept; None is $FASTRNN_CACHE or the
            platform's cache folder.
        offline: Download nothing.

    Returns:
        The corpus. When no data was named and none can be had it is made up, ``synthetic`` is
        True and ``source`` says so.

    Raises:
        DataError: The data named or found is missing, incomplete, altered or damaged, or has not
            the tokens wanted.

    Source:
        Maas et al., "Learning Word Vectors for Sentiment Analysis", ACL 2011; order, ranks and
        shuffle of ``keras.datasets.imdb.load_data``. Words of equal frequency may rank otherwise
        than in Keras' file, except when that file is the source.

    Example:
        >>> corpus = load_corpus("~/data/aclImdb")  # doctest: +SKIP
        >>> len(corpus.train), corpus.vocabulary[:3]  # doctest: +SKIP
        (25000, ('the', 'and', 'a'))
    """
    folder = cache_dir or cache_folder()
    try:
        path = find_path(data, folder, offline=offline)
    except DataError as error:
        return _synthetic_corpus(str(error), tokens)
    source = open_source(path)
    try:
        tokenised = _tokenised(source, folder, tokens)
    except OSError as error:
        raise DataError(f"{source.name}: cannot be read: {error}") from error
    train, test = keras_shuffle(tokenised.train, tokenised.test)
    text = _describe(source.name, train, test)
    return Corpus(train, test, tokenised.vocabulary, text, synthetic=False)


def keras_shuffle(train: Reviews, test: Reviews) -> tuple[Reviews, Reviews]:
    """Shuffle as ``keras.datasets.imdb.load_data`` does: both splits by one generator, in turn."""
    rng = np.random.RandomState(KERAS_SEED)

    def shuffled(reviews: Reviews) -> Reviews:
        order = np.arange(len(reviews))
        rng.shuffle(order)
        return reviews.select(order)

    return shuffled(train), shuffled(test)


def _tokenised(source: Source, folder: Path, tokens: str) -> Tokenised:
    kept = cache.cache_file(folder, source.fingerprint(), tokens)
    tokenised = cache.load(kept)
    if tokenised is None:
        tokenised = source.read(tokens)
        cache.store(kept, tokenised)
    return tokenised


def _describe(name: str, train: Reviews, test: Reviews) -> str:
    text = f"{name}: {len(train):,} training and {len(test):,} test reviews"
    if len(train) == len(test) == FULL_SPLIT:
        return text
    return f"{text}, not the full set of {FULL_SPLIT:,} each"


def _synthetic_corpus(reason: str, tokens: str) -> Corpus:
    tokenised = tokenise_files(synthetic_reviews(), tokens)
    train, test = keras_shuffle(tokenised.train, tokenised.test)
    source = (
        f"synthetic reviews, {len(train):,} training and {len(test):,} test, because {reason}. "
        "Figures made with them say nothing about IMDB: give the real data with --data or "
        "FASTRNN_DATA"
    )
    return Corpus(train, test, tokenised.vocabulary, source, synthetic=True)
