"""The raw ops with rows of different lengths: what they refuse, and what torch checks of any op."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases import MODES, layer_arguments
from torch import Tensor

OPS = torch.ops.fastrnn
SIZES = torch.tensor([3, 2, 2, 1, 0])
ROWS = int(SIZES.sum())


def packed_arguments(mode: str, rows: int = ROWS) -> list[Any]:
    _, *others = layer_arguments(mode)
    return [torch.randn(rows, 4), *others]


def forward(mode: str, batch_sizes: Tensor, rows: int = ROWS) -> Any:
    arguments = packed_arguments(mode, rows)
    return OPS._layer_forward(*arguments, MODES.index(mode), False, True, False, batch_sizes)


WRONG_SIZES = {
    "growing": (torch.tensor([2, 3]), "must not grow"),
    "more than the batch": (torch.tensor([4, 1]), "nor pass the batch of 3: got 4"),
    "negative": (torch.tensor([2, -1]), "must not be negative"),
    "a gap": (torch.tensor([2, 0, 1]), "nor follow a zero: got 1"),
    "more than the rows": (torch.tensor([3, 3, 3]), "no more than the 8 rows of input"),
    "int32": (torch.tensor([3, 2]).int(), "int64 CPU tensor of one dimension"),
    "two dimensions": (torch.tensor([[3, 2]]), "int64 CPU tensor of one dimension"),
}


@pytest.mark.parametrize("wrong", WRONG_SIZES)
def test_wrong_batch_sizes_are_refused_before_memory_is_touched(wrong):
    batch_sizes, text = WRONG_SIZES[wrong]
    with pytest.raises(RuntimeError, match=text):
        forward("LSTM", batch_sizes)
    weights = packed_arguments("LSTM")[3:]
    with pytest.raises(RuntimeError, match=text):
        states = [torch.zeros(1, 3, 6)] * 2
        OPS._inference(
            torch.zeros(ROWS, 4), states, weights, 2, 1, False, False, batch_sizes=batch_sizes
        )
    with pytest.raises(RuntimeError):
        OPS._unpack(torch.zeros(ROWS, 4), torch.arange(3), batch_sizes, False)


@pytest.mark.parametrize("index", [-1, 3])
def test_wrong_indices_are_refused_before_memory_is_touched(index):
    order = torch.tensor([0, index, 1])
    with pytest.raises(RuntimeError, match=f"from 0 to 2, got {index}"):
        OPS._pack(torch.zeros(5, 3, 4), order, SIZES, False, True)
    with pytest.raises(RuntimeError, match=f"from 0 to 2, got {index}"):
        OPS._unpack(torch.zeros(ROWS, 4), order, SIZES, False)


def test_wrong_arrays_are_refused_before_memory_is_touched():
    order = torch.arange(3)
    with pytest.raises(RuntimeError, match="steps of batch_sizes"):
        OPS._pack(torch.zeros(4, 3, 4), order, SIZES, False, True)
    with pytest.raises(RuntimeError, match="add up to no more than"):
        OPS._pack(torch.zeros(1, 3, 4), order, torch.tensor([3, 3]), False, True)
    with pytest.raises(RuntimeError, match="float32, float64"):
        OPS._pack(torch.zeros(5, 3, 4).short(), order, SIZES, False, True)
    with pytest.raises(RuntimeError, match="or ids"):
        OPS._pack(torch.zeros(5, 3, 4).int(), order, SIZES, False, True)
    with pytest.raises(RuntimeError, match="from 0 to the 2 steps of input, got 3 for row 1"):
        OPS._sort_lengths(torch.tensor([1, 3]), 2)
    with pytest.raises(RuntimeError, match="2 dimensions, got 3"):
        OPS._layer_forward(
            *layer_arguments("GRU"), MODES.index("GRU"), False, True, False, torch.tensor([3])
        )


def test_unused_rows_are_zeros():
    output, _, _, reserve = forward("GRU", SIZES, ROWS + 2)
    assert output.shape == (ROWS + 2, 6)
    assert output[ROWS:].count_nonzero() == 0
    assert reserve.numel() == (ROWS + 2) * 6 * 4


@pytest.mark.parametrize("mode", MODES)
def test_library_checks(mode):
    arguments = packed_arguments(mode)
    code = MODES.index(mode)
    output, h_n, c_n, reserve = forward(mode, SIZES)
    grads = (output, h_n, c_n if mode == "LSTM" else None)
    wanted = 127 if mode == "LSTM" else 127 - 4  # there is no cx
    input, hx, cx, weight_ih, weight_hh, *_ = arguments
    torch.library.opcheck(OPS._layer_forward.default, (*arguments, code, True, True, False, SIZES))
    torch.library.opcheck(
        OPS._layer_backward.default,
        (*grads, input, hx, cx, weight_ih, weight_hh, output, reserve, code, False, wanted, SIZES),
    )
    states = [torch.zeros(1, 3, 6)] * (2 if mode == "LSTM" else 1)
    torch.library.opcheck(
        OPS._inference.default,
        (input, states, arguments[3:], code, 1, False, False, False, SIZES),
    )


def test_library_checks_of_packing():
    order = torch.tensor([2, 0, 1])
    torch.library.opcheck(OPS._sort_lengths.default, (torch.tensor([1, 4, 0]), 5))
    for left in (False, True):
        for trim in (False, True):
            torch.library.opcheck(
                OPS._pack.default, (torch.randn(5, 3, 4), order, SIZES, left, trim)
            )
        torch.library.opcheck(OPS._unpack.default, (torch.randn(ROWS, 4), order, SIZES, left))


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("mode", MODES)
def test_library_checks_of_the_ops_that_are_exported(mode):
    arguments = layer_arguments(mode, requires_grad=True)
    torch.library.opcheck(OPS.layer.default, (*arguments, *[None] * 4, mode, False))
    packed, *others = arguments
    packed = packed.detach().flatten(0, 1)[:ROWS].requires_grad_()
    torch.library.opcheck(OPS.layer.default, (packed, *others, *[None] * 3, SIZES, mode, True))
    order = (torch.tensor([2, 0, 1]), SIZES, False, True)
    torch.library.opcheck(OPS.pack.default, (torch.randn(5, 3, 4, requires_grad=True), *order))
    torch.library.opcheck(OPS.unpack.default, (torch.randn(ROWS, 4, requires_grad=True), *order))
