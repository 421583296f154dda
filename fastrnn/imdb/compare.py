"""All presets on several backends and seeds, beside what the texts report of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import compress
from statistics import mean, median
from typing import get_args, get_type_hints

from fastrnn.imdb.config import Config
from fastrnn.imdb.errors import DataError
from fastrnn.imdb.presets import PRESETS, configure
from fastrnn.imdb.sweep import Record, Trial
from fastrnn.imdb.tables import Grid, spread

BACKENDS: tuple[str, ...] = get_args(get_type_hints(Config)["backend"])
# One validation set of 5,000 reviews has a standard error of 0.6 points at these accuracies.
TOLERANCE = 1.5

TITLES = (
    "preset",
    "backend",
    "recurrent / all parameters",
    "as Keras counts",
    "epochs (best)",
    "validation accuracy, %",
    "reported",
    "difference",
    "test accuracy, %",
    "reported",
    "test F1, %",
    "s per epoch",
    "torch / fastrnn",
)


@dataclass(frozen=True)
class Row:
    """One preset on one backend, with a record for each seed.

    Attributes:
        preset: its name.
        backend: what ran the recurrent layers.
        records: the runs, in the order of the seeds.
    """

    preset: str
    backend: str
    records: list[Record]

    @property
    def validation(self) -> list[float]:
        """Validation accuracies in percent."""
        return [100 * record.validation.accuracy for record in self.records]

    @property
    def difference(self) -> float | None:
        """Points of validation accuracy above the reported figure, None where there is none."""
        reported = PRESETS[self.preset].reported_validation
        return None if reported is None else mean(self.validation) - 100 * reported

    @property
    def seconds_per_epoch(self) -> float:
        """Median of the records' own."""
        return median(record.seconds_per_epoch for record in self.records)


def plan(
    presets: Sequence[str], backends: Sequence[str], seeds: Sequence[int], epochs: int | None
) -> list[Trial]:
    """Returns the trainings of a comparison, those of one preset together.

    Args:
        presets: names in `PRESETS`.
        backends: names in `BACKENDS`.
        seeds: of weights, order and dropout; each backend starts from the same.
        epochs: at most so many; None leaves the presets' own limit and early stopping.

    Raises:
        DataError: a name is unknown, a value wrong, or something is named twice.

    Example:
        >>> [trial.name for trial in plan(["gru"], ["fastrnn", "torch"], [0], None)]
        ['gru-fastrnn-0', 'gru-torch-0']
    """
    if unknown := [preset for preset in presets if preset not in PRESETS]:
        raise DataError(
            f"there is no model of the texts called {unknown[0]!r}; there are {', '.join(PRESETS)}"
        )
    trials = [
        Trial(f"{preset}-{backend}-{seed}", config)
        for preset in presets
        for seed in seeds
        for backend in backends
        for config in [configure(preset, backend=backend, seed=seed, epochs=epochs)]
    ]
    names = [trial.name for trial in trials]
    if not names or len(set(names)) < len(names):
        raise DataError("compare needs presets, backends and seeds, each named once")
    return trials


def make_rows(records: Iterable[Record]) -> list[Row]:
    """Puts the records of each preset and backend together, in the order of the first of each."""
    found: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        assert record.config.preset is not None
        found.setdefault((record.config.preset, record.config.backend), []).append(record)
    return [Row(*key, each) for key, each in found.items()]


def table(rows: Sequence[Row]) -> Grid:
    """Returns the one table: a line for each preset and backend; no column without a text."""
    torch = {row.preset: row for row in rows if row.backend == "torch"}
    lines = [_line(row, torch.get(row.preset)) for row in rows]
    filled = [any(texts) for texts in zip(*lines, strict=True)]
    return Grid(tuple(compress(TITLES, filled)), [tuple(compress(line, filled)) for line in lines])


def _line(row: Row, torch: Row | None) -> tuple[str, ...]:
    preset = PRESETS[row.preset]
    *layers, total = row.records[0].layers
    torch_recurrent = sum(layer.torch_parameters for layer in layers[1:-1])
    keras_recurrent = sum(layer.keras_parameters for layer in layers[1:-1])
    ratio = ""
    if row.backend == "fastrnn" and torch is not None:
        ratio = f"{_times_as_long(torch, row):.1f}"
    return (
        row.preset,
        row.backend,
        f"{torch_recurrent:,} / {total.torch_parameters:,}",
        f"{keras_recurrent:,} / {total.keras_parameters:,}",
        ", ".join(f"{len(record.history)} ({record.best.epoch})" for record in row.records),
        spread(row.validation),
        _percent(preset.reported_validation),
        "" if row.difference is None else f"{row.difference:+.1f}",
        spread([100 * record.test.accuracy for record in row.records]),
        _percent(preset.reported_test),
        spread([100 * record.test.f1 for record in row.records]),
        f"{row.seconds_per_epoch:.2f}",
        ratio,
    )


def _times_as_long(row: Row, other: Row) -> float:
    """How long the epochs of `row` take, by those of `other`.

    Runs of the same seed follow one another, so their ratio knows little of a machine that slows
    down in between.
    """
    return median(
        record.seconds_per_epoch / theirs.seconds_per_epoch
        for record, theirs in zip(row.records, other.records, strict=True)
    )


def notes(rows: Iterable[Row]) -> list[str]:
    """Returns what a reader must know of the columns, in sentences."""
    texts = [
        "Seconds per epoch: everything from shuffling the training reviews to scoring the "
        "validation reviews; the median over the epochs of a run without its first, which warms "
        "up, then the median over seeds. torch / fastrnn: of runs of the same seed, then the "
        "median; trainings at once take time from each other, one at once (--jobs 1) does not."
    ]
    if any(row.backend == "torch" and row.records[0].config.recurrent_dropout for row in rows):
        texts.append(
            "torch.nn has no dropout of hidden states: with it, backend torch is plain PyTorch, "
            "step by step."
        )
    return texts


def _percent(fraction: float | None) -> str:
    return "" if fraction is None else f"{100 * fraction:.1f}"


def explanations(rows: Iterable[Row]) -> list[str]:
    """Returns a sentence for each row that is further from the report than `TOLERANCE` points.

    Made-up reviews are none that a text reports of.
    """
    return [
        _explanation(row, row.difference)
        for row in rows
        if row.difference is not None and abs(row.difference) > TOLERANCE
        if not row.records[0].summary["synthetic"]
    ]


def _explanation(row: Row, difference: float) -> str:
    side = "above" if difference > 0 else "below"
    text = f"{row.preset} on {row.backend} is {abs(difference):.1f} points {side} the report"
    if len(row.records) > 1:
        text += f", and its seeds lie between {min(row.validation):.1f} and "
        text += f"{max(row.validation):.1f} %"
    else:
        text += "; one seed does not show what other initial weights make of it: see more --seeds"
    worst = min(row.records, key=lambda record: record.validation.accuracy)
    waited = len(worst.history) - worst.best.epoch
    if difference > 0:
        ends = ", ".join(str(len(record.history)) for record in row.records)
        text += f". Training ended in epoch {ends}, "
        text += f"the text's in {PRESETS[row.preset].reported_epochs}"
    elif waited >= worst.config.patience:
        text += (
            f". Early stopping ended seed {worst.config.seed} in epoch {len(worst.history)}, "
            f"{waited} after its best; from there its training loss went from "
            f"{worst.best.train_loss:.3f} to {worst.history[-1].train_loss:.3f}"
        )
    else:
        text += f". Seed {worst.config.seed} was cut at the limit of {len(worst.history)} epochs"
    return text + "."
