"""One training step in a process of its own, and how far its memory rose; run by benchmarks.memory.

python -m benchmarks.memory_step ENGINE CELL T,B,I,H DTYPE THREADS

prints a JSON object. Linux only: the peak is the kernel's own high-water mark of resident memory.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

import fastrnn
from benchmarks.cases import Shape

ENGINES = {"torch": nn, "fastrnn": fastrnn}
TINY = Shape(2, 2, 2, 2)
KIB = 1024
PR_SET_THP_DISABLE = 41


@dataclass
class Step:
    """A layer with what its caller owns in a training step: input, first states, output's gradient.

    Everything here exists, and has been written to, before the step begins.
    """

    engine: str
    cell: str
    shape: Shape
    dtype: torch.dtype
    module: nn.RNNBase = field(init=False)
    input: Tensor = field(init=False)
    states: tuple[Tensor, ...] = field(init=False)
    grad_output: Tensor = field(init=False)

    def __post_init__(self) -> None:
        T, B, I, H = (getattr(self.shape, name) for name in "TBIH")  # noqa: E741
        self.module = getattr(ENGINES[self.engine], self.cell)(I, H, dtype=self.dtype)
        self.input = torch.randn(T, B, I, dtype=self.dtype, requires_grad=True)
        count = 2 if self.cell == "LSTM" else 1
        self.states = tuple(torch.zeros(1, B, H, dtype=self.dtype) for _ in range(count))
        self.grad_output = torch.randn(T, B, H, dtype=self.dtype)

    def owned(self) -> Iterable[Tensor]:
        """The tensors that the caller has anyway, so that holding them costs nothing."""
        return (*self.module.parameters(), self.input, *self.states)

    def forward(self) -> Tensor:
        """The output, with the graph behind it."""
        output, _ = self.module(self.input, self.states if len(self.states) > 1 else self.states[0])
        return output

    def __call__(self) -> Tensor:
        """Forward and backward: the output, and gradients of the input and of all parameters."""
        output = self.forward()
        output.backward(self.grad_output)
        return output

    def clear(self) -> None:
        """Drops the gradients."""
        self.module.zero_grad(set_to_none=True)
        self.input.grad = None


def resident() -> dict[str, int]:
    """Bytes: resident memory now, its peak since `reset_peak`, and the part that is of files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    values = dict(line.split(":", 1) for line in lines)
    names = {"now": "VmRSS", "peak": "VmHWM", "files": "RssFile"}
    return {name: int(values[key].split()[0]) * KIB for name, key in names.items()}


def reset_peak() -> None:
    """Sets the kernel's high-water mark to what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")


def settle(libc: ctypes.CDLL) -> None:
    """Gives what is free back to the system."""
    gc.collect()
    libc.malloc_trim(0)


def measure(step: Step) -> dict[str, int]:
    """Bytes that one step takes above what is resident before it.

    Returns:
        `peak`: the most at any time of the step. `kept`: what is still there when the output and
        all gradients are gone. Both without the pages of libraries that the step was first to
        read: they are shared, and count for no tensor.
    """
    libc = ctypes.CDLL(None)
    Step(step.engine, step.cell, TINY, step.dtype)()
    torch.ones(1 << 20).mul_(2)  # wakes all threads
    settle(libc)
    reset_peak()
    before = resident()
    output = step()
    after = resident()
    del output
    step.clear()
    settle(libc)
    end = resident()
    return {
        "peak": after["peak"] - before["now"] - (after["files"] - before["files"]),
        "kept": end["now"] - before["now"] - (end["files"] - before["files"]),
    }


def main(argv: list[str]) -> None:
    """Measures what the command line names."""
    engine, cell, shape, dtype, threads = argv
    # The kernel counts pages for each CPU apart and adds them up late: fewer CPUs, less error.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(threads)])
    # A page of 2 MiB for a small array is the system's doing, and a matter of luck.
    ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)
    torch.set_num_threads(int(threads))
    print(json.dumps(measure(Step(engine, cell, Shape.parse(shape), getattr(torch, dtype)))))


if __name__ == "__main__":
    main(sys.argv[1:])
