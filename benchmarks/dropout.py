"""`python -m benchmarks.dropout`: what recurrent dropout costs in training, and input dropout.

Five ways to train on the same rows, a loss on every step:

- plain: fastrnn without dropout;
- recurrent, input, both: fastrnn with a mask of the states, of the input, or of both;
- loop: the same as "both" by a loop over time in plain PyTorch, the input product taken before it,
  which is what there is without fastrnn.

Forward, loss and backward to input and weights, in one process, in shuffled order, after the
gradients of each were compared with those of a loop that draws the same masks.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

import fastrnn
from benchmarks.cases import CELLS, Shape
from benchmarks.check import agree
from benchmarks.options import add_threads, measure_table, shape
from benchmarks.report import facts_text, machine, ms_text, spread_text
from benchmarks.timing import Spread, interleave, ratios
from fastrnn import reference

SHAPES = (Shape(100, 64, 16, 8), Shape(100, 64, 100, 128), Shape(50, 32, 256, 512))
OPTIONS: dict[str, dict[str, float]] = {
    "plain": {},
    "recurrent": {"recurrent_dropout": 0.2},
    "input": {"input_dropout": 0.2},
    "both": {"recurrent_dropout": 0.2, "input_dropout": 0.2},
}

Way = Callable[[], tuple[Tensor, ...]]


def ways(cell: str, shape: Shape) -> dict[str, Way]:
    """What trains, by name: each call gives the gradients of input and weights."""
    modules = {name: getattr(fastrnn, cell)(shape.I, shape.H, **o) for name, o in OPTIONS.items()}
    for module in modules.values():
        module.load_state_dict(modules["plain"].state_dict())
    input = torch.randn(shape.T, shape.B, shape.I, requires_grad=True)
    weights = torch.randn(shape.T, shape.B, shape.H)
    return {
        **{name: _way(module, input, weights) for name, module in modules.items()},
        "loop": _way(loop(modules["both"]), input, weights),
    }


def loop(module: Any) -> Any:
    """The same module, with the same weights, whose layers are a loop in plain PyTorch."""
    options = {name: getattr(module, name) for name in OPTIONS["both"]}
    other = type(module)(module.input_size, module.hidden_size, **options)
    other._layer = reference.layer
    other.load_state_dict(module.state_dict())
    return other


def _way(module: Any, input: Tensor, weights: Tensor) -> Way:
    def gradients() -> tuple[Tensor, ...]:
        loss = (module(input)[0] * weights).sum()
        return torch.autograd.grad(loss, [input, *module.parameters()])

    return gradients


def check(variants: Mapping[str, Way]) -> None:
    """Compares the gradients of the loop with those of the kernels, for the same masks.

    Raises:
        ValueError: they differ; such work is not timed.
    """
    torch.manual_seed(0)
    wanted = variants["loop"]()
    torch.manual_seed(0)
    agree(variants["both"](), wanted, "a gradient")


def measure(cell: str, shape: Shape, threads: int, budget_s: float) -> dict[str, Any]:
    """One row: milliseconds by way, and how many times as long as "plain" each takes."""
    torch.set_num_threads(threads)
    variants = ways(cell, shape)
    check(variants)
    times = interleave(variants, budget_s=budget_s, min_iterations=9)
    return {
        "cell": cell,
        "shape": str(shape),
        "threads": threads,
        "ms": {name: vars(Spread.of([1e3 * t for t in each])) for name, each in times.items()},
        "over_plain": {name: vars(ratios(times, name, "plain")) for name in times},
    }


def markdown(results: Mapping[str, Any]) -> str:
    """The table of benchmarks/README.md."""
    lines = [
        f"{facts_text(results['machine'])}. Float32, training.",
        "",
        "| T,B,I,H | threads | cell | without, ms | recurrent dropout / without (quartiles) | "
        "input dropout / without | both / without | PyTorch loop / without |",
        "|---|--:|---|--:|:--|:--|:--|:--|",
    ]
    for row in results["rows"]:
        over = {name: spread_text(each) for name, each in row["over_plain"].items()}
        lines.append(
            f"| {row['shape']} | {row['threads']} | {row['cell']} | "
            f"{ms_text(row['ms']['plain']['median'])} | {over['recurrent']} | {over['input']} | "
            f"{over['both']} | {over['loop']} |"
        )
    return "\n".join(lines) + "\n"


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measures all that is asked for."""
    torch.manual_seed(0)
    facts = machine(torch.float32)  # before: it tells the load that others make
    rows = [
        measure(cell, shape, threads, options.budget)
        for shape in options.shapes
        for threads in options.threads
        for cell in options.cells
    ]
    return {"machine": facts, "rows": rows}


def main(argv: list[str] | None = None) -> None:
    """Does what the command line asks for."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.dropout", description="Time training with recurrent dropout."
    )
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=CELLS)
    parser.add_argument("--shapes", nargs="+", type=shape, default=SHAPES, metavar="T,B,I,H")
    add_threads(parser)
    parser.add_argument("--budget", type=float, default=15, help="seconds per row (default: 15)")
    measure_table(parser, argv, run, markdown, "dropout")


if __name__ == "__main__":
    main()
