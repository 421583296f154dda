"""What is timed: a cell, a pass and a shape, run by a module of torch.nn and by one of fastrnn."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

import fastrnn

CELLS = ("RNN", "LSTM", "GRU")
PASSES = ("inference", "training")
IMPLEMENTATIONS = {"torch": nn, "fastrnn": fastrnn}

# Largest difference allowed, relative to the largest element of the tensor: elements of a gradient
# are sums over time and batch that may cancel. Two float32 results differ by 1e-5 at the largest
# shape for the order of their sums alone.
TOLERANCES = {torch.float32: 1e-4, torch.float64: 1e-10}


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


@dataclass(frozen=True)
class Case:
    """One row of the results; `step` is one of PASSES."""

    cell: str
    step: str
    shape: Shape
    dtype: torch.dtype = torch.float32

    def __str__(self) -> str:
        return f"{self.cell} {self.step} {self.shape}"


def all_cases(cells: Iterable[str], shapes: Iterable[Shape], dtype: torch.dtype) -> list[Case]:
    """The cases in the order of the report: by shape, then cell, then pass."""
    return [
        Case(cell, step, shape, dtype)
        for shape, cell, step in itertools.product(shapes, cells, PASSES)
    ]


class Inference:
    """A forward call without gradients, as a user writes it."""

    def __init__(self, module: nn.RNNBase, input: Tensor, grad_output: Tensor) -> None:
        self.module = module
        self.input = input

    def __call__(self) -> None:
        with torch.no_grad():
            self.output, self.state = self.module(self.input)

    def results(self) -> dict[str, Tensor]:
        """What the last call computed, by name."""
        states = self.state if isinstance(self.state, tuple) else (self.state,)
        named = zip(("h_n", "c_n"), states, strict=False)
        return {"output": self.output, **dict(named)}


class Training(Inference):
    """A training step without the optimizer: a fresh graph and all gradients in every call."""

    def __init__(self, module: nn.RNNBase, input: Tensor, grad_output: Tensor) -> None:
        super().__init__(module, input.clone().requires_grad_(), grad_output)
        self.grad_output = grad_output

    def __call__(self) -> None:
        self.module.zero_grad(set_to_none=True)
        self.input.grad = None
        self.output, self.state = self.module(self.input)
        self.output.backward(self.grad_output)

    def results(self) -> dict[str, Tensor]:
        """What the last call computed, by name."""
        grads = {name: weight.grad for name, weight in self.module.named_parameters()}
        return {**super().results(), "grad_input": self.input.grad, **grads}


def workloads(case: Case) -> dict[str, Inference]:
    """Makes the same work, on the same numbers, for each of IMPLEMENTATIONS."""
    shape, work = case.shape, {"inference": Inference, "training": Training}[case.step]
    generator = torch.Generator().manual_seed(0)
    input = torch.randn(shape.T, shape.B, shape.I, generator=generator, dtype=case.dtype)
    grad_output = torch.randn(shape.T, shape.B, shape.H, generator=generator, dtype=case.dtype)
    modules = {
        name: getattr(library, case.cell)(shape.I, shape.H, dtype=case.dtype)
        for name, library in IMPLEMENTATIONS.items()
    }
    modules["fastrnn"].load_state_dict(modules["torch"].state_dict())
    return {name: work(module, input, grad_output) for name, module in modules.items()}


def check(case: Case, made: dict[str, Inference]) -> None:
    """Runs each workload once and compares all it computes with torch's.

    Raises:
        ValueError: a result differs by more than TOLERANCES allows; such work is not timed.
    """
    for workload in made.values():
        workload()
    wanted = made["torch"].results()
    for name, workload in made.items():
        for what, value in workload.results().items():
            scale = wanted[what].abs().max().item()
            error = (value - wanted[what]).abs().max().item()
            if not error <= TOLERANCES[case.dtype] * scale:
                raise ValueError(
                    f"{case}: {what} of {name} differs from torch's by {error:.1e}, wanted at most "
                    f"{TOLERANCES[case.dtype]:.0e} of its largest element, {scale:.1e}"
                )
