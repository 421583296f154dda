"""Tables for the terminal and for text files."""

from __future__ import annotations

import io
from collections.abc import Sequence
from statistics import mean, stdev
from typing import NamedTuple

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fastrnn.imdb.config import Config
from fastrnn.imdb.inputs import Given
from fastrnn.imdb.model import LayerRow
from fastrnn.imdb.reader import Prediction
from fastrnn.imdb.reviews import Corpus
from fastrnn.imdb.sequences import review_lengths
from fastrnn.imdb.terminal import printable
from fastrnn.imdb.training import Scores

EXCERPT = 60  # characters of a review


class Grid(NamedTuple):
    """A table as texts, for the terminal, for Markdown and for HTML."""

    titles: tuple[str, ...]
    lines: list[tuple[str, ...]]


def grid(content: Grid) -> Table:
    """Returns a grid as a table for the terminal."""
    rows = table(*content.titles)
    for line in content.lines:
        rows.add_row(*line)
    return rows


def markdown(content: Grid) -> str:
    """Returns a grid as a table in Markdown.

    Example:
        >>> print(markdown(Grid(("cell", "s"), [("`gru`", "0.3")])), end="")
        | cell | s |
        |---|--:|
        | `gru` | 0.3 |
    """
    rule = "|---|" + "--:|" * (len(content.titles) - 1)
    head, *lines = (f"| {' | '.join(line)} |" for line in (content.titles, *content.lines))
    return "\n".join([head, rule, *lines]) + "\n"


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Returns the mean, and the standard deviation where there are several values.

    Example:
        >>> spread([1.0, 2.0, 3.0]), spread([0.25], digits=2)
        ('2.0 ± 1.0', '0.25')
    """
    deviation = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{deviation}"


def layers(rows: list[LayerRow]) -> Table:
    """Returns the layer table, as Keras' `summary()`; its last row is the total."""
    made = table("layer", "output", "parameters (torch)", "parameters (Keras)")
    for row in rows:
        if row is rows[-1]:
            made.add_section()
        made.add_row(row.name, row.output, f"{row.torch_parameters:,}", f"{row.keras_parameters:,}")
    return made


def layers_text(rows: list[LayerRow]) -> str:
    """Returns the layer table as plain text."""
    text = io.StringIO()
    Console(file=text, width=100).print(layers(rows))
    lines = (line.rstrip() for line in text.getvalue().splitlines())
    return "\n".join(line for line in lines if line) + "\n"


def one_hot_sizes(config: Config, reviews: int) -> str:
    """Returns what one-hot input costs `reviews` training reviews: next to nothing, and why."""
    ids = reviews * config.maxlen
    batch = min(config.batch_size, reviews) * config.maxlen * config.num_words
    return (
        f"One-hot input: {4 * ids / 1e6:.4g} MB of ids; the vectors of a batch, "
        f"{4 * batch / 1e6:.4g} MB, live for one step (all at once: "
        f"{4 * ids * config.num_words / 1e6:.4g} MB)."
    )


def scores(parts: dict[str, Scores]) -> Table:
    """Returns a row of scores for each named part of the data."""
    made = table("reviews", "loss", "accuracy", "F1")
    for name, each in parts.items():
        made.add_row(name, f"{each.loss:.4f}", f"{each.accuracy:.4f}", f"{each.f1:.4f}")
    return made


def predictions(rows: list[tuple[Given, Prediction]]) -> Table:
    """Returns a row for each review: what the model thinks of it, and how it begins."""
    made = table("line", "label", "positive %", "words", "read", "unknown")
    made.add_column("review", no_wrap=True, overflow="ellipsis")
    for given, each in rows:
        made.add_row(
            str(given.line),
            each.label,
            f"{100 * each.probability:.1f}",
            f"{each.words:,}",
            f"{each.read:,}",
            f"{each.unknown:,}",
            Text(printable(given.text[:EXCERPT])),
        )
    return made


def corpus(found: Corpus) -> Table:
    """Returns counts and lengths of the training and test reviews."""
    made = table("reviews", "count", "positive", "mean length", "median length", "longest")
    for name, reviews in (("training", found.train), ("test", found.test)):
        lengths = review_lengths(reviews)
        made.add_row(
            name,
            f"{len(reviews):,}",
            f"{int(reviews.labels.sum()):,}",
            f"{lengths.mean():.1f}",
            f"{np.median(lengths):.1f}",
            f"{lengths.max()}",
        )
    return made


def table(first: str, *others: str) -> Table:
    """Returns an empty table with these columns; numbers are on the right."""
    made = Table(box=box.SIMPLE_HEAD)
    made.add_column(first)
    for name in others:
        made.add_column(name, justify="left" if name in ("output", "label", "state") else "right")
    return made
