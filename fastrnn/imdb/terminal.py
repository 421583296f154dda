"""What the commands print: results on stdout, progress and warnings on stderr."""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from fastrnn.imdb.reviews import Corpus

WIDTH = 160  # where stdout is no terminal, which has none

EXIT_CODES = (
    "Exit codes: 0 done; 2 a mistake in the call or in the data, and stderr says which; "
    "1 nobody read the results to their end; 3 another process of a training under torchrun was "
    "lost; 130 interrupted."
)


def epilog(*examples: str) -> str:
    """Returns what ends the help of a command: how it is called, and how it ends."""
    head = "Example:" if len(examples) == 1 else "Examples:"
    return "\n\n".join([head, *(f"fastrnn-imdb {each}" for each in examples), EXIT_CODES])


def announce(corpus: Corpus) -> None:
    """Says where the reviews are from; made-up ones are no result, so that goes to stderr too."""
    print(f"Reviews: {corpus.source}", flush=True)
    warn_of_made_up(corpus)


def warn_of_made_up(corpus: Corpus) -> None:
    """Says on stderr if the reviews are made up."""
    if corpus.synthetic:
        print(f"fastrnn-imdb: warning: {corpus.source}", file=sys.stderr)


def show(table: Table) -> None:
    """Prints a table."""
    results().print(table)


def results() -> Console:
    """Returns a console on stdout, of a fixed width where that is no terminal."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(width=WIDTH, highlight=False)


def show_json(value: Any) -> None:
    """Prints a value as one line of JSON."""
    print(json.dumps(value), flush=True)


def printable(text: str) -> str:
    """Returns a text with a mark for each character that a terminal would obey, not show.

    Example:
        >>> printable("red" + chr(27) + "[31m")
        'red�[31m'
    """
    return "".join(each if each.isprintable() else "\ufffd" for each in text)


def use_threads(threads: int | None) -> None:
    """Has torch compute on so many threads of the CPU; None leaves it to torch."""
    if threads is not None:
        torch.set_num_threads(threads)
