"""Files that are written whole or not at all, and fingerprints of files."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a new binary file that takes the place of ``path`` when the block ends without error.

    Readers see the old file or the whole new one; after an error or an interrupt the old file is
    as it was and nothing else is left. Missing parent folders are made.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "made" / "file"
        ...     with replacing(path) as file:
        ...         _ = file.write(b"text")
        ...     path.read_bytes()
        b'text'
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with temporary.open("xb") as file:
            yield file
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_file(path: Path, content: bytes) -> None:
    """Makes a file of ``content``, or replaces the one that is there, as `replacing` does."""
    with replacing(path) as file:
        file.write(content)


def sync_folder(path: Path) -> None:
    """Waits until the names of the files in a folder are on disk, where a system can tell."""
    if os.name == "posix":
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def remove_leftovers(folder: Path) -> None:
    """Removes the files that a killed `replacing` left half written in a folder.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as name:
        ...     folder = Path(name)
        ...     for each in (".file.0123456789abcdef", ".mine", "file"):
        ...         (folder / each).touch()
        ...     remove_leftovers(folder)
        ...     sorted(each.name for each in folder.iterdir())
        ['.mine', 'file']
    """
    for path in folder.iterdir():
        if re.fullmatch(r"\..+\.[0-9a-f]{16}", path.name):
            path.unlink()


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """The hexadecimal checksum of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
