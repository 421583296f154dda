"""An explained review for people: a coloured line in the terminal, a table, and a picture."""

from __future__ import annotations

import warnings
from math import ceil
from typing import TYPE_CHECKING

from rich.style import Style
from rich.table import Table
from rich.text import Text

from fastrnn.imdb import plots, tables
from fastrnn.imdb.reader import Explanation, Prediction, Step
from fastrnn.imdb.terminal import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NEGATIVE, NEITHER, POSITIVE = (0xE0, 0x82, 0x14), (0xF4, 0xF4, 0xF4), (0x4A, 0x9F, 0xD8)
"""Colours that also those can tell apart who see no red or green; black stands out on each."""

WORDS_IN_A_ROW = 40


def shade(probability: float) -> tuple[int, int, int]:
    """Returns the colour of a probability: orange for 0, over light grey, to blue for 1.

    Example:
        >>> shade(0.0), shade(0.5), shade(1.0)
        ((224, 130, 20), (244, 244, 244), (74, 159, 216))
    """
    end, weight = (POSITIVE if probability > 0.5 else NEGATIVE), abs(2 * probability - 1)
    red, green, blue = (
        round(grey + weight * (full - grey)) for grey, full in zip(NEITHER, end, strict=True)
    )
    return red, green, blue


def summary(prediction: Prediction) -> str:
    """Returns a sentence about a prediction.

    Example:
        >>> summary(Prediction(0.25, words=120, read=100, unknown=7))
        'negative (25.0 % positive); read 100 of 120 words, 7 of them unknown'
    """
    percent = 100 * prediction.probability
    return f"{prediction.label} ({percent:.1f} % positive); {reading(prediction)}"


def reading(prediction: Prediction) -> str:
    """Returns how much of a review the model read.

    Example:
        >>> reading(Prediction(0.25, words=1, read=1, unknown=0))
        'read 1 word, 0 of them unknown'
    """
    read, words = prediction.read, prediction.words
    share = f"{read}" if read == words else f"{read} of {words}"
    return f"read {share} {'word' if words == 1 else 'words'}, {prediction.unknown} of them unknown"


def moves(explanation: Explanation) -> list[str]:
    """Returns the words that moved the probability most, each with its points.

    Example:
        >>> moves(Explanation(0.5, (Step("good", "known", 0.75, 0.25),)))
        ['good +25.0']
    """
    return [f"{step.word} {100 * (step.change or 0):+.1f}" for step in explanation.largest()]


def line(explanation: Explanation) -> Text:
    """Returns the words of a review, each on the colour of the probability after it."""
    text = Text()
    for step in explanation.steps:
        text.append(printable(step.word), _style(step)).append(" ")
    return text


def legend() -> Text:
    """Returns what the looks of `line` mean."""
    text = Text()
    for probability in (0, 0.25, 0.5, 0.75, 1):
        text.append(f" {probability:.0%} ", _background(probability))
    text.append(" positive after the word; ")
    text.append("unknown", Style(italic=True, underline=True)).append(" to the model; ")
    return text.append("cut off", Style(dim=True, strike=True)).append(" unread")


def numbers(explanation: Explanation) -> Table:
    """Returns a row for each word, for where there are no colours."""
    table = tables.table("word", "state", "positive %", "change")
    table.add_row("(before the first)", "", f"{100 * explanation.before:.1f}", "")
    for step in explanation.steps:
        table.add_row(
            Text(printable(step.word)),
            step.state,
            "" if step.probability is None else f"{100 * step.probability:.1f}",
            "" if step.change is None else f"{100 * step.change:+.1f}",
        )
    return table


def picture(explanation: Explanation) -> bytes:
    """Returns the probability over the words that the model reads, as a PNG file."""
    read = explanation.read
    rows = max(1, ceil(len(read) / WORDS_IN_A_ROW))
    figure = plots.new_figure(figsize=(11, 0.6 + 2.1 * rows))
    figure.suptitle(summary(explanation.prediction), fontsize="medium")
    plotted = figure.subplots(rows, squeeze=False)[:, 0]
    for row, axes in enumerate(plotted):
        _draw_row(axes, explanation, row * WORDS_IN_A_ROW)
    figure.supylabel("probability of positive", fontsize="small")
    if explanation.prediction.unknown:
        figure.supxlabel("white: words that the model does not know", fontsize="small")
    with warnings.catch_warnings():
        # A word in a script that the font has not shows as boxes, which says enough.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        return plots.png(figure)


def _draw_row(axes: Axes, explanation: Explanation, first: int) -> None:
    """Draws the words from number `first` on, joined to the one before them."""
    read = explanation.read
    steps = read[first : first + WORDS_IN_A_ROW]
    after = [step.probability or 0.0 for step in steps]
    before = (read[first - 1].probability or 0.0) if first else explanation.before
    places = range(len(steps))
    for place, step, probability in zip(places, steps, after, strict=True):
        axes.axvspan(place - 0.5, place + 0.5, color=_fraction(probability), linewidth=0)
        if step.state == "unknown":
            axes.plot(place, probability, "o", color="white", markeredgecolor="black", zorder=3)
    axes.axhline(0.5, color="gray", linewidth=0.8, linestyle=":")
    axes.plot([-1, *places], [before, *after], color="black", marker=".")
    axes.set(xlim=(-1, min(len(read), WORDS_IN_A_ROW) - 0.5), ylim=(0, 1), yticks=[0, 0.5, 1])
    axes.set_xticks(list(places))
    axes.set_xticklabels(
        [printable(step.word) for step in steps], rotation=90, fontsize="small", parse_math=False
    )


def _style(step: Step) -> Style:
    if step.probability is None:
        return Style(dim=True, strike=True)
    unknown = step.state == "unknown"
    return _background(step.probability) + Style(italic=unknown, underline=unknown)


def _background(probability: float) -> Style:
    red, green, blue = shade(probability)
    return Style(color="black", bgcolor=f"rgb({red},{green},{blue})")


def _fraction(probability: float) -> tuple[float, float, float]:
    red, green, blue = shade(probability)
    return red / 255, green / 255, blue / 255
