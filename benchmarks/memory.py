"""`python -m benchmarks.memory`: what training holds for backward, and its peak of memory.

Held for backward: the tensors that autograd saves in forward, by `saved_tensors_hooks`. Each
storage counts once and whole; those that the caller owns (input, first states, parameters) do not
count. In floats per step, row and hidden unit, with the output and beside it.

Peak: the kernel's own high-water mark of resident memory (VmHWM), over one training step, forward
and backward to input and parameters, above what was resident before it. So it holds all that a step
makes: output and gradients, that every implementation must make, what is held for backward, and the
scratch of kernels that torch's allocator never sees. What makes the figures comparable:

- Each is of a fresh process that has run one step at (2, 2, 2, 2) first: libraries are initialised,
  and nothing of a useful size waits in a cache. Code that oneDNN makes for a shape counts.
- glibc's malloc maps arrays from 32 KiB on by themselves (MALLOC_MMAP_THRESHOLD_, fixed) and gives
  freed memory back at once, in one arena: so resident is what is alive, not what was. By default it
  would keep freed arrays up to 32 MiB, and both peaks would depend on the order of earlier calls.
- No huge pages; threads are woken before; library pages read for the first time are taken off.
- Processes of both alternate; the figure is the median. The kernel's count of pages is exact to
  about 0.1 MiB, so ratios of smaller differences say nothing.

Kept: what stays resident after the step when output and gradients are gone: scratch that fastrnn
keeps for the next call, primitives that oneDNN keeps, fragments.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import torch

import fastrnn
from benchmarks.cases import CELLS, SHAPES, Shape
from benchmarks.memory_step import ENGINES, Step
from benchmarks.options import shape, thread_count
from benchmarks.report import machine, save

MALLOC = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "32768",
    "MALLOC_TRIM_THRESHOLD_": "0",
    "MALLOC_TOP_PAD_": "0",
}
ROOT = Path(__file__).parents[1]
RESOLUTION = 0.125  # MiB
MIB = 1 << 20

Row = dict[str, Any]
"""One cell and shape: by engine `held` (floats per step, row and unit), `peak_mib`, `kept_mib`."""


def held_for_backward(step: Step) -> dict[str, float]:
    """Floats held for backward per time step, row and hidden unit.

    Returns:
        `with_output` counts the output where autograd holds it; `beside_output` does not.
    """
    saved = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage  # kept, so that its address cannot be given anew
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = step.forward()
    for tensor in step.owned():
        saved.pop(tensor.untyped_storage().data_ptr(), None)
    unit = output.numel() * output.element_size()
    with_output = sum(storage.nbytes() for storage in saved.values()) / unit
    saved.pop(output.untyped_storage().data_ptr(), None)
    beside = sum(storage.nbytes() for storage in saved.values()) / unit
    return {"with_output": with_output, "beside_output": beside}


def results_mib(step: Step) -> float:
    """MiB that any implementation must make: output, last states, and all gradients."""
    numels = [tensor.numel() for tensor in step.owned()]  # as many gradients and last states
    return (sum(numels) + step.grad_output.numel()) * step.input.element_size() / MIB


def run_python(*arguments: str) -> Any:
    """Runs this interpreter with MALLOC's settings; what it prints is JSON."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=os.environ | MALLOC,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def run_step(step: Step, threads: int) -> dict[str, int]:
    """`benchmarks.memory_step.measure` in a process of its own."""
    dtype = str(step.dtype).removeprefix("torch.")
    arguments = [step.engine, step.cell, str(step.shape), dtype, str(threads)]
    return run_python("-m", "benchmarks.memory_step", *arguments)


def measure(cell: str, shape: Shape, dtype: torch.dtype, threads: int, repeats: int) -> Row:
    """One row of the results."""
    steps = {engine: Step(engine, cell, shape, dtype) for engine in ENGINES}
    runs: dict[str, list[dict[str, int]]] = {engine: [] for engine in steps}
    for _ in range(repeats):
        for engine, step in steps.items():
            runs[engine].append(run_step(step, threads))

    def mib(what: str) -> dict[str, float]:
        return {engine: median(run[what] for run in each) / MIB for engine, each in runs.items()}

    peak = mib("peak")
    return {
        "cell": cell,
        "shape": str(shape),
        "held": {engine: held_for_backward(step) for engine, step in steps.items()},
        "results_mib": results_mib(steps["fastrnn"]),
        "peak_mib": peak,
        "kept_mib": mib("kept"),
        "ratio": peak["torch"] / peak["fastrnn"],
    }


HEADER = (
    f"{'':24}{'held beside output':>20}{'results':>9}{'peak MiB':>20}{'torch /':>9}"
    f"{'kept MiB':>20}\n"
    f"{'cell':6}{'T,B,I,H':18}{'torch':>10}{'fastrnn':>10}{'MiB':>9}"
    f"{'torch':>10}{'fastrnn':>10}{'fastrnn':>9}{'torch':>10}{'fastrnn':>10}"
)


def line(row: Mapping[str, Any]) -> str:
    """One row of the table, with the word for it where fastrnn needs more."""
    held = {engine: held["beside_output"] for engine, held in row["held"].items()}
    peak, kept = row["peak_mib"], row["kept_mib"]
    more = peak["fastrnn"] - peak["torch"]
    verdict = f"   {more:.1f} MiB more" if more > RESOLUTION else ""
    return (
        f"{row['cell']:6}{row['shape']:18}{held['torch']:10.2f}{held['fastrnn']:10.2f}"
        f"{row['results_mib']:9.2f}{peak['torch']:10.2f}{peak['fastrnn']:10.2f}{row['ratio']:9.2f}"
        f"{kept['torch']:10.2f}{kept['fastrnn']:10.2f}{verdict}"
    )


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measures all that is asked for and prints each row as it is done."""
    torch.set_num_threads(options.threads)
    dtype = getattr(torch, options.dtype)
    results: dict[str, Any] = {"machine": machine(dtype), "malloc": MALLOC, "rows": []}
    for name, value in results["machine"].items():
        print(f"{name:14}{value}")
    print(f"\n{HEADER}", flush=True)
    for each in options.shapes:
        for cell in options.cells:
            row = measure(cell, each, dtype, options.threads, options.repeats)
            results["rows"].append(row)
            print(line(row), flush=True)
    return results


def main(argv: list[str] | None = None) -> None:
    """Does what the command line asks for."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.memory", description="Compare the memory of training with torch.nn's."
    )
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=CELLS)
    parser.add_argument("--shapes", nargs="+", type=shape, default=SHAPES, metavar="T,B,I,H")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--threads", type=thread_count, default=1, metavar="N", help="or all")
    parser.add_argument("--repeats", type=int, default=3, help="processes per figure (default: 3)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the results here too")
    options = parser.parse_args(argv)
    if not Path("/proc/self/clear_refs").exists():
        sys.exit("Peaks of memory are read from Linux's /proc/self, which is not here.")
    if not fastrnn.info().loaded:
        sys.exit(f"Nothing to measure, fastrnn's kernels are missing: {fastrnn.info().reason}.")
    results = run(options)
    if options.json:
        save(options.json, results)


if __name__ == "__main__":
    main()
