"""What a lab is, how it is run on small data and on the reviews, and what is made of its runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt
from statistics import mean, stdev
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fastrnn.imdb import curves
from fastrnn.imdb.curves import Curve, Line
from fastrnn.imdb.presets import configure
from fastrnn.imdb.sweep import Record, Trial
from fastrnn.imdb.tables import Grid, spread

FIRST, LAST = "first loss", "last loss"
ACCURACY, F1 = "accuracy, %", "F1, %"
VALIDATION_LOSS, VALIDATION_ACCURACY = "validation loss", "validation accuracy, %"


class Run(NamedTuple):
    """What one training with one seed gave."""

    figures: dict[str, float]
    """By the title of their column."""
    curves: dict[str, Curve]
    """By what they show, such as "training"."""


class Variant(NamedTuple):
    """One line of a lab's table."""

    name: str
    run: Callable[[int, int], Run]
    """Trains from a seed for a number of epochs."""
    reported: str = ""
    """What the lab sheet says, or "" where it says nothing."""


@dataclass(frozen=True)
class Part:
    """A lab on one kind of data, done.

    Attributes:
        title: what was trained, and how often.
        runs: for each variant the runs of the seeds.
        reported: for each variant what the lab sheet says.
        judge: the figure by which variants are compared.
        lower: whether less of it is better.
        axes: what the plot of the curves has on its axes.
    """

    title: str
    runs: dict[str, list[Run]]
    reported: dict[str, str]
    judge: str
    lower: bool
    axes: tuple[str, str] = ("epoch", "loss")

    def values(self, variant: str, figure: str) -> list[float]:
        """Returns a figure of a variant for each seed."""
        return [run.figures[figure] for run in self.runs[variant]]

    def text(self, variant: str, figure: str) -> str:
        """Returns a figure of a variant: mean and standard deviation over the seeds."""
        whole = figure.endswith("%") or figure == "epochs"
        return spread(self.values(variant, figure), digits=1 if whole else 3)


@dataclass(frozen=True)
class Lab:
    """One experiment of the lab sheet.

    Attributes:
        question: what it asks.
        data: what its small data are.
        epochs: of each small run, if not told otherwise.
        variants: what is compared on the small data.
        judge: the figure that decides there.
        conclude: makes one plain sentence of the figures.
        imdb: settings of each variant on the reviews, over those of the preset `lstm`; without
            any the lab has nothing to do there.
        axes: as in `Part`, on the small data.
    """

    question: str
    data: str
    epochs: int
    variants: tuple[Variant, ...]
    judge: str
    conclude: Callable[[Part], str]
    imdb: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    axes: tuple[str, str] = ("epoch", "loss")


def run_small(lab: Lab, seeds: Sequence[int], epochs: int | None) -> Part:
    """Trains all variants of a lab on its small data, once for each seed, on one thread."""
    torch.set_num_threads(1)
    epochs = epochs or lab.epochs
    runs: dict[str, list[Run]] = {}
    for variant in lab.variants:
        runs[variant.name] = []
        for seed in seeds:
            torch.manual_seed(seed)
            runs[variant.name].append(variant.run(seed, epochs))
    reported = {variant.name: variant.reported for variant in lab.variants}
    return Part(lab.data, runs, reported, lab.judge, lab.judge == LAST, lab.axes)


def plan_imdb(lab: Lab, seeds: Sequence[int], epochs: int | None) -> list[Trial]:
    """Returns the trainings of a lab on the reviews, those of one variant together."""
    return [
        Trial(
            f"{re.sub('[^a-z0-9.]+', '-', name.lower())}-{seed}",
            configure("lstm", **{**settings, "seed": seed, "epochs": epochs}),
        )
        for name, settings in lab.imdb.items()
        for seed in seeds
    ]


def imdb_part(lab: Lab, title: str, records: Sequence[Record]) -> Part:
    """Returns what the records of `plan_imdb`, in its order, say."""
    seeds = len(records) // len(lab.imdb)
    runs = {
        name: [_imdb_run(record) for record in records[index * seeds : (index + 1) * seeds]]
        for index, name in enumerate(lab.imdb)
    }
    return Part(title, runs, dict.fromkeys(runs, ""), VALIDATION_ACCURACY, lower=False)


