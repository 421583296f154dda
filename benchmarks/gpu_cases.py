"""What `gpu-check` compares and times: layers on both sides of every limit of torch's cuDNN path.

torch takes one of three algorithms of cuDNN (ATen/native/cudnn/RNN.cpp of torch 2.13), and the fast
ones serve a narrow window of sizes. A comparison on one side of a limit alone would mislead.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import fastrnn
from benchmarks.cases import GATES
from benchmarks.engines import FASTRNN, TORCH

PASSES = ("forward", "backward", "training")
# Of the largest element wanted; long sequences drift, and gradients are sums that may cancel.
TOLERANCES = {"float64": 1e-10, "float32": 1e-4, "float16": 2e-2, "bfloat16": 1e-1}


@dataclass(frozen=True)
class GpuCase:
    """A module and its input; `why` is the limit it lies at."""

    why: str
    cell: str
    dtype: str
    H: int
    T: int = 100
    B: int = 32
    I: int = 128  # noqa: E741  a multiple of 128, which cuDNN's persistent kernels want
    layers: int = 1
    bidirectional: bool = False
    packed: bool = False

    def __str__(self) -> str:
        extras = [f"{self.layers} layers"] if self.layers > 1 else []
        extras += [name for name in ("bidirectional", "packed") if getattr(self, name)]
        sizes = f"{self.T},{self.B},{self.I},{self.H}"
        return " ".join([self.cell, self.dtype, sizes, *extras])

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype as torch knows it."""
        dtype: torch.dtype = getattr(torch, self.dtype)
        return dtype

    def cudnn(self, backward: bool) -> str:
        """The algorithm that torch would ask of cuDNN on a large GPU: a reading of its source."""
        if self.packed or self.dtype == "float64":
            return "standard"
        static = self.dtype == "float16" and self.layers == 1 and not self.bidirectional
        if static and self.cell != "GRU" and self.H <= 1024 and self.H % 128 == self.I % 128 == 0:
            few = self.B <= 128 if self.cell == "LSTM" else not (self.B >= 96 and self.H >= 896)
            if self.B % 8 == 0 and few:
                return "persistent"
        small = {False: (384, 192), True: (256, 128)}[backward][GATES[self.cell] > 1]
        return "persistent, small H" if self.H <= small else "standard"


def all_cases() -> list[GpuCase]:
    """Each case once, under the first limit that asks for it."""
    found: dict[str, GpuCase] = {}
    for case in _cases():
        found.setdefault(str(case), case)
    return list(found.values())


def small_cases() -> list[GpuCase]:
    """One of each plan and dtype, for a sanitizer, which makes kernels a hundred times slower."""
    return [
        case
        for dtype in TOLERANCES
        for case in (
            GpuCase("block", "LSTM", dtype, 30, T=3, B=5, I=8, packed=True),
            GpuCase("grid", "GRU", dtype, 250, T=3, B=17, I=8),
            GpuCase("launch", "RNN", dtype, 6000, T=2, B=2, I=8),
        )
    ]


def _cases() -> Iterator[GpuCase]:
    for dtype in ("float32", "bfloat16", "float16"):
        for H in (128, 192, 256, 512, 1024):
            yield GpuCase("hidden size", "GRU", dtype, H)
        for H in (128, 192, 256, 384, 512, 1024):
            yield GpuCase("hidden size", "LSTM", dtype, H)
        for H in (256, 384, 512):
            yield GpuCase("hidden size", "RNN", dtype, H)
    for cell in ("LSTM", "GRU"):
        for dtype in ("float32", "float16"):
            for H in (128, 256, 512):
                yield GpuCase("packed", cell, dtype, H, packed=True)
            for H in (128, 192, 256):
                yield GpuCase("layers and directions", cell, dtype, H, bidirectional=True)
                yield GpuCase("layers and directions", cell, dtype, H, layers=2)
            for B in (1, 8, 32, 64, 127, 128, 136, 256):
                yield GpuCase("batch", cell, dtype, 256, B=B)
            for T in (25, 100, 400, 1000):
                yield GpuCase("steps", cell, dtype, 256, T=T)
        for H in (128, 512):
            yield GpuCase("float64", cell, "float64", H)
    for B, H in ((88, 896), (96, 896)):
        yield GpuCase("batch", "RNN", "float16", H, B=B)


