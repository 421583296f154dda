"""`python -m benchmarks.lengths`: what `lengths=` saves over padding, and over torch's packing.

Four ways to train on the same rows of different lengths, a loss on every step of every row:

- padded: fastrnn without `lengths`, which computes the padding too, and masks its output;
- lengths: fastrnn with `lengths`;
- packed: fastrnn with `pack_padded_sequence` and `pad_packed_sequence` around it;
- torch packed: torch.nn with the same around it.

Forward, loss and backward to input and weights, in one process, in shuffled order, after their
gradients were compared.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import fastrnn
from benchmarks.cases import CELLS, Shape
from benchmarks.check import agree
from benchmarks.options import measure_table, shape
from benchmarks.readme import README
from benchmarks.report import facts_text, machine, ms_text, ratio_text
from benchmarks.timing import Spread, interleave, ratios

SHAPE = Shape(200, 64, 64, 64)
FRACTIONS = (0.8, 1.0)

Way = Callable[[], tuple[Tensor, ...]]


def draw_lengths(shape: Shape, longest: float) -> Tensor:
    """One length for each row, uniform from 1 to a fraction `longest` of T; the first row has T."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, int(shape.T * longest) + 1, (shape.B,), generator=generator)
    lengths[0] = shape.T
    return lengths


def ways(cell: str, shape: Shape, lengths: Tensor) -> dict[str, Way]:
    """What trains, by name: each call gives the gradients of input and weights."""
    theirs = getattr(nn, cell)(shape.I, shape.H)
    ours = getattr(fastrnn, cell)(shape.I, shape.H)
    ours.load_state_dict(theirs.state_dict())
    input = torch.randn(shape.T, shape.B, shape.I, requires_grad=True)
    weights = torch.randn(shape.T, shape.B, shape.H)
    mask = (torch.arange(shape.T)[:, None] < lengths).unsqueeze(-1)

    def gradients(module: nn.Module, output: Tensor) -> tuple[Tensor, ...]:
        loss = (output * weights).sum()
        return torch.autograd.grad(loss, [input, *module.parameters()])

    def packed(module: nn.Module) -> tuple[Tensor, ...]:
        sequence = pack_padded_sequence(input, lengths, enforce_sorted=False)
        output, _ = pad_packed_sequence(module(sequence)[0], total_length=shape.T)
        return gradients(module, output)

    return {
        "padded": lambda: gradients(ours, ours(input)[0] * mask),
        "lengths": lambda: gradients(ours, ours(input, lengths=lengths)[0]),
        "packed": lambda: packed(ours),
        "torch packed": lambda: packed(theirs),
    }


def check(variants: Mapping[str, Way]) -> None:
    """Compares the gradients of all ways.

    Raises:
        ValueError: two differ; such work is not timed.
    """
    wanted = variants["torch packed"]()
    for name, way in variants.items():
        agree(way(), wanted, f"{name}: a gradient")


def measure(cell: str, shape: Shape, longest: float, budget_s: float) -> dict[str, Any]:
    """One row: milliseconds by way, and how many times as long as `lengths` each takes."""
    lengths = draw_lengths(shape, longest)
    variants = ways(cell, shape, lengths)
    check(variants)
    times = interleave(variants, budget_s=budget_s, min_iterations=9)
    return {
        "cell": cell,
        "shape": str(shape),
        "mean_length": lengths.double().mean().item(),
        "ms": {name: vars(Spread.of([1e3 * t for t in each])) for name, each in times.items()},
        "over_lengths": {
            name: vars(ratios(times, name, "lengths")) for name in times if name != "lengths"
        },
    }


def markdown(results: Mapping[str, Any]) -> str:
    """The table of the README."""
    lines = [
        f"{facts_text(results['machine'])}. One thread, float32, training.",
        "",
        "| T,B,I,H | mean length | cell | with lengths, ms | padded / lengths (quartiles) | "
        "fastrnn packed / lengths | torch.nn packed / lengths |",
        "|---|--:|---|--:|:--|:--|:--|",
    ]
    for row in results["rows"]:
        over = {name: ratio_text(each) for name, each in row["over_lengths"].items()}
        lines.append(
            f"| {row['shape']} | {row['mean_length']:.0f} | {row['cell']} | "
            f"{ms_text(row['ms']['lengths']['median'])} | {over['padded']} | {over['packed']} | "
            f"{over['torch packed']} |"
        )
    return "\n".join(lines) + "\n"


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measures all that is asked for."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows = [
        measure(cell, options.shape, longest, options.budget)
        for longest in FRACTIONS
        for cell in options.cells
    ]
    return {"machine": machine(torch.float32), "rows": rows}


def main(argv: list[str] | None = None) -> None:
    """Does what the command line asks for."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.lengths", description="Time training on rows of different lengths."
    )
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=CELLS)
    parser.add_argument("--shape", type=shape, default=SHAPE, metavar="T,B,I,H")
    parser.add_argument("--budget", type=float, default=15, help="seconds per row (default: 15)")
    measure_table(parser, argv, run, markdown, "lengths", README)


if __name__ == "__main__":
    main()
