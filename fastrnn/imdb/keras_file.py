"""Keras' own copy of the data: ``imdb.npz`` and, beside it, ``imdb_word_index.json``."""

from __future__ import annotations

import hashlib
import io
import json
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fastrnn.imdb.errors import DataError
from fastrnn.imdb.files import file_digest
from fastrnn.imdb.reviews import Reviews, Tokenised

URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"
NPZ_SHA256 = "69664113be75683a8fe16e3ed0ab59fda8886cb3cd7ada244f7d9544e4676b9f"
WORD_INDEX = "imdb_word_index.json"
WORD_INDEX_MD5 = "bfafd718b763782e994055a2d397834f"


def read_npz(path: Path) -> Tokenised:
    """Read training reviews, test reviews and, if its file is there, the vocabulary.

    The reviews come in the order of the file.

    Raises:
        DataError: A file is not the published one.
    """
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    # The file holds pickles, which can run any program: load no other bytes than the known ones.
    if found != NPZ_SHA256:
        raise DataError(
            f"{path}: must be Keras' imdb.npz with sha256 {NPZ_SHA256}, got {found}; "
            f"fetch it again from {URL}imdb.npz"
        )
    with np.load(io.BytesIO(content), allow_pickle=True) as arrays:
        train = _reviews(arrays["x_train"], arrays["y_train"])
        test = _reviews(arrays["x_test"], arrays["y_test"])
    return Tokenised(train, test, read_vocabulary(path.with_name(WORD_INDEX)))


def read_vocabulary(path: Path) -> tuple[str, ...]:
    """The words in the order of their ranks; none when there is no such file.

    Raises:
        DataError: The file is not the published one.
    """
    if not path.exists():
        return ()
    found = file_digest(path, "md5")
    if found != WORD_INDEX_MD5:
        raise DataError(
            f"{path}: must be Keras' word index with md5 {WORD_INDEX_MD5}, got {found}; "
            f"fetch it again from {URL}{WORD_INDEX} or remove it"
        )
    ranks: dict[str, int] = json.loads(path.read_text(encoding="utf-8"))
    return tuple(sorted(ranks, key=ranks.__getitem__))


def _reviews(documents: npt.NDArray[np.object_], labels: npt.NDArray[np.int64]) -> Reviews:
    offsets = np.cumsum([0, *map(len, documents)], dtype=np.int64)
    words = np.fromiter(chain.from_iterable(documents), np.int32, count=offsets[-1])
    return Reviews(words, offsets, labels.astype(np.int64))
