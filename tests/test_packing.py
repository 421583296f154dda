"""Packing by index, which CUDA tensors take, against the op for the CPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tolerances import TOLERANCES
from torch import Tensor

from fastrnn import lengths as ragged

CPU = torch.device("cpu")
BY_INDEX = {"_pack": ragged.pack_by_index, "_unpack": ragged.unpack_by_index}


@given(data=st.data())
def test_equals_the_op_for_the_cpu(data):
    draw = data.draw
    steps, batch, features = (
        draw(st.integers(1, 9)),
        draw(st.integers(0, 9)),
        draw(st.integers(0, 4)),
    )
    left, trim = draw(st.booleans()), draw(st.booleans())
    dtype = draw(st.sampled_from(list(TOLERANCES)))
    lengths = draw(st.lists(st.integers(0, steps), min_size=batch, max_size=batch))
    order = ragged.sort(torch.tensor(lengths, dtype=torch.int64), steps, CPU)
    arguments = (order.sorted_indices, order.batch_sizes, left)
    input = torch.randn(batch, steps, features).to(dtype).transpose(0, 1)
    packed = torch.ops.fastrnn._pack(input, *arguments, trim)
    assert torch.equal(ragged.pack_by_index(input, *arguments, trim), packed)
    padded = torch.ops.fastrnn._unpack(packed, *arguments)
    assert torch.equal(ragged.unpack_by_index(packed, *arguments), padded)


def gradients(left: bool) -> list[Tensor]:
    """First and second ones, through both directions."""
    torch.manual_seed(1)
    input = torch.randn(4, 3, 2, dtype=torch.float64, requires_grad=True)
    order = ragged.sort(torch.tensor([2, 0, 4]), 4, CPU)
    padding = "left" if left else "right"
    packed = ragged.pack(input, order, padding)
    output = ragged.unpack(packed.square() * torch.randn(packed.shape).double(), order, padding)
    loss = (output.square() * torch.randn(output.shape).double()).sum()
    (first,) = torch.autograd.grad(loss, input, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), input)
    return [output.detach(), first.detach(), second]


@pytest.mark.parametrize("left", [False, True])
def test_gradients_equal_those_of_the_op_for_the_cpu(left, monkeypatch):
    expected, called = gradients(left), []
    for name, function in BY_INDEX.items():

        def by_index(*args: Any, name: str = name, function: Any = function) -> Tensor:
            called.append(name)
            return function(*args)

        monkeypatch.setattr(getattr(torch.ops.fastrnn, name), "default", by_index)
    assert all(map(torch.equal, gradients(left), expected))
    assert set(called) == set(BY_INDEX)


def test_deterministic_algorithms_take_them():
    order = ragged.sort(torch.tensor([2, 0, 4]), 4, CPU)
    packed = torch.randn(6, 2)
    torch.use_deterministic_algorithms(True)
    try:
        padded = ragged.unpack_by_index(packed, order.sorted_indices, order.batch_sizes, False)
    finally:
        torch.use_deterministic_algorithms(False)
    assert padded.count_nonzero() == packed.numel()
