"""What is timed: a cell, a pass, a shape, a dtype and a number of threads, on fixed numbers."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor, nn

CELLS = ("RNN", "LSTM", "GRU")
PASSES = ("inference", "training")
GATES = {"RNN": 1, "LSTM": 4, "GRU": 3}
DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Shape:
    """Sizes of one layer: T steps, B rows, I features of the input, H hidden units."""

    T: int
    B: int
    I: int  # noqa: E741  the name it has everywhere
    H: int

    @classmethod
    def parse(cls, text: str) -> Shape:
        """Reads "T,B,I,H"."""
        sizes = [int(size) for size in text.split(",")]
        if len(sizes) != len(fields(cls)) or min(sizes) < 1:
            raise ValueError(f"a shape is four positive sizes T,B,I,H, got {text!r}")
        return cls(*sizes)

    def __str__(self) -> str:
        return f"{self.T},{self.B},{self.I},{self.H}"


SHAPES = tuple(
    Shape(*sizes)
    for sizes in (
        (100, 64, 16, 8),
        (100, 64, 16, 32),
        (200, 128, 64, 32),
        (100, 64, 100, 128),
        (100, 1, 128, 128),
        (50, 32, 256, 512),
        (25, 32, 1024, 1024),
        (1, 1, 256, 256),
    )
)
# One of each regime: tiny gates, weights in cache, one row, one step.
QUICK_SHAPES = tuple(SHAPES[index] for index in (0, 3, 4, 7))

SWEEP_BASE = Shape(50, 32, 64, 128)
SWEEPS = {
    "T": (1, 5, 20, 50, 100, 200),
    "B": (1, 4, 16, 32, 64, 128),
    "I": (8, 32, 64, 128, 256, 512),
    "H": (8, 16, 32, 64, 128, 256, 512),
}
SUITES = ("shapes", *SWEEPS)


def suite(name: str, shapes: Sequence[Shape] = SHAPES) -> list[Shape]:
    """The shapes of a suite: those given, or the base with one size varied."""
    if name == "shapes":
        return list(shapes)
    return [replace(SWEEP_BASE, **{name: size}) for size in SWEEPS[name]]


@dataclass(frozen=True)
class Case:
    """One row of the results; `step` is one of PASSES, `dtype` a name in DTYPES."""

    cell: str
    step: str
    shape: Shape
    dtype: str = "float32"
    threads: int = 1

    def __str__(self) -> str:
        return f"{self.cell} {self.step} {self.shape} {self.dtype}"

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype as torch knows it."""
        return DTYPES[self.dtype]

    @property
    def flop(self) -> int:
        """Operations of the matrix products: 2 T B G H (I + H) forward, and twice that backward."""
        T, B, I, H = self.shape.T, self.shape.B, self.shape.I, self.shape.H  # noqa: E741
        forward = 2 * T * B * GATES[self.cell] * H * (I + H)
        return forward if self.step == "inference" else 3 * forward

    @property
    def bytes(self) -> int:
        """What must be read or written once: input, output, weights; their gradients in training.

        A model of the least traffic, not a measurement.
        """
        T, B, I, H = self.shape.T, self.shape.B, self.shape.I, self.shape.H  # noqa: E741
        elements = T * B * (I + H) + GATES[self.cell] * H * (I + H + 2)
        return elements * self.torch_dtype.itemsize * (1 if self.step == "inference" else 2)


def all_cases(
    cells: Iterable[str], shapes: Iterable[Shape], dtypes: Iterable[str], threads: int
) -> list[Case]:
    """The cases in the order of the report: by dtype, shape, cell, then pass."""
    return [
        Case(cell, step, shape, dtype, threads)
        for dtype, shape, cell, step in itertools.product(dtypes, shapes, cells, PASSES)
    ]


@dataclass(frozen=True)
class Problem:
    """The numbers that every engine gets: a torch.nn module's weights, and what flows through.

    input (T, B, I); grad_output (T, B, H), the gradient that backward begins with;
    weights: weight_ih (G*H, I), weight_hh (G*H, H), bias_ih (G*H), bias_hh (G*H), by torch's names.
    """

    case: Case
    input: Tensor
    grad_output: Tensor
    weights: dict[str, Tensor]

    @classmethod
    def of(cls, case: Case) -> Problem:
        """The same numbers in every process."""
        shape, generator = case.shape, torch.Generator().manual_seed(0)

        def numbers(*sizes: int) -> Tensor:
            return torch.randn(sizes, generator=generator).to(case.torch_dtype)

        input = numbers(shape.T, shape.B, shape.I)
        grad_output = numbers(shape.T, shape.B, shape.H)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            module = getattr(nn, case.cell)(shape.I, shape.H, dtype=case.torch_dtype)
        return cls(case, input, grad_output, dict(module.state_dict()))
