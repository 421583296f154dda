"""Tables for the terminal and for text files."""

from __future__ import annotations

import io
from collections.abc import Sequence
from statistics import mean, stdev
from typing import NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fastrnn.imdb.config import Config
from fastrnn.imdb.inputs import Given
from fastrnn.imdb.layers import LayerRow
from fastrnn.imdb.reader import Prediction
from fastrnn.imdb.survey import BAND, BANDS, Lengths, Survey
from fastrnn.imdb.terminal import printable
from fastrnn.imdb.training import Scores

EXCERPT = 60  # characters of a review
BAR = 50  # characters of the longest bar
UNITS = ((1, "B"), (10**3, "kB"), (10**6, "MB"), (10**9, "GB"), (10**12, "TB"))


class Grid(NamedTuple):
    """A table as texts, for the terminal, for Markdown and for HTML."""

    titles: tuple[str, ...]
    lines: Sequence[tuple[str, ...]]


def grid(content: Grid) -> Table:
    """Returns a grid as a table for the terminal."""
    rows = table(*content.titles)
    rows.collapse_padding, rows.pad_edge = True, False
    for line in content.lines:
        rows.add_row(*line)
    columns = zip(content.titles, *content.lines, strict=True)
    # Where the terminal is narrow the columns of several words give way, and no name is cut.
    for column, cells in zip(rows.columns, columns, strict=True):
        column.no_wrap = not any(" " in cell for cell in cells)
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


def counts(found: Survey) -> Table:
    """Returns counts and lengths of the training and test reviews."""
    made = table("reviews", "count", "positive", "mean length", "median length", "longest")
    for name, part in (("training", found.training), ("test", found.test)):
        made.add_row(
            name,
            f"{part.reviews:,}",
            f"{part.positive:,}",
            f"{part.mean:.1f}",
            f"{part.median:.1f}",
            f"{part.longest:,}",
        )
    return made


def histogram(lengths: Lengths) -> Table:
    """Returns how many reviews are how long, with a bar for each band."""
    made = table("words in a training review", "reviews")
    made.add_column("")
    scale = BAR / max(lengths.histogram)
    for band, number in enumerate(lengths.histogram):
        first = band * BAND
        last = "and more" if band == BANDS - 1 else f"to {first + BAND - 1:,}"
        made.add_row(f"{first:,} {last}", f"{number:,}", "█" * round(number * scale))
    return made


def coverage(found: Survey) -> Table:
    """Returns what vocabularies keep, and what they cost as ids and as one-hot vectors."""
    made = table(
        "num_words",
        "training words kept",
        "test words kept",
        f"ids at maxlen {found.maxlen}",
        "one-hot",
    )
    for each in found.coverage:
        made.add_row(
            f"{each.num_words:,}",
            f"{each.training:.1%}",
            f"{each.test:.1%}",
            size(found.ids_bytes),
            size(each.one_hot_bytes),
        )
    return made


def cuts(found: Survey) -> Table:
    """Returns what lengths leave of the training reviews."""
    made = table("maxlen", "reviews left whole", "words kept")
    for each in found.cuts:
        made.add_row(f"{each.maxlen:,}", f"{each.whole:.1%}", f"{each.kept:.1%}")
    return made


def size(number: int) -> str:
    """Returns a number of bytes for people.

    Example:
        >>> size(10_000_000), size(5_000_000_000)
        ('10 MB', '5 GB')
    """
    unit, name = max((each for each in UNITS if each[0] <= number), default=UNITS[0])
    return f"{number / unit:.3g} {name}"


def table(first: str, *others: str) -> Table:
    """Returns an empty table with these columns; numbers are on the right."""
    made = Table(box=box.SIMPLE_HEAD)
    made.add_column(first)
    for name in others:
        made.add_column(name, justify="left" if name in ("output", "label", "state") else "right")
    return made