def _imdb_run(record: Record) -> Run:
    epochs = [epoch.epoch for epoch in record.history]
    return Run(
        {
            "epochs": len(record.history),
            VALIDATION_LOSS: record.validation.loss,
            VALIDATION_ACCURACY: 100 * record.validation.accuracy,
            "test accuracy, %": 100 * record.test.accuracy,
            "test F1, %": 100 * record.test.f1,
            "s per epoch": record.seconds_per_epoch,
        },
        {
            "training": Curve(epochs, [epoch.train_loss for epoch in record.history]),
            "validation": Curve(epochs, [epoch.validation_loss for epoch in record.history]),
        },
    )


def fit(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: Callable[[Tensor, Tensor], Tensor],
    batches: Callable[[], Iterable[Sequence[Any]]],
    epochs: int,
    after_epoch: Callable[[], None] = lambda: None,
) -> Curve:
    """Trains a model; returns the mean loss of each epoch, each step's taken before its update.

    Args:
        model: takes all but the last of what a batch holds.
        optimizer: of its parameters.
        loss: of the model's output and the last of what a batch holds.
        batches: gives the batches of an epoch.
        epochs: their number.
        after_epoch: called after each.
    """
    means = []
    for _ in range(epochs):
        model.train()
        total = count = 0.0
        for *inputs, target in batches():
            value = loss(model(*inputs), target)
            optimizer.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += value.item() * len(target)
            count += len(target)
        means.append(total / count)
        after_epoch()
    return Curve(range(1, epochs + 1), means)


def to_dict(part: Part) -> dict[str, Any]:
    """Returns all figures and curves as plain values, for JSON."""
    return {
        "title": part.title,
        "judge": part.judge,
        "variants": [
            {
                "name": name,
                "reported": part.reported[name],
                "runs": [
                    {
                        "figures": run.figures,
                        "curves": {
                            kind: {"x": list(curve.x), "y": list(curve.y)}
                            for kind, curve in run.curves.items()
                        },
                    }
                    for run in runs
                ],
            }
            for name, runs in part.runs.items()
        ],
    }


def table(part: Part) -> Grid:
    """Returns a line for each variant: its figures, and what the sheet says if it says anything."""
    (first, *_) = next(iter(part.runs.values()))
    titles = ["variant", *first.figures]
    lines = [[name, *(part.text(name, figure) for figure in first.figures)] for name in part.runs]
    if any(part.reported.values()):
        titles.append("reported")
        for line in lines:
            line.append(part.reported[line[0]])
    return Grid(tuple(titles), [tuple(line) for line in lines])


def plot(part: Part) -> bytes:
    """Returns a PNG file: the curves of all runs, and the deciding figure with its spread."""
    lines = [
        Line(name, kind, [run.curves[kind] for run in runs])
        for name, runs in part.runs.items()
        for kind in runs[0].curves
    ]
    points = {name: part.values(name, part.judge) for name in part.runs}
    return curves.draw(lines, part.axes, points, part.judge)


def extremes(part: Part) -> str:
    """Returns which variants do best and worst, and whether seeds alone could make the gap."""
    means = {name: mean(part.values(name, part.judge)) for name in part.runs}
    best, *_, worst = sorted(means, key=means.__getitem__, reverse=not part.lower)
    gap = abs(means[best] - means[worst])
    judge, _, unit = part.judge.partition(", ")
    best_text, worst_text = (
        f"{part.text(name, part.judge)} {unit}".strip() for name in (best, worst)
    )
    if gap == 0:
        return f"All variants have the same {judge}: {best_text}."
    words = ("lowest", "highest") if part.lower else ("highest", "lowest")
    text = (
        f"{best} has the {words[0]} {judge}, {best_text}, and {worst} the {words[1]}, {worst_text}"
    )
    values = [part.values(name, part.judge) for name in (best, worst)]
    if len(values[0]) == 1:
        return sentence(f"{text}; one seed does not tell whether another would say the same")
    error = sqrt(sum(stdev(each) ** 2 / len(each) for each in values))
    if gap > 2 * error:
        return sentence(f"{text}; the gap is more than twice its standard error, {error:.2g}")
    return sentence(f"{text}; seeds alone could make the gap: its standard error is {error:.2g}")


def course(part: Part, variant: str) -> str:
    """Returns where the loss of a variant began and where it ended."""
    first, last = (mean(part.values(variant, figure)) for figure in (FIRST, LAST))
    verb = "falls" if last < 0.99 * first else "rises" if last > 1.01 * first else "stays"
    return f"the loss of {variant} {verb} from {first:.3g} to {last:.3g}"


def sentence(text: str) -> str:
    """Returns a clause as a sentence: its first letter large, a point at its end."""
    return f"{text[0].upper()}{text[1:]}."
