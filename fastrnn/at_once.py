"""A whole call by one op, on the shortest way to it: of usual calls, that of most."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from fastrnn import _extension, ops, reference
from fastrnn.dropout import Masking
from fastrnn.transforms import functorch_active


def run(module: nn.RNNBase, input: Any, hx: Any, output: bool) -> tuple[Any, Any] | None:
    """What `recurrent.forward` gives for a usual call; None for all others.

    Usual are calls without gradients, and of one layer and direction those with. It asks what
    `dispatch.runs_at_once` and `dispatch.takes` ask, but in one function: where other code drives
    the interpreter's out of the caches between small calls, each function costs anew, and a step
    of 8 units that took 71 microseconds so takes 50.

    Args:
        module: whose weights and options count.
        input: of any kind.
        hx: the first state or states, or None.
        output: else None takes the place of the output.
    """
    # torch.compile and traces look no further: sizes are no numbers there.
    if torch.compiler.is_compiling() or torch._C._is_tracing() or not isinstance(input, Tensor):
        return None
    layers = module.num_layers * (2 if module.bidirectional else 1)
    gradients, shape, dtype = torch.is_grad_enabled(), input.shape, input.dtype
    weights: list[Any] = module._flat_weights
    if (
        len(shape) != 3
        or (gradients and layers != 1)
        or shape[2] != module.input_size
        or len(weights) != layers * (4 if module.bias else 2)
        or module.proj_size
        or dtype not in ops.KERNEL_DTYPES
        or not (input.is_cpu and _extension.loaded)
        or torch._C._is_any_autocast_enabled()
        or functorch_active()
        or forward_ad._current_level >= 0
    ):
        return None
    if module.training and (module.dropout or (isinstance(module, Masking) and module.has_masks)):
        return None
    parameters: Any = module._parameters
    for name, weight in zip(module._flat_weights_names, weights, strict=True):
        if weight is None or parameters.get(name) is not weight or weight.dtype is not dtype:
            return None
        if not weight.is_cpu or (gradients and not weight.requires_grad):
            return None
    steps, batch = (shape[1], shape[0]) if module.batch_first else (shape[0], shape[1])
    lstm = module.mode == "LSTM"
    if steps == 0 or (lstm and hx is not None and not (isinstance(hx, tuple) and len(hx) == 2)):
        return None
    states = () if hx is None else hx if lstm else (hx,)
    if states:
        wanted = (layers, batch, module.hidden_size)
        for s in states:
            if not (isinstance(s, Tensor) and s.dtype is dtype and s.shape == wanted and s.is_cpu):
                return None
    if gradients:
        return _train(module, input, states, batch, output)
    result, h_n, c_n = torch.ops.fastrnn._inference.default(
        input, states, weights, reference.MODES.index(module.mode), module.num_layers,
        module.bidirectional, module.batch_first,
        batch == 1 and steps > 1 and ops.may_round(weights[1], input, module.batch_first),
        None, output, None,
    )  # fmt: skip
    return result if output else None, (h_n, c_n) if lstm else h_n


def _train(
    module: nn.RNNBase, input: Tensor, states: tuple[Tensor, ...], batch: int, output: bool
) -> tuple[Any, Any]:
    """The same of one layer and direction, with gradients."""
    if module.batch_first:
        input = input.transpose(0, 1)
    weight_ih, weight_hh, *biases = module._flat_weights
    hx = states[0].squeeze(0) if states else input.new_zeros(batch, module.hidden_size)
    cx = None if module.mode != "LSTM" else states[1].squeeze(0) if states else hx
    result, *finals = ops.layer_with_gradient(
        input, hx, cx, weight_ih, weight_hh, *(biases or (None, None)), None, None, None, None,
        module.mode, False,
    )  # fmt: skip
    if module.batch_first:
        result = result.transpose(0, 1)
    last = tuple(state.unsqueeze(0) for state in finals)
    return result if output else None, last if len(last) == 2 else last[0]
