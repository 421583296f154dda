"""Reviews from the command line, from a file or from standard input."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import BinaryIO, NamedTuple

from fastrnn.imdb.errors import DataError
from fastrnn.imdb.review_files import MAX_REVIEW_BYTES

STDIN = "-"


class Given(NamedTuple):
    """A review that somebody gave."""

    line: int
    """The line of the file that it stands in, from 1."""
    text: str


def given_lines(text: str | None, file: Path | None) -> Iterator[Given]:
    """The reviews to read: a text, or each line of a file that is not blank.

    Args:
        text: One review, or "-" for the lines of standard input, which None means too.
        file: A UTF-8 file with one review on each line; only a newline ends one.

    Raises:
        DataError: Both are given; the file cannot be read; a line is not UTF-8 or too long.
    """
    if file is not None and text is not None:
        raise DataError(f"give a text or --file, not both: got {text!r} and --file {file}")
    if text not in (None, STDIN):
        assert text is not None
        yield Given(1, text)
        return
    try:
        with nullcontext(_stdin()) if file is None else file.open("rb") as stream:
            yield from _lines(stream, "standard input" if file is None else str(file))
    except OSError as error:
        raise DataError(f"--file {file}: cannot be read: {error.strerror}") from error


def given_text(text: str) -> str:
    """One review: a text, or the whole of standard input for "-".

    Raises:
        DataError: Standard input is not UTF-8 or too long.
    """
    if text != STDIN:
        return text
    return _decoded(_stdin().read(MAX_REVIEW_BYTES + 1), "standard input")


def chunks(reviews: Iterator[Given], size: int = 256) -> Iterator[list[Given]]:
    """The same reviews in lists of at most `size`."""
    while chunk := list(islice(reviews, size)):
        yield chunk


def _lines(stream: BinaryIO, name: str) -> Iterator[Given]:
    number = 0
    while line := stream.readline(MAX_REVIEW_BYTES + 2):
        number += 1
        text = _decoded(line.removesuffix(b"\n").removesuffix(b"\r"), f"{name}: line {number}")
        if text.strip():
            yield Given(number, text)


def _decoded(content: bytes, where: str) -> str:
    if len(content) > MAX_REVIEW_BYTES:
        raise DataError(f"{where}: a review must have at most {MAX_REVIEW_BYTES:,} bytes, has more")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: must be UTF-8 text: {error}") from None


def _stdin() -> BinaryIO:
    if sys.stdin.isatty():
        print("Type reviews, one on each line; Ctrl-D ends them.", file=sys.stderr)
    return sys.stdin.buffer
