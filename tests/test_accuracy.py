"""How far the kernels lie from float64, and that their results are the same bits every time."""

from __future__ import annotations

import copy
import functools
from typing import Any

import pytest
import torch
from cases import MODES, evaluate, pair
from tolerances import distance
from torch import Tensor

from fastrnn.ops import KERNEL_DTYPES

Evaluation = tuple[dict[str, Tensor], dict[str, Tensor]]

# (T, B, I, H): the regimes of the CPU kernels, and hidden sizes around their vector widths.
SHAPES = [
    (100, 64, 16, 8),
    (100, 64, 100, 128),
    (50, 8, 64, 100),
    (60, 1, 20, 40),
    (1, 3, 20, 40),
    (1, 70, 20, 43),
    *((20, 5, 6, hidden) for hidden in (1, 7, 8, 9, 16, 17, 31, 33)),
]

# The relative error of so few elements is chance: their sums may happen to cancel.
FEW = 64


def tensors_of(module: Any, input: Tensor) -> Evaluation:
    """Results and gradients, both by name."""
    (output, *finals), gradients = evaluate(module, input)
    return {"output": output, **{f"final {k}": f for k, f in enumerate(finals)}}, gradients


@functools.cache
def case(mode: str, shape: tuple[int, ...]) -> tuple[Any, Tensor, Evaluation, Evaluation]:
    """A float32 module and input of unit scale; float64 torch.nn's tensors, and float32's."""
    steps, batch, inputs, hidden = shape
    torch.manual_seed(0)
    ours, theirs = pair(mode, inputs, hidden)
    input = torch.randn(steps, batch, inputs)
    exact = tensors_of(copy.deepcopy(theirs).double(), input.double())
    return ours, input, exact, tensors_of(theirs, input)


def error(actual: Tensor, exact: Tensor) -> float:
    """Root mean square error as a fraction of the largest magnitude."""
    return ((actual.double() - exact).square().mean().sqrt() / exact.abs().max()).item()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mode", MODES)
def test_float32_errs_no_more_than_torch(mode, shape, isa):
    ours, input, exact, theirs = case(mode, shape)
    compared = 0
    for mine, his, truth in zip(tensors_of(ours, input), theirs, exact, strict=True):
        for name, expected in truth.items():
            if expected.numel() < FEW or not expected.any():
                continue
            # Up to one rounding of the largest element, the order of a sum decides.
            allowed = max(1.5 * error(his[name], expected), torch.finfo(torch.float32).eps)
            assert error(mine[name], expected) <= allowed, name
            compared += 1
    assert compared > 0


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mode", MODES)
def test_float32_is_near_float64(mode, shape, isa):
    ours, input, (results, gradients), _ = case(mode, shape)
    found_results, found_gradients = tensors_of(ours, input)
    for name, expected in results.items():
        # Outputs of tanh cells lie in [-1, 1]; ReLU's are bounded by their largest.
        scale = max(1.0, expected.abs().max().item())
        assert (found_results[name] - expected).abs().max() <= 1e-6 * scale, name
    largest = max(expected.abs().max() for expected in gradients.values())
    for name, expected in gradients.items():
        scale = largest if expected.numel() < FEW else expected.abs().max()
        assert (found_gradients[name] - expected).abs().max() <= 1e-5 * scale, name


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mode", MODES)
def test_float64(mode, shape, isa):
    ours, input, exact, _ = case(mode, shape)
    found = tensors_of(copy.deepcopy(ours).double(), input.double())
    for mine, truth in zip(found, exact, strict=True):
        for name, expected in truth.items():
            assert distance(mine[name], expected) <= 1e-12, name


def same_bits(first: Evaluation, second: Evaluation) -> bool:
    return all(
        torch.equal(a[name], b[name]) for a, b in zip(first, second, strict=True) for name in a
    )


@pytest.mark.parametrize("dtype", KERNEL_DTYPES)
@pytest.mark.parametrize(
    "shape",
    [(20, 64, 16, 32), (5, 3, 20, 300), (30, 1, 20, 200), (1, 70, 20, 300), (3, 7, 12_000, 8)],
)
@pytest.mark.parametrize("mode", MODES)
def test_same_bits_in_every_run_and_on_any_number_of_threads(mode, shape, dtype, isa):
    steps, batch, inputs, hidden = shape
    module, _ = pair(mode, inputs, hidden, bidirectional=True, dtype=dtype)
    input = torch.randn(steps, batch, inputs, dtype=dtype)
    once = tensors_of(module, input)
    assert same_bits(once, tensors_of(module, input))
    for threads in (2, 3):
        torch.set_num_threads(threads)
        assert same_bits(once, tensors_of(module, input)), threads


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "shape",
    [(20, 37, 16, 8), (10, 37, 16, 48), (4, 37, 20, 300), (1, 37, 20, 43), (3, 37, 12_000, 8)],
)
@pytest.mark.parametrize("mode", MODES)
def test_a_row_does_not_depend_on_its_batch(mode, shape, dtype, isa):
    steps, batch, inputs, hidden = shape
    module, _ = pair(mode, inputs, hidden, dtype=dtype)
    input = torch.randn(steps, batch, inputs, dtype=dtype)
    (whole, *_), _ = evaluate(module, input)
    for rows in (slice(0, 5), slice(3, 36), slice(20, 21)):
        (part, *_), _ = evaluate(module, input[:, rows])
        assert torch.equal(part, whole[:, rows]), rows


@pytest.mark.parametrize("dtype", KERNEL_DTYPES)
@pytest.mark.parametrize("sizes", [(20, 150), (200, 70)])
@pytest.mark.parametrize("mode", MODES)
def test_a_row_alone_has_the_bits_of_one_among_others(mode, sizes, dtype, isa):
    """Its input product is taken in parts, beside the steps before, forward and in reverse."""
    inputs, hidden = sizes
    module, _ = pair(mode, inputs, hidden, bidirectional=True, dtype=dtype)
    input = torch.randn(60, 3, inputs, dtype=dtype)
    for steps in (7, 48, 53, 60):
        (whole, *_), _ = evaluate(module, input[:steps])
        for threads in (1, 2):
            torch.set_num_threads(threads)
            (alone, *_), _ = evaluate(module, input[:steps, 1:2])
            assert torch.equal(alone, whole[:, 1:2]), (steps, threads)
