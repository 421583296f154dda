"""What an engine computes is compared with torch.nn before it is timed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from benchmarks.cases import Problem
from benchmarks.engines.base import Workload
from benchmarks.engines.torch_nn import WORKLOADS

# Largest difference allowed, relative to the largest element of the tensor: elements of a gradient
# are sums over time and batch that may cancel.
TOLERANCES = {
    # The order of their sums alone sets two results apart by 1e-5 at the largest shape.
    "float32": 1e-4,
    "float64": 1e-10,
    # Eight bits of mantissa, 4e-3, rounded anew in each step. Outputs were seen to drift by 2e-2
    # over a sequence, gradients of biases that an engine sums in bfloat16 by 6e-2.
    "bfloat16": 1e-1,
}


def agree(results: Iterable[Tensor], wanted: Iterable[Tensor], what: str) -> None:
    """Compares float32 results with the same ones computed another way, in their order.

    Args:
        results: to be checked.
        wanted: what they are to equal.
        what: each of them, for the message.

    Raises:
        ValueError: one differs by more than TOLERANCES allows; such work is not timed.
    """
    for result, right in zip(results, wanted, strict=True):
        error = (result - right).abs().max() / right.abs().max()
        if not error <= TOLERANCES["float32"]:
            raise ValueError(f"{what} is off by {error:.1e} of the largest element")


def expected(problem: Problem) -> dict[str, Tensor]:
    """What torch.nn computes of the same numbers, in float32 at least."""
    module_dtype = torch.promote_types(problem.case.torch_dtype, torch.float32)
    module = getattr(torch.nn, problem.case.cell)(problem.case.shape.I, problem.case.shape.H)
    module.to(module_dtype).load_state_dict(problem.weights)
    wide = Problem(
        problem.case,
        problem.input.to(module_dtype),
        problem.grad_output.to(module_dtype),
        problem.weights,
    )
    workload = WORKLOADS[problem.case.step](module, wide)
    workload()
    return {name: value.detach() for name, value in workload.results().items()}


def check(problem: Problem, workload: Workload, wanted: Mapping[str, Tensor]) -> None:
    """Runs a workload once and compares all it gives.

    Raises:
        ValueError: a result differs by more than TOLERANCES allows, or one that is needed is
            missing; such work is not timed.
    """
    workload()
    results, tolerance = workload.results(), TOLERANCES[problem.case.dtype]
    needed = {"output"} | (set(wanted) - {"h_n", "c_n"})
    if missing := needed - set(results):
        raise ValueError(f"{problem.case}: gives no {', '.join(sorted(missing))}")
    compare(results, wanted, tolerance, str(problem.case))


def compare(
    results: Mapping[str, Tensor], wanted: Mapping[str, Tensor], tolerance: float, work: str
) -> None:
    """Compares results with what torch.nn gives under the same names.

    Raises:
        ValueError: one differs by more than `tolerance` of the largest element wanted.
    """
    for name, value in results.items():
        if value.shape != wanted[name].shape:
            raise ValueError(
                f"{work}: {name} is of shape {tuple(value.shape)}, "
                f"torch.nn's of {tuple(wanted[name].shape)}"
            )
        scale = wanted[name].abs().max().item()
        error = (value - wanted[name]).abs().max().item()
        if not error <= tolerance * scale:
            raise ValueError(
                f"{work}: {name} differs from torch.nn's by {error:.1e}, wanted at most "
                f"{tolerance:.0e} of its largest element, {scale:.1e}"
            )
