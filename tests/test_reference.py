"""The reference against torch.nn, and against numbers worked out by hand."""

from __future__ import annotations

from math import log

import pytest
import torch
from cases import MODES, build, layer_arguments
from tolerances import assert_matches
from torch import nn

from fastrnn import reference

LN2, LN3 = log(2), log(3)
# sigmoid(ln 3) = 3/4, sigmoid(-ln 3) = 1/4, sigmoid(0) = 1/2, tanh(ln 3) = 4/5, tanh(ln 2) = 3/5.


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("steps", [1, 6])
@pytest.mark.parametrize("mode", MODES)
def test_equals_torch_in_both_directions(mode, steps, bias):
    module = build(nn, mode, 4, 5, bias=bias, bidirectional=True, dtype=torch.float64)
    input, hx, cx = torch.randn(3, steps, 3, 5, dtype=torch.float64).unbind()
    input, hx, cx = input[..., :4], hx[:1].expand(2, 3, 5), cx[:1].expand(2, 3, 5)
    output, finals = module(input, (hx, cx) if mode == "LSTM" else hx)
    for direction, halves in enumerate(output.chunk(2, -1)):
        weights = module.all_weights[direction] + ([] if bias else [None, None])
        ours = reference.layer(
            mode,
            input,
            hx[direction],
            cx[direction] if mode == "LSTM" else None,
            *weights,
            reverse=direction == 1,
        )
        expected = (finals[0][direction], finals[1][direction])
        if mode != "LSTM":
            expected = (finals[direction], None)
        assert_matches(ours, (halves, *expected))


@pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")
def test_projections_equal_torch():
    module = nn.LSTM(4, 5, proj_size=2, dtype=torch.float64)
    input, hx = torch.randn(6, 3, 4).double(), torch.randn(3, 2).double()
    cx = torch.randn(3, 5).double()
    output, (h_n, c_n) = module(input, (hx[None], cx[None]))
    *weights, weight_hr = module.all_weights[0]
    ours = reference.layer("LSTM", input, hx, cx, *weights, reverse=False, weight_hr=weight_hr)
    assert_matches(ours, (output, h_n[0], c_n[0]))


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None]


def test_elman_by_hand():
    # h1 = relu(2*1 + 3*0 + 1 - 1) = 2, h2 = relu(2*(-1) + 3*2 + 0) = 4
    arguments = (column(1, -1)[:, None], column(0), None, column(2), column(3))
    biases = (torch.ones(1, dtype=torch.float64), -torch.ones(1, dtype=torch.float64))
    output, h_n, c_n = reference.layer("RNN_RELU", *arguments, *biases, reverse=False)
    assert output.flatten().tolist() == [2, 4]
    assert h_n.item() == 4
    assert c_n is None
    # From the end: h2 = relu(2*(-1) + 0) = 0, h1 = relu(2*1 + 3*0) = 2
    output, h_n, _ = reference.layer("RNN_RELU", *arguments, *biases, reverse=True)
    assert output.flatten().tolist() == [2, 0]
    assert h_n.item() == 2


def test_elman_tanh_by_hand():
    # The first step gives tanh(ln 3 * 1) = 4/5, the second tanh(0 + ln 2 / 0.8 * 0.8) = 3/5.
    output, _, _ = reference.layer(
        "RNN_TANH",
        column(1, 0)[:, None],
        column(0),
        None,
        column(LN3),
        column(LN2 / 0.8),
        None,
        None,
        reverse=False,
    )
    assert output.flatten().tolist() == pytest.approx([0.8, 0.6], rel=1e-15)


def test_lstm_by_hand():
    # i = 3/4, f = 1/4, g = 3/5, o = 1/2: c = f*c0 + i*g = ln 3 for the c0 below, h = o*4/5.
    c0 = 4 * (LN3 - 0.75 * 0.6)
    output, h_n, c_n = reference.layer(
        "LSTM",
        column(1)[:, None],
        column(1),
        column(c0),
        column(LN3, -LN3, 0, 0),
        column(0, 0, LN2, 0),
        None,
        None,
        reverse=False,
    )
    assert c_n.item() == pytest.approx(LN3, rel=1e-15)
    assert h_n.item() == output.item() == pytest.approx(0.4, rel=1e-15)


def test_gru_by_hand():
    # r = 3/4, z = 1/4. The reset gate multiplies the hidden bias too: n = tanh(r * ln 3 / r) = 4/5,
    # h = (1 - z)*n + z*h0 = 0.6 + 0.25 = 0.85.
    zeros = torch.zeros(3, dtype=torch.float64)
    output, h_n, _ = reference.layer(
        "GRU",
        column(1)[:, None],
        column(1),
        None,
        column(LN3, -LN3, 0),
        column(0, 0, 0),
        zeros,
        zeros + torch.tensor([0, 0, LN3 / 0.75], dtype=torch.float64),
        reverse=False,
    )
    assert h_n.item() == output.item() == pytest.approx(0.85, rel=1e-15)


@pytest.mark.parametrize("mode", MODES)
def test_results_share_no_memory(mode):
    arguments = layer_arguments(mode, steps=1)
    results = [r for r in reference.layer(mode, *arguments, reverse=False) if r is not None]
    pointers = {t.data_ptr() for t in [*results, *arguments] if t is not None}
    assert len(pointers) == len(results) + sum(t is not None for t in arguments)


# torch's forward-mode differentiation scripts its decompositions when first used.
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("mode", MODES)
def test_first_and_second_derivatives(mode):
    arguments = layer_arguments(mode, 3, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    tensors = [t for t in arguments if t is not None]

    def call(*given):
        given = iter(given)
        full = [None if t is None else next(given) for t in arguments]
        return tuple(r for r in reference.layer(mode, *full, reverse=True) if r is not None)

    assert torch.autograd.gradcheck(call, tensors, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(call, tensors)