class Work:
    """One engine's module with its input on a device, and the three passes over it."""

    def __init__(
        self, module: nn.RNNBase, input: Tensor, lengths: Tensor | None, dtype: torch.dtype
    ) -> None:
        self.module, self.dtype = module, dtype  # of the case, whatever the module's is
        self.leaf = input.requires_grad_()
        self.input: Any = input
        if lengths is not None:
            # With a graph of its own, backward would free it after the first pass.
            packed = pack_padded_sequence(input.detach(), lengths)
            self.leaf = packed.data.requires_grad_()
            self.input = PackedSequence(self.leaf, packed.batch_sizes)
        self.by = [self.leaf, *module.parameters()]
        self.output = self.grad_output = torch.empty(0)

    @staticmethod
    def _data(output: Any) -> Tensor:
        data: Tensor = output.data if isinstance(output, PackedSequence) else output
        return data

    def forward(self) -> None:
        """Without gradients."""
        with torch.no_grad():
            self.module(self.input)

    def prepare(self) -> None:
        """Runs the forward pass that `backward` goes back through."""
        self.output = self._data(self.module(self.input)[0])
        if self.grad_output.shape != self.output.shape:
            generator = torch.Generator().manual_seed(1)
            numbers = torch.randn(self.output.shape, generator=generator)
            self.grad_output = numbers.to(self.dtype).to(self.output)

    def backward(self) -> tuple[Tensor, ...]:
        """The gradients of input and weights; once after each `prepare`."""
        return torch.autograd.grad(self.output, self.by, self.grad_output)

    def training(self) -> None:
        """Forward and backward."""
        self.prepare()
        self.backward()

    def results(self) -> dict[str, Tensor]:
        """Output, last states and gradients, on the CPU in float64."""
        _, states = self.module(self.input)
        states = states if isinstance(states, tuple) else (states,)
        self.prepare()
        named: dict[str, Tensor] = dict(zip(("h_n", "c_n"), states, strict=False))
        named["output"] = self.output
        names = ["input", *(name for name, _ in self.module.named_parameters())]
        named |= {f"grad_{n}": g for n, g in zip(names, self.backward(), strict=True)}
        return {name: value.detach().cpu().double() for name, value in named.items()}


def works(case: GpuCase, device: str) -> tuple[Work, dict[str, Work]]:
    """torch.nn on the CPU in float64, and both engines on the device, with the same numbers."""
    generator = torch.Generator().manual_seed(0)
    input = torch.randn(case.T, case.B, case.I, generator=generator).to(case.torch_dtype)
    lengths = None
    if case.packed:
        lengths = torch.randint(max(case.T // 4, 1), case.T + 1, (case.B,), generator=generator)
        lengths[0] = case.T
        lengths = lengths.sort(descending=True).values
    options = {"num_layers": case.layers, "bidirectional": case.bidirectional}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = getattr(nn, case.cell)(case.I, case.H, **options).to(case.torch_dtype)
    ours = getattr(fastrnn, case.cell)(case.I, case.H, **options).to(case.torch_dtype)
    ours.load_state_dict(theirs.state_dict())
    wide = Work(copy.deepcopy(theirs).double(), input.double(), lengths, case.torch_dtype)
    there = {
        name: Work(module.to(device), input.to(device, copy=True), lengths, case.torch_dtype)
        for name, module in {TORCH: theirs, FASTRNN: ours}.items()
    }
    return wide, there


def errors(actual: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, float]:
    """Largest difference of each tensor, as a part of the largest element wanted."""
    found = {}
    for name, value in wanted.items():
        difference = (actual[name] - value).abs().max().item()
        found[name] = difference / max(value.abs().max().item(), 1e-300)
    return found


def is_correct(found: Mapping[str, float], dtype: str) -> bool:
    """Whether all differences are allowed; NaN is not."""
    return all(error <= TOLERANCES[dtype] for error in found.values())


def check_small(device: str = "cuda") -> int:
    """Runs the small cases once; returns how many are wrong."""
    wrong = 0
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    for case in small_cases():
        reference, there = works(case, device)
        found = errors(there[FASTRNN].results(), reference.results())
        wrong += not is_correct(found, case.dtype)
        print(f"{case!s:44}{max(found.values()):.1e}", flush=True)
    return wrong


if __name__ == "__main__":
    sys.exit(min(check_small(), 1))
