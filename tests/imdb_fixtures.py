"""Tiny data sets in every form that the sentiment program reads, written by the tests."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np

from fastrnn.imdb.review_files import FOLDERS, ReviewFiles
from fastrnn.imdb.synthetic import write_folders

# Ids are chosen so that the order of names as strings (10, 2, 30) is not the order of numbers.
TINY: ReviewFiles = {
    "train/pos": {"2_9.txt": b"Good, good film.<br />It's GOOD", "10_7.txt": b"a film"},
    "train/neg": {"30_1.txt": b"bad film", "4_2.txt": "caf\xe9\x85 a bad\r\ntable".encode()},
    "test/pos": {"0_10.txt": b"a good unseen film"},
    "test/neg": {"1_4.txt": b"unseen"},
}
# Worked by hand. Training order: 10_7, 2_9, 30_1, 4_2. Film and good appear three times, film
# first; a twice; the others once, in the order of first appearance. A carriage return separates
# nothing.
TINY_VOCABULARY = ("film", "good", "a", "br", "it's", "bad", "caf\xe9\x85", "bad\r", "table")
TINY_TRAIN = [[3, 1], [2, 2, 1, 4, 5, 2], [6, 1], [7, 3, 8, 9]]
TINY_TEST = [[3, 2, 1], []]  # words that training lacks are left out


def write_tree(root: Path, files: ReviewFiles = TINY) -> Path:
    """Write a folder tree and return its root."""
    write_folders(files, root)
    return root


def regular(name: str, content: bytes = b"") -> tuple[tarfile.TarInfo, bytes]:
    """An archive member that is a plain file."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    return member, content


def special(name: str, kind: bytes, target: str = "") -> tuple[tarfile.TarInfo, bytes]:
    """An archive member that is a link or a device."""
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member, b""


def members_of(files: ReviewFiles, prefix: str = "aclImdb/") -> list[tuple[tarfile.TarInfo, bytes]]:
    """Archive members for a set of review files."""
    return [
        regular(f"{prefix}{folder}/{name}", content)
        for folder in FOLDERS
        for name, content in files.get(folder, {}).items()
    ]


def write_archive(
    path: Path, members: list[tuple[tarfile.TarInfo, bytes]] | None = None, packing: str = "gz"
) -> Path:
    """Write a tar archive ("" for plain, "gz" or "xz") and return its path."""
    with tarfile.open(path, f"w:{packing}") as archive:
        for member, content in members_of(TINY) if members is None else members:
            archive.addfile(member, io.BytesIO(content))
    return path


def write_npz(path: Path, train: list[list[int]], test: list[list[int]]) -> Path:
    """Write reviews in the form of Keras' file; the first half of each split is positive."""
    arrays = {}
    for split, documents in (("train", train), ("test", test)):
        arrays[f"x_{split}"] = np.empty(len(documents), object)
        arrays[f"x_{split}"][:] = documents
        arrays[f"y_{split}"] = (np.arange(len(documents)) < len(documents) / 2).astype(np.int64)
    np.savez(path, **arrays)
    return path


class Spring:
    """Tells by a file that it was unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.mark,)
