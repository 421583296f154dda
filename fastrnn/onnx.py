"""Recurrent layers as the operators LSTM, GRU and RNN of ONNX, for `torch.onnx.export`.

There is nothing to call here: inside of `torch.onnx.export(..., dynamo=True)` the modules run
through `run_layers`, so that the file has one operator for each layer, both directions in it, for
any length and batch. ONNX Runtime and others know these operators; nobody needs fastrnn to run the
file.

Example:
    >>> import fastrnn
    >>> model = fastrnn.LSTM(4, 8, bidirectional=True, batch_first=True).eval()
    >>> program = torch.onnx.export(  # doctest: +SKIP
    ...     model, (torch.randn(2, 5, 4),), dynamo=True, dynamic_shapes=({0: "batch", 1: "steps"},)
    ... )

Weights are put into the order of ONNX by operators before the layers, of which those on small
weights are folded into constants by torch, and all by whoever runs the file. Tools that want
constants in the file itself, such as quantizers, get them by
`onnxscript.optimizer.optimize(program.model, input_size_limit=n, output_size_limit=n)`, with `n`
above the number of bytes of the largest weights.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

# Where each block of rows of ONNX's weights is among torch's: i, o, f, c and z, r, h.
_GATES = {"RNN_TANH": (0,), "RNN_RELU": (0,), "LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2)}


def is_exporting() -> bool:
    """Whether `torch.onnx.export(..., dynamo=True)` is tracing."""
    return torch.compiler.is_exporting() and torch.onnx.is_in_onnx_export()


def run_layers(
    module: nn.RNNBase,
    input: Tensor,
    states: tuple[Tensor, ...],
    weights: list[Any],
    lengths: Tensor | None = None,
    padding: str = "right",
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Runs all layers of a module by operators that only ONNX knows.

    Args:
        module: whose options count.
        input: `(T, B, I)`.
        states: the first ones, `(num_layers * D, B, H)`; zeros where empty.
        weights: of all layers and directions, in the order of `torch.nn.RNNBase._flat_weights`.
        lengths: `(B,)`, integers, or None where all rows have `T` steps. Default: None.
        padding: "right" or "left": where rows have less. Default: "right".

    Returns:
        `output (T, B, D * H)` and the last states, shaped as `states`.
    """
    directions = 2 if module.bidirectional else 1
    per_layer = len(weights) // module.num_layers
    finals = []
    if lengths is not None and padding == "left":
        input = _rolled(input, lengths)
    for layer in range(module.num_layers):
        mine = weights[layer * per_layer : (layer + 1) * per_layer]
        firsts = [state[layer * directions :][:directions] for state in states]
        output, *lasts = _operator(module.mode, input, firsts, mine, directions, lengths)
        if lengths is not None and states:
            # A row without steps keeps its state. ONNX says nothing, and ONNX Runtime gives zeros.
            has_steps = (lengths > 0).unsqueeze(1)
            lasts = [torch.where(has_steps, *pair) for pair in zip(lasts, firsts, strict=True)]
        finals.append(lasts)
        input = output.squeeze(1) if directions == 1 else output.transpose(1, 2).flatten(2)
        if layer < module.num_layers - 1 and module.training:
            input = torch.dropout(input, module.dropout, True)
    if lengths is not None and padding == "left":
        input = _rolled(input, input.shape[0] - lengths)
    return input, tuple(torch.cat(state) for state in zip(*finals, strict=True))


def _rolled(input: Tensor, shifts: Tensor) -> Tensor:
    """`torch.roll` of each row of `(T, B, features)` by its own number of steps, from 0 to `T`."""
    steps = input.shape[0]
    times = torch.arange(steps, device=shifts.device).unsqueeze(1) - shifts
    times = torch.where(times < 0, times + steps, times)  # ONNX has no % by a size
    return input.gather(0, times.unsqueeze(2).expand_as(input))


def _operator(
    mode: str,
    input: Tensor,
    states: list[Tensor],
    weights: list[Any],
    directions: int,
    lengths: Tensor | None,
) -> Any:
    """One layer: `output (T, D, B, H)` and the last states `(D, B, H)`."""
    steps, batch, _ = input.shape
    hidden = weights[1].shape[1]
    each = len(weights) // directions
    per_direction = [weights[k * each : (k + 1) * each] for k in range(directions)]
    arguments: list[Any] = [
        input,
        torch.stack([_reordered(mode, weight_ih) for weight_ih, *_ in per_direction]),
        torch.stack([_reordered(mode, weight_hh) for _, weight_hh, *_ in per_direction]),
        torch.stack([torch.cat([_reordered(mode, bias) for bias in biases])
                     for _, _, *biases in per_direction]) if each == 4 else None,
        None if lengths is None else lengths.to(torch.int32),
        *states,
    ]  # fmt: skip
    while arguments[-1] is None:
        arguments.pop()
    attributes: dict[str, Any] = {
        "hidden_size": hidden,
        "direction": "bidirectional" if directions == 2 else "forward",
    }
    if mode == "GRU":
        attributes["linear_before_reset"] = 1
    if mode == "RNN_RELU":
        attributes["activations"] = ["Relu"] * directions
    count = 2 if mode == "LSTM" else 1
    return torch.onnx.ops.symbolic_multi_out(
        mode.split("_")[0],
        arguments,
        attributes,
        dtypes=[input.dtype] * (1 + count),
        shapes=[(steps, directions, batch, hidden)] + [(directions, batch, hidden)] * count,
    )


def _reordered(mode: str, weight: Tensor) -> Tensor:
    """The rows of a weight or a bias in ONNX's order of gates."""
    order = _GATES[mode]
    rows = weight.shape[0] // len(order)
    return torch.cat([weight[k * rows : (k + 1) * rows] for k in order])
