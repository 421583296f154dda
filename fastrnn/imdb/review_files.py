"""The files of the aclImdb data set: their layout, the checks they must pass, and their order."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from fastrnn.imdb.errors import DataError

Split = Literal["train", "test"]

CLASSES = {"pos": 1, "neg": 0}  # folder: label, in the order in which Keras read them
FOLDERS = tuple(f"{split}/{name}" for split in ("train", "test") for name in CLASSES)
FULL_SPLIT = 25_000
FULL_SPLIT_BYTES = {"train": 33_132_823, "test": 32_350_685}
MAX_REVIEW_BYTES = 1 << 20  # the longest published review has 14 kB

ReviewFiles = dict[str, dict[str, bytes]]
"""Folder ("train/pos", ...) -> file name ("0_9.txt": id and rating) -> content."""

_FILE_NAME = re.compile(r"([0-9]{1,9})_[0-9]{1,2}\.txt")


def find_root(path: Path) -> Path | None:
    """The folder with ``train`` and ``test``: ``path`` itself or the ``aclImdb`` in it."""
    for root in (path, path / "aclImdb"):
        if (root / "train").is_dir() or (root / "test").is_dir():
            return root
    return None


def list_folder(folder: Path) -> list[os.DirEntry[str]]:
    """The review files of one folder, sorted by name; what does not end in .txt is passed over."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; {_WANTED}")
    with os.scandir(folder) as entries:  # twice as fast as Path.iterdir, which matters for 50,000
        reviews = [entry for entry in entries if entry.name.endswith(".txt")]
    return sorted(reviews, key=lambda entry: entry.name)


def read_folders(root: Path) -> ReviewFiles:
    """Read the four folders of reviews under ``root`` into memory and check them."""
    files = {
        folder: {entry.name: _read_review(entry) for entry in list_folder(root / folder)}
        for folder in FOLDERS
    }
    check(files, str(root))
    return files


def check(files: ReviewFiles, where: str) -> None:
    """Refuse an incomplete or altered data set.

    Accepted is a set whose four folders hold UTF-8 texts named ID_RATING.txt, no ID twice in one,
    as many positive as negative ones in each split, and, where a split has the published 25,000,
    the published number of bytes.

    Raises:
        DataError: A rule is broken; ``where`` opens the message.
    """
    for folder in FOLDERS:
        if not files.get(folder):
            raise DataError(f"{where}: {folder} has no reviews; {_WANTED}")
        _check_names(files[folder], f"{where}: {folder}")
        _check_texts(files[folder], f"{where}: {folder}")
    for split, expected in FULL_SPLIT_BYTES.items():
        positive, negative = files[f"{split}/pos"], files[f"{split}/neg"]
        if len(positive) != len(negative):
            raise DataError(
                f"{where}: {split} must have as many positive as negative reviews, got "
                f"{len(positive):,} and {len(negative):,}; {_WHOLE}"
            )
        found = sum(map(len, (*positive.values(), *negative.values())))
        if len(positive) + len(negative) == FULL_SPLIT and found != expected:
            raise DataError(
                f"{where}: the {FULL_SPLIT:,} reviews of {split} must have {expected:,} bytes "
                f"in all, got {found:,}: some were altered; {_WHOLE}"
            )


def texts_and_labels(files: ReviewFiles, split: Split) -> tuple[list[str], list[int]]:
    """The reviews of a split in the order in which Keras read them: by class, then by file name.

    File names are sorted as strings, so 10_7.txt comes before 1_7.txt.
    """
    texts, labels = [], []
    for name, label in CLASSES.items():
        folder = f"{split}/{name}"
        for _, content in sorted(files[folder].items()):
            texts.append(content.decode("utf-8"))
            labels.append(label)
    return texts, labels


def file_numbers(files: ReviewFiles, split: Split) -> list[int]:
    """The numbers in the names of the files, in the order of `texts_and_labels`."""
    return [
        int(name.split("_")[0]) for each in CLASSES for name in sorted(files[f"{split}/{each}"])
    ]


def _read_review(entry: os.DirEntry[str]) -> bytes:
    size = entry.stat().st_size
    if not entry.is_file() or size > MAX_REVIEW_BYTES:
        raise DataError(
            f"{entry.path}: a review must be a file of at most {MAX_REVIEW_BYTES:,} bytes, "
            f"got {size:,}"
        )
    return Path(entry).read_bytes()


def _check_names(names: Iterable[str], where: str) -> None:
    seen: dict[int, str] = {}
    for name in names:
        match = _FILE_NAME.fullmatch(name)
        if match is None:
            raise DataError(f"{where}: a review must be named ID_RATING.txt, got {name!r}")
        number = int(match[1])
        if number in seen:
            raise DataError(f"{where}: {seen[number]} and {name} have the same id; {_WHOLE}")
        seen[number] = name


def _check_texts(contents: dict[str, bytes], where: str) -> None:
    for name, content in contents.items():
        try:
            content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{where}/{name}: must be UTF-8 text: {error}; {_WHOLE}") from None


_WANTED = f"wanted is the aclImdb folder with {', '.join(FOLDERS)}"
_WHOLE = "unpack the published archive anew or give the archive itself"
