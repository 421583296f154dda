"""Options that several programs have."""

from __future__ import annotations

import argparse

import torch

from benchmarks.cases import Shape


def shape(text: str) -> Shape:
    """Reads an argument; argparse shows the text of this error alone."""
    try:
        return Shape.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def thread_count(text: str) -> int:
    """Reads a number of threads; "all" is what torch takes by itself."""
    most = torch.get_num_threads()
    if text == "all":
        return most
    if not text.isdigit() or not 1 <= int(text) <= most:
        raise argparse.ArgumentTypeError(
            f"must be 'all' or a number from 1 to {most}, got {text!r}"
        )
    return int(text)


def add_threads(parser: argparse.ArgumentParser) -> None:
    """Gives a program `--threads`, each number of which is timed by itself."""
    parser.add_argument(
        "--threads",
        nargs="+",
        type=thread_count,
        default=sorted({1, torch.get_num_threads()}),
        metavar="N",
        help="numbers of threads, or all (default: 1 and all)",
    )
