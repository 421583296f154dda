"""Subnormal numbers are zero inside the kernels, and what they were everywhere else."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import fastrnn
from fastrnn.ops import KERNEL_DTYPES

TINY = {dtype: torch.finfo(dtype).tiny for dtype in KERNEL_DTYPES}


def halve(value: float, dtype: torch.dtype) -> float:
    return (torch.full((9,), value, dtype=dtype) / 2)[0].item()


def halving(dtype: torch.dtype) -> Any:
    """A network whose state halves in each step; ReLU and no input make it exact."""
    module = fastrnn.RNN(1, 8, nonlinearity="relu", bias=False, dtype=dtype)
    with torch.no_grad():
        module.weight_ih_l0.zero_()
        module.weight_hh_l0.copy_(torch.eye(8) / 2)
    return module


@pytest.fixture
def flushing():
    """torch's own setting, switched on for one test."""
    if not torch.set_flush_denormal(True):
        pytest.skip("torch cannot flush subnormal numbers on this CPU")
    yield
    torch.set_flush_denormal(False)


def train(threads: int) -> None:
    torch.set_num_threads(threads)
    module = fastrnn.LSTM(32, 64)
    output, _ = module(torch.randn(50, 64, 32, requires_grad=True))
    output.sum().backward()


@pytest.mark.parametrize("threads", [1, 2])
def test_the_callers_setting_is_kept(threads, isa):
    train(threads)
    for dtype in (torch.float32, torch.float64):
        assert halve(TINY[dtype], dtype) == TINY[dtype] / 2


@pytest.mark.parametrize("threads", [1, 2])
def test_the_callers_flushing_is_kept(threads, isa, flushing):
    train(threads)
    assert halve(TINY[torch.float32], torch.float32) == 0


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", KERNEL_DTYPES)
def test_a_state_that_decays_ends_in_zero(dtype, threads, isa):
    torch.set_num_threads(threads)
    # float16 is computed in float32, where its subnormal numbers are normal.
    smallest = 2.0**-24 if dtype is torch.float16 else TINY[dtype]
    steps = 1100 if dtype is torch.float64 else 200
    hx = torch.ones(1, 64, 8, dtype=dtype)
    output, h_n = halving(dtype)(torch.zeros(steps, 64, 1, dtype=dtype), hx)
    exact = 0.5 ** torch.arange(1, steps + 1, dtype=torch.float64)
    expected = torch.where(exact >= smallest, exact, 0)
    assert torch.equal(output.double(), expected[:, None, None].expand_as(output))
    assert not h_n.any()


@pytest.mark.parametrize("dtype", KERNEL_DTYPES)
def test_a_gradient_that_decays_ends_in_zero(dtype, isa):
    steps = 1100 if dtype is torch.float64 else 200
    hx = torch.ones(1, 3, 8, dtype=dtype, requires_grad=True)
    output, _ = halving(dtype)(torch.zeros(steps, 3, 1, dtype=dtype), hx)
    # ReLU passes a gradient where the state is not zero: early, and from there to the first step.
    early = torch.autograd.grad(output[4].sum(), hx, retain_graph=True)[0]
    late = torch.autograd.grad(output[-1].sum(), hx)[0]
    assert torch.equal(early, torch.full_like(early, 0.5**5))
    assert not late.any()
