"""How far a result may lie from what it is compared with, and the comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Tolerance:
    """Largest allowed distance, as a fraction of the largest expected magnitude.

    Not of each element: gradients are long sums, whose small elements are differences of large
    terms and have no relative accuracy in any implementation.
    """

    fraction: float
    reason: str


TOLERANCES = {
    torch.float32: Tolerance(
        1e-5, "100 roundings of 6e-8 in each of two implementations that order sums differently"
    ),
    torch.float64: Tolerance(1e-12, "as for float32: thousands of roundings of 1e-16"),
    torch.bfloat16: Tolerance(
        1.2e-2, "one rounding of 2^-8 of the result, and of what backward reads; against float64"
    ),
    torch.float16: Tolerance(1.5e-3, "as for bfloat16, of 2^-11"),
}


def distance(actual: Tensor, expected: Tensor) -> float:
    """Largest difference as a fraction of the largest expected magnitude; infinite for NaN."""
    if actual.numel() == 0:
        return 0.0
    expected = expected.double()
    difference = (actual.double() - expected).abs().max().item()
    if difference == 0:
        return 0.0
    scale = expected.abs().max().item()
    return difference / scale if difference < float("inf") and scale > 0 else float("inf")


def assert_matches(actual: Any, expected: Any, fraction: float | None = None) -> None:
    """Asserts that tensors, or nested tuples, lists and dicts of them, agree.

    Args:
        actual: the result under test.
        expected: what it is compared with; may be of a wider dtype.
        fraction: replaces the tolerance that the table has for the dtype of `actual`.
    """
    _assert_matches(actual, expected, fraction, "result")


def _assert_matches(actual: Any, expected: Any, fraction: float | None, name: str) -> None:
    if isinstance(expected, Tensor):
        assert isinstance(actual, Tensor), f"{name}: want a tensor, got {type(actual).__name__}"
        assert actual.shape == expected.shape, f"{name}: {actual.shape} != {expected.shape}"
        allowed = TOLERANCES[actual.dtype].fraction if fraction is None else fraction
        found = distance(actual, expected)
        assert found <= allowed, f"{name}: off by {found:.2e} of the largest, allowed {allowed:.0e}"
    elif isinstance(expected, dict):
        assert isinstance(actual, dict) and actual.keys() == expected.keys(), name
        for key, value in expected.items():
            _assert_matches(actual[key], value, fraction, f"{name}[{key!r}]")
    elif isinstance(expected, tuple | list):
        assert isinstance(actual, tuple | list) and len(actual) == len(expected), name
        for k, (a, e) in enumerate(zip(actual, expected, strict=True)):
            _assert_matches(a, e, fraction, f"{name}[{k}]")
    else:
        assert expected is None, f"{name}: cannot compare {type(expected).__name__}"
        assert actual is None, f"{name}: want None, got {type(actual).__name__}"
