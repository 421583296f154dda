"""`python -m benchmarks.scaling`: what more threads gain, by shape; also for stacks of layers.

The same module on the same rows, on one thread and on several, in one process and in shuffled
order, after the results of both were found to have the same bits. Inference, and training with a
loss on every step, to input and weights.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import fastrnn
from benchmarks.cases import CELLS, PASSES, Shape
from benchmarks.options import measure_table, shape, thread_count
from benchmarks.report import facts_text, machine, ms_text, ratio_text
from benchmarks.timing import SETTLE_S, Spread, interleave, ratios


@dataclass(frozen=True)
class Stack:
    """Layers of one shape; those above the first have H features of input."""

    shape: Shape
    layers: int = 1

    @classmethod
    def parse(cls, text: str) -> Stack:
        """Reads an argument "T,B,I,H", or "T,B,I,HxL" with the number of layers."""
        sizes, times, layers = text.partition("x")
        if times and not (layers.isdigit() and int(layers) > 0):
            raise argparse.ArgumentTypeError(f"layers must be a number from 1 on, got {layers!r}")
        return cls(shape(sizes), int(layers or 1))

    def __str__(self) -> str:
        return f"{self.shape} x{self.layers}" if self.layers > 1 else str(self.shape)


STACKS = tuple(
    Stack(Shape(*sizes), layers)
    for *sizes, layers in (
        (100, 64, 16, 8, 1),
        (100, 64, 64, 64, 1),
        (100, 64, 100, 128, 1),
        (50, 32, 256, 512, 1),
        (25, 32, 1024, 1024, 1),
        (100, 1, 128, 128, 1),
        (50, 1, 512, 512, 1),
        (100, 2, 128, 128, 1),
        (25, 8, 1024, 1024, 1),
        (1, 32, 64, 128, 1),
        (100, 1, 64, 64, 2),
        (1000, 1, 64, 64, 2),
        (100, 3, 128, 128, 2),
    )
)

Call = Callable[[], tuple[Tensor, ...]]


def calls(cell: str, stack: Stack) -> dict[str, Call]:
    """What is timed, by pass."""
    sizes = stack.shape
    module = getattr(fastrnn, cell)(sizes.I, sizes.H, num_layers=stack.layers)
    input = torch.randn(sizes.T, sizes.B, sizes.I)
    wanted = input.clone().requires_grad_()
    grad_output = torch.randn(sizes.T, sizes.B, sizes.H)

    def inference() -> tuple[Tensor, ...]:
        with torch.no_grad():
            return (module(input)[0],)

    def training() -> tuple[Tensor, ...]:
        output = module(wanted)[0]
        return torch.autograd.grad(output, [wanted, *module.parameters()], grad_output)

    return dict(zip(PASSES, (inference, training), strict=True))


def check(call: Call, threads: int) -> None:
    """Compares the bits on one thread with those on several.

    Raises:
        ValueError: they differ; such work is not timed.
    """
    torch.set_num_threads(1)
    alone = call()
    torch.set_num_threads(threads)
    if not all(map(torch.equal, call(), alone)):
        raise ValueError(f"{threads} threads give other bits than one")


def measure(cell: str, stack: Stack, threads: int, budget_s: float) -> dict[str, Any]:
    """One row: milliseconds on one thread and on `threads`, and their ratio, by pass."""
    row: dict[str, Any] = {"cell": cell, "stack": str(stack)}
    for step, call in calls(cell, stack).items():
        check(call, threads)
        times = interleave(
            {"one": call, "all": call},
            budget_s=budget_s,
            min_iterations=9,
            settle_s=SETTLE_S,
            prepare=lambda name: torch.set_num_threads(1 if name == "one" else threads),
        )
        row[step] = {
            "ms": {name: vars(Spread.of([1e3 * t for t in each])) for name, each in times.items()},
            "gain": vars(ratios(times, "one", "all")),
        }
    return row


def markdown(results: Mapping[str, Any]) -> str:
    """The table of benchmarks/README.md."""
    threads = results["threads"]
    heads = [f"{step}: 1 thread, ms | {threads} threads, ms | 1 / {threads}" for step in PASSES]
    lines = [
        f"{facts_text(results['machine'])}. Float32, fastrnn alone.",
        "",
        f"| T,B,I,H | cell | {' (quartiles) | '.join(heads)} (quartiles) |",
        "|---|---|" + "--:|--:|:--|" * len(PASSES),
    ]
    for row in results["rows"]:
        cells = [row["stack"], row["cell"]]
        for step in PASSES:
            ms, gain = row[step]["ms"], row[step]["gain"]
            cells += [ms_text(ms["one"]["median"]), ms_text(ms["all"]["median"]), ratio_text(gain)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measures all that is asked for."""
    torch.manual_seed(0)
    facts = machine(torch.float32)  # before: it tells the load that others make
    rows = [
        measure(cell, stack, options.threads, options.budget)
        for stack in options.shapes
        for cell in options.cells
    ]
    return {"machine": facts, "threads": options.threads, "rows": rows}


def main(argv: list[str] | None = None) -> None:
    """Does what the command line asks for."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.scaling", description="Time fastrnn on one thread and on several."
    )
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=CELLS)
    parser.add_argument(
        "--shapes", nargs="+", type=Stack.parse, default=STACKS, metavar="T,B,I,H[xLAYERS]"
    )
    parser.add_argument("--threads", type=thread_count, default="all", metavar="N")
    parser.add_argument("--budget", type=float, default=3, help="seconds per pass (default: 3)")
    measure_table(parser, argv, run, markdown, "scaling")


if __name__ == "__main__":
    main()
