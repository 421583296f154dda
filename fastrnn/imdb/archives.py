"""Reviews straight from a tar archive: nothing is unpacked to disk, nothing in it is trusted."""

from __future__ import annotations

import gzip
import io
import lzma
import re
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, cast

from fastrnn.imdb.errors import DataError
from fastrnn.imdb.review_files import FOLDERS, MAX_REVIEW_BYTES, ReviewFiles, check

MAX_UNPACKED_BYTES = 1 << 30  # the published archive unpacks to about a third of this
SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz")

_REVIEW = re.compile(rf"(?:\./)?aclImdb/({'|'.join(FOLDERS)})/([^/]+\.txt)")
_DAMAGE = (EOFError, OSError, lzma.LZMAError, tarfile.TarError, zlib.error)


def read_archive(path: Path) -> ReviewFiles:
    """Read the labelled reviews of a tar archive, plain or packed by gzip or xz, and check them.

    Raises:
        DataError: The archive is damaged, holds links, devices or paths that lead out of it, or
            is larger than any honest copy; or the reviews do not pass ``check``.
    """
    files: ReviewFiles = {folder: {} for folder in FOLDERS}
    with path.open("rb") as packed:
        try:
            for folder, name, content in _reviews(_unpacked(packed), path):
                if name in files[folder]:
                    raise DataError(f"{path}: {folder}/{name} is in the archive twice")
                files[folder][name] = content
        except _DAMAGE as error:
            raise DataError(
                f"{path}: the archive is cut short or damaged ({error}); fetch it again"
            ) from error
    check(files, str(path))
    return files


class _Limited:
    """A stream that refuses to give more than a limit, against archives that unpack for ever."""

    def __init__(self, stream: io.BufferedIOBase, path: Path) -> None:
        self._stream = stream
        self._path = path
        self._given = 0

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._given += len(data)
        if self._given > MAX_UNPACKED_BYTES:
            raise DataError(
                f"{self._path}: the archive must unpack to at most {MAX_UNPACKED_BYTES:,} bytes; "
                "fetch the published one"
            )
        return data


def _unpacked(packed: io.BufferedReader) -> io.BufferedIOBase:
    # By content, not by name: browsers unpack a .tar.gz and keep its name.
    magic = packed.read(6)
    packed.seek(0)
    if magic.startswith(b"\x1f\x8b"):
        return gzip.open(packed)
    if magic == b"\xfd7zXZ\x00":
        return lzma.open(packed)
    return packed


def _reviews(stream: io.BufferedIOBase, path: Path) -> Iterator[tuple[str, str, bytes]]:
    limited = _Limited(stream, path)
    # In this mode tarfile calls nothing but read.
    with tarfile.open(fileobj=cast(IO[bytes], limited), mode="r|") as archive:
        for member in archive:
            _check_member(member, path)
            match = _REVIEW.fullmatch(member.name)
            if match and (content := archive.extractfile(member)):
                yield match[1], match[2], content.read()
    # tarfile stops at the end mark; the checksum of the packed stream comes after it.
    while limited.read(1 << 16):
        pass


def _check_member(member: tarfile.TarInfo, path: Path) -> None:
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts:
        reason = "its path leads out of the archive"
    elif not (member.isdir() or member.type in (tarfile.REGTYPE, tarfile.AREGTYPE)):
        reason = "only plain files and folders are read, no links or devices"
    elif _REVIEW.fullmatch(member.name) and member.size > MAX_REVIEW_BYTES:
        reason = f"a review must have at most {MAX_REVIEW_BYTES:,} bytes, got {member.size:,}"
    else:
        return
    raise DataError(f"{path}: member {member.name!r} refused: {reason}")
