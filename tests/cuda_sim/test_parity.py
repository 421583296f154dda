"""The CUDA kernels against the reference in float64: every cell, dtype, plan and layout."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases import GATES, MODES
from tolerances import distance
from torch import Tensor

from fastrnn import ops

from . import simulated

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)

# Of outputs of unit scale, and of the largest gradient: roundings of each dtype in the state that
# is fed back, in the projected input and in the gradients of the sums.
OUTPUT = {torch.float32: 2e-6, torch.float64: 1e-14, torch.float16: 2e-3, torch.bfloat16: 1e-2}
GRADIENT = {torch.float32: 1e-5, torch.float64: 1e-13, torch.float16: 5e-3, torch.bfloat16: 3e-2}

# T, B, I, H, and options. Neither B nor H is a multiple of a tile but in "whole".
LAYOUTS: dict[str, tuple[tuple[int, int, int, int], dict[str, Any]]] = {
    "whole": ((4, 16, 5, 32), {}),
    "tails": ((5, 19, 3, 21), {"bias": False}),
    "few rows": ((4, 2, 6, 19), {}),
    "one row": ((3, 1, 4, 9), {"reverse": True, "bias": False}),
    "reverse": ((4, 9, 4, 12), {"reverse": True}),
    "lengths": ((6, 9, 4, 20), {"batch_sizes": [8, 7, 7, 3, 1, 1]}),
    "lengths, reverse": ((5, 18, 4, 10), {"batch_sizes": [18, 17, 9, 2], "reverse": True}),
    "one step": ((1, 5, 4, 8), {}),
}


def arguments(mode: str, sizes: tuple[int, ...], bias: bool) -> list[Tensor | None]:
    """Inputs of unit scale and weights as torch.nn draws them, in float64."""
    steps, batch, inputs, hidden = sizes
    rows = GATES[mode] * hidden

    def weight(*shape: int) -> Tensor:
        return torch.empty(shape, dtype=torch.float64).uniform_(-(hidden**-0.5), hidden**-0.5)

    states = [torch.randn(batch, hidden, dtype=torch.float64) for _ in range(2)]
    return [
        torch.randn(steps, batch, inputs, dtype=torch.float64),
        states[0],
        states[1] if mode == "LSTM" else None,
        weight(rows, inputs),
        weight(rows, hidden),
        weight(rows) if bias else None,
        weight(rows) if bias else None,
        None,
        None,
        None,
    ]


def evaluate(run: Any, tensors: list[Tensor | None]) -> tuple[list[Tensor], list[Tensor]]:
    """Results, and the gradients of a weighted sum of them by all tensors."""
    leaves = [None if t is None else t.detach().requires_grad_() for t in tensors]
    results = [result for result in run(leaves) if result is not None]
    generator = torch.Generator().manual_seed(0)
    loss: Any = 0
    for result in results:
        weights = torch.randn(result.shape, generator=generator, dtype=torch.float64)
        loss = loss + (result * weights.to(result.dtype)).sum()
    grads = torch.autograd.grad(loss, [t for t in leaves if t is not None])
    return [r.detach() for r in results], list(grads)


def mostly(actual: Tensor, expected: Tensor) -> float:
    """As `distance`, but of the nearest 95 in 100 elements."""
    differences = (actual - expected).abs().flatten()
    return (differences.quantile(0.95) / expected.abs().max()).item()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("family", simulated.FAMILIES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("mode", MODES)
def test_equals_reference(mode, dtype, family, layout, monkeypatch):
    sizes, options = LAYOUTS[layout]
    reverse = options.get("reverse", False)
    # What the kernels get, exactly: the reference takes the same numbers, in float64.
    tensors = [
        None if t is None else t.to(dtype)
        for t in arguments(mode, sizes, options.get("bias", True))
    ]
    batch_sizes = None
    if "batch_sizes" in options:
        batch_sizes = torch.tensor(options["batch_sizes"])
        input: Any = tensors[0]
        tensors[0] = input.flatten(0, 1)[: int(batch_sizes.sum())]

    def reference(leaves: list[Any]) -> Any:
        if batch_sizes is None:
            return ops.reference.layer(*ops._reference_arguments(mode, leaves, reverse))
        return ops._packed_reference(mode, leaves, reverse, batch_sizes)

    def kernels(leaves: list[Any]) -> Any:
        return ops.layer(mode, *leaves[:7], reverse, batch_sizes)

    wide = [None if t is None else t.double() for t in tensors]
    wanted, wanted_grads = evaluate(reference, wide)
    simulated.use(simulated.device(family, mode, sizes[1], sizes[3], dtype), monkeypatch)
    got, got_grads = evaluate(kernels, tensors)
    for result, expected in zip(got, wanted, strict=True):
        assert result.dtype is dtype
        unit = max(1.0, expected.abs().max().item())  # a relu may pass it
        assert (result - expected).abs().max().item() <= OUTPUT[dtype] * unit
    for grad, expected in zip(got_grads, wanted_grads, strict=True):
        assert grad.dtype is dtype
        # Where a relu's sum is within rounding of zero, half types may take the other slope, and
        # what depends on it is far off.
        far = mostly if mode == "RNN_RELU" and dtype.itemsize == 2 else distance
        assert far(grad, expected) <= GRADIENT[dtype]
