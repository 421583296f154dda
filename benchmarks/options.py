"""What the command lines of several programs have in common."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

import fastrnn
from benchmarks.cases import Shape
from benchmarks.readme import FEATURES, put
from benchmarks.report import save


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


def measure_table(
    parser: argparse.ArgumentParser,
    argv: list[str] | None,
    run: Callable[[argparse.Namespace], Mapping[str, Any]],
    markdown: Callable[[Mapping[str, Any]], str],
    table: str,
    page: Path = FEATURES,
) -> None:
    """Does what the command line of a program asks for that measures one table.

    Args:
        parser: with the options that the program alone has.
        argv: the command line; None: the process's.
        run: measures, by the options.
        markdown: the table of results.
        table: its name on the page.
        page: where it stands. Default: benchmarks/README.md.
    """
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the results here too")
    where = page.relative_to(Path(__file__).parents[1])
    parser.add_argument("--readme", action="store_true", help=f"put the table into {where}")
    options = parser.parse_args(argv)
    if not fastrnn.info().loaded:
        parser.exit(1, f"fastrnn's kernels are missing: {fastrnn.info().reason}.\n")
    results = run(options)
    print(markdown(results), end="")
    if options.json:
        save(options.json, dict(results))
    if options.readme:
        put(page, table, markdown(results))
