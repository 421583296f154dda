"""The shapes of what the raw ops return, for `torch.compile` and `torch.export`."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fastrnn import reference
from fastrnn.embedding import ID_DTYPES

# Numbers of elements per time step, row and hidden unit that a forward call keeps for its backward.
_RESERVE = {"RNN_TANH": 0, "RNN_RELU": 0, "LSTM": 5, "GRU": 4}


def register() -> None:
    """Makes them known to torch; the extension must be loaded."""
    torch.library.register_fake("fastrnn::_layer_forward", _fake_forward)
    torch.library.register_fake("fastrnn::_layer_backward", _fake_backward)
    torch.library.register_fake("fastrnn::_inference", _fake_inference)
    torch.library.register_fake("fastrnn::_draw_mask", _fake_mask)


def _fake_forward(
    input: Tensor,
    hx: Tensor,
    cx: Tensor | None,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None,
    bias_hh: Tensor | None,
    mode: int,
    reverse: bool,
    save: bool,
    bfloat16_weights: bool = False,
    batch_sizes: Tensor | None = None,
    weight_hr: Tensor | None = None,
    embedding: Tensor | None = None,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rows = input.shape if input.dtype in ID_DTYPES else input.shape[:-1]
    features = hx.shape[1]
    hidden = features if weight_hr is None else weight_hr.shape[1]
    kept = _RESERVE[reference.MODES[mode]] if save else 0
    return (
        hx.new_empty(*rows, features),
        hx.new_empty(hx.shape),
        hx.new_empty(0 if cx is None else cx.shape),
        hx.new_empty(math.prod(rows) * hidden * kept),
    )


def _fake_backward(
    grad_output: Tensor | None,
    grad_h_n: Tensor | None,
    grad_c_n: Tensor | None,
    input: Tensor,
    hx: Tensor,
    cx: Tensor | None,
    weight_ih: Tensor,
    weight_hh: Tensor,
    output: Tensor,
    reserve: Tensor,
    mode: int,
    reverse: bool,
    wanted: int,
    batch_sizes: Tensor | None = None,
    weight_hr: Tensor | None = None,
    embedding: Tensor | None = None,
    mask: Tensor | None = None,
) -> tuple[Tensor, ...]:
    bias_shape = weight_ih.shape[:1]
    of_input = None if input.dtype in ID_DTYPES else input
    of_cell = hx if cx is None else cx
    tensors = (of_input, hx, of_cell, weight_ih, weight_hh, weight_hr, embedding)
    like = [(0,) if t is None else t.shape for t in tensors]
    like[5:5] = [bias_shape, bias_shape]
    return tuple(hx.new_empty(s if wanted >> k & 1 else (0,)) for k, s in enumerate(like))


def _fake_inference(
    input: Tensor,
    states: list[Tensor],
    weights: list[Tensor],
    mode: int,
    num_layers: int,
    bidirectional: bool,
    batch_first: bool,
    bfloat16_weights: bool = False,
    batch_sizes: Tensor | None = None,
    wants_output: bool = True,
    embedding: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    hidden = weights[1].shape[1]
    directions = 2 if bidirectional else 1
    rows = list(input.shape if input.dtype in ID_DTYPES else input.shape[:-1])
    if batch_first and batch_sizes is None:
        rows.reverse()
    output = weights[0].new_empty(*rows, directions * hidden)
    batch = states[0].shape[1] if states else rows[-1]
    if batch_first and batch_sizes is None:
        output = output.transpose(0, 1)
    finals = (num_layers * directions, batch, hidden)
    return (
        output if wants_output else output.new_empty(0),
        output.new_empty(finals),
        output.new_empty(finals if reference.MODES[mode] == "LSTM" else (0,)),
    )


def _fake_mask(batch: int, features: int, p: float, dtype: torch.dtype) -> Tensor:
    return torch.empty(batch, features, dtype=dtype)
