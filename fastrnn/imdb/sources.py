"""Where the reviews may come from, in the order in which the places are tried."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fastrnn.imdb import archives, keras_file, review_files
from fastrnn.imdb.download import published_archive
from fastrnn.imdb.errors import DataError
from fastrnn.imdb.files import file_digest
from fastrnn.imdb.review_files import ReviewFiles, Split, file_numbers, texts_and_labels
from fastrnn.imdb.reviews import Reviews, Tokenised
from fastrnn.imdb.tokens import TOKENS, tokenise


@dataclass(frozen=True)
class Source:
    """A place that holds the reviews.

    Args:
        name: What it is and where, for people.
        fingerprint: Gives a text that changes when the content does; fast.
        read: Reads, checks and tokenises the reviews, in the order of the files, by the rules of
            that name in ``tokens.TOKENS``; slow.
    """

    name: str
    fingerprint: Callable[[], str]
    read: Callable[[str], Tokenised]


def find_path(data: str | Path | None, cache: Path, *, offline: bool) -> Path:
    """The first place that holds the data.

    They are: ``data``, $FASTRNN_DATA, Keras' own cache, ours, and the published archive, which
    is downloaded into ``cache``. A place that was named is not checked here, so that a wrong name
    is an error and never leads to another place.

    Raises:
        DataError: None is left to try.
    """
    named = data if data is not None else os.environ.get("FASTRNN_DATA") or None
    if named is not None:
        return Path(named).expanduser()
    keras = Path.home() / ".keras" / "datasets" / "imdb.npz"
    return keras if keras.exists() else published_archive(cache, offline=offline)


def open_source(path: Path) -> Source:
    """Tell what kind of data ``path`` holds, by its name.

    Raises:
        DataError: There is nothing, or nothing that can be read.
    """
    if path.is_dir():
        return _folder_source(path)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; {_WANTED}")
    if path.name.endswith(archives.SUFFIXES):
        return Source(
            f"archive {path}",
            lambda: file_digest(path),
            lambda tokens: tokenise_files(archives.read_archive(path), tokens),
        )
    if path.suffix == ".npz":
        return Source(
            f"Keras' {path}",
            lambda: _npz_fingerprint(path),
            lambda tokens: _read_npz(path, tokens),
        )
    raise DataError(f"{path}: not a file of a known kind; {_WANTED}")


def tokenise_files(files: ReviewFiles, tokens: str = "keras") -> Tokenised:
    """Tokenise both splits of a checked set of files by the rules of that name."""
    rules = TOKENS[tokens]
    tokenised = tokenise(texts_and_labels(files, "train"), texts_and_labels(files, "test"), rules)

    def named(reviews: Reviews, split: Split) -> Reviews:
        return replace(reviews, files=np.array(file_numbers(files, split), np.int64))

    return Tokenised(
        named(tokenised.train, "train"), named(tokenised.test, "test"), tokenised.vocabulary
    )


def _read_npz(path: Path, tokens: str) -> Tokenised:
    if tokens != "keras":
        raise DataError(
            f"{path}: holds the numbers of Keras' tokens and no text, and wanted are {tokens!r} "
            "tokens: give the aclImdb folder or an archive of it with --data"
        )
    return keras_file.read_npz(path)


def _folder_source(path: Path) -> Source:
    root = review_files.find_root(path)
    if root is None:
        raise DataError(f"{path}: has neither train nor test in it; {_WANTED}")
    return Source(
        f"folder {root}",
        lambda: _folder_fingerprint(root),
        lambda tokens: tokenise_files(review_files.read_folders(root), tokens),
    )


def _folder_fingerprint(root: Path) -> str:
    """Stands for the content without reading 50,000 files: place, names, sizes and times."""
    digest = hashlib.sha256(os.fsencode(root.resolve()))
    for folder in review_files.FOLDERS:
        for entry in review_files.list_folder(root / folder):
            status = entry.stat()
            line = f"{folder}/{entry.name} {status.st_size} {status.st_mtime_ns}\n"
            digest.update(os.fsencode(line))
    return digest.hexdigest()


def _npz_fingerprint(path: Path) -> str:
    words = path.with_name(keras_file.WORD_INDEX)
    parts = file_digest(path) + (file_digest(words) if words.exists() else "")
    return hashlib.sha256(parts.encode()).hexdigest()


_WANTED = (
    "wanted is the aclImdb folder or the folder around it, an archive of it "
    f"({', '.join(archives.SUFFIXES)}), or Keras' imdb.npz"
)
