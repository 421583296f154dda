"""What the timing asks of an engine."""

from __future__ import annotations

import importlib
import importlib.metadata
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from benchmarks.cases import PASSES, Case, Problem

EXTRA = 'python -m pip install -e ".[bench]"'


class Unavailable(Exception):
    """Why an engine cannot run here; the text goes into the report."""


class Workload(ABC):
    """One case in one engine, ready to be called again and again."""

    note: str | None = None
    """What a reader must know of the work that is timed."""

    @abstractmethod
    def __call__(self) -> None:
        """Does the work once and waits until it is done: a forward call, or forward and backward.

        Training computes the gradients of the input and of all weights.
        """

    @abstractmethod
    def results(self) -> dict[str, Tensor]:
        """What the last call computed, in torch's layout, by name.

        `output` (T, B, H); in training also `grad_input` and, by the names of the weights, their
        gradients; `h_n` and `c_n` (1, B, H) where the engine gives them.
        """


class Engine(ABC):
    """A program that computes recurrent layers."""

    packages: ClassVar[Sequence[str]]
    """Distributions it needs; the first gives the version in the report."""
    passes: ClassVar[Sequence[str]] = PASSES
    dtypes: ClassVar[Sequence[str]] = ("float32", "bfloat16")

    def environment(self, threads: int) -> Mapping[str, str]:
        """Variables that must be set when the process starts."""
        return {}

    def start(self, threads: int) -> None:  # noqa: B027  most need nothing more
        """Imports what it needs and makes it run on so many threads.

        Raises:
            Exception: it cannot run here; the reason becomes a note.
        """

    @abstractmethod
    def make(self, problem: Problem) -> Workload:
        """Prepares one case: packs, compiles, whatever comes before the first call."""

    def version(self) -> str:
        """Of each package it needs.

        Raises:
            Unavailable: one is not installed.
        """
        try:
            return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in self.packages)
        except importlib.metadata.PackageNotFoundError as error:
            raise Unavailable(f"{error.name} is not installed: {EXTRA}") from error

    def unsupported(self, case: Case) -> str | None:
        """Why the engine is not made for a case, or None."""
        if case.step not in self.passes:
            return f"does {' and '.join(self.passes)} only"
        if case.dtype not in self.dtypes:
            return f"has no {case.dtype} here"
        return None


def library(name: str) -> Any:
    """Imports a library at run time: no type of an optional extra is known here."""
    return importlib.import_module(name)


# Which of torch's gates stands where in Keras and in oneDNN: GRU r, z, n to z, r, n. The same
# exchange gives torch's order again.
UPDATE_FIRST = {"RNN": (0,), "LSTM": (0, 1, 2, 3), "GRU": (1, 0, 2)}


def reorder_gates(tensor: Tensor, order: Sequence[int]) -> Tensor:
    """Brings the blocks of rows, one a gate, into another order."""
    gates = tensor.chunk(len(order))
    return torch.cat([gates[index] for index in order])
