"""A whole call by one op, on the shortest way to it: of usual calls, that of most."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from fastrnn import _extension, dropout, ops, reference
from fastrnn.dropout import Masking
from fastrnn.embedding import COMPUTED_DTYPES, ID_DTYPES
from fastrnn.transforms import functorch_active

OUR_CLASSES = ("fastrnn.modules", "torch.nn.modules.rnn")
"""Where those are defined that override nothing which torch's forward calls."""


def run(
    module: nn.RNNBase, input: Any, hx: Any, output: bool, embedding: Any = None
) -> tuple[Any, Any] | None:
    """What `recurrent.forward` and `tokens.forward` give for a usual call; None for all others.

    Usual are calls without gradients, and of one layer and direction those with. It asks what
    `dispatch.runs_at_once` and `dispatch.takes` ask, but in two functions: where other code drives
    the interpreter's out of the caches between small calls, each function costs anew, and a step
    of 8 units that took 71 microseconds so takes 50.

    Args:
        module: whose weights and options count.
        input: of any kind.
        hx: the first state or states, or None.
        output: else None takes the place of the output.
        embedding: of any kind. Default: None.
    """
    # torch.compile and traces look no further: sizes are no numbers there.
    if torch.compiler.is_compiling() or torch._C._is_tracing() or not isinstance(input, Tensor):
        return None
    shape, dtype, weights = input.shape, input.dtype, module._flat_weights
    ids = dtype in ID_DTYPES
    if ids and isinstance(weights[0], Tensor) and isinstance(module, Masking):  # torch's take none
        dtype = weights[0].dtype
    if (
        len(shape) != (2 if ids else 3)
        or 0 in shape
        or not (ids or (shape[2] == module.input_size and embedding is None))
        or dtype not in (COMPUTED_DTYPES if ids else ops.KERNEL_DTYPES)
        or not (input.is_cpu and _extension.loaded)
        or module.proj_size
        or torch._C._is_any_autocast_enabled()
        or functorch_active()
        or forward_ad._current_level >= 0
        or (module.training and module.dropout)
    ):
        return None
    masks = module.training and dropout.is_on(module)
    steps, batch = (shape[1], shape[0]) if module.batch_first else (shape[0], shape[1])
    lstm, gradients = module.mode == "LSTM", torch.is_grad_enabled()
    if masks and (ids or not gradients or dtype not in COMPUTED_DTYPES):
        return None
    states = hx if lstm or hx is None else (hx,)
    if not _fit(module, states, batch, embedding, dtype, gradients):
        return None
    try:
        if gradients:
            return _train(module, input, states, batch, output, embedding, masks)
        result, h_n, c_n = torch.ops.fastrnn._inference.default(
            input, states or (), weights, reference.MODES.index(module.mode), module.num_layers,
            module.bidirectional, module.batch_first,
            batch == 1 and steps > 1 and ops.may_round(weights[1], input, module.batch_first),  # type: ignore[arg-type]
            None, output, embedding,
        )  # fmt: skip
    except RuntimeError:
        if ids:  # one is out of range: tokens.forward says which
            return None
        raise
    return result if output else None, (h_n, c_n) if lstm else h_n


def _fit(
    module: nn.RNNBase, states: Any, batch: int, embedding: Any, dtype: torch.dtype, gradients: bool
) -> bool:
    """Whether weights, states and embedding are as many, as large and of the kind they should."""
    layers = module.num_layers * (2 if module.bidirectional else 1)
    weights: list[Any] = module._flat_weights
    parameters: Any = module._parameters
    if gradients and (layers != 1 or type(module).__module__ not in OUR_CLASSES):
        return False
    if len(weights) != layers * (4 if module.bias else 2):
        return False
    for name, weight in zip(module._flat_weights_names, weights, strict=True):
        if weight is None or parameters.get(name) is not weight or weight.dtype is not dtype:
            return False
        if not weight.is_cpu or (gradients and not weight.requires_grad):
            return False
    if states is not None:
        if not isinstance(states, tuple) or len(states) != (2 if module.mode == "LSTM" else 1):
            return False
        wanted = (layers, batch, module.hidden_size)
        for s in states:
            if not (isinstance(s, Tensor) and s.dtype is dtype and s.shape == wanted and s.is_cpu):
                return False
    return embedding is None or (
        isinstance(embedding, Tensor)
        and embedding.dim() == 2
        and embedding.shape[1] == module.input_size
        and embedding.dtype is dtype
        and embedding.is_cpu
    )


def _train(
    module: nn.RNNBase,
    input: Tensor,
    states: Any,
    batch: int,
    output: bool,
    embedding: Any,
    masks: bool,
) -> tuple[Any, Any]:
    """The call of one layer and direction, with gradients."""
    if module.batch_first:
        input = input.transpose(0, 1)
    weight_ih, weight_hh, *biases = module._flat_weights
    like: Any = weight_ih
    hx = states[0].squeeze(0) if states else like.new_zeros(batch, module.hidden_size)
    cx = None if module.mode != "LSTM" else states[1].squeeze(0) if states else hx
    input, mask = dropout.apply(module, input, hx) if masks else (input, None)
    result, *finals = ops.layer_with_gradient(
        input, hx, cx, weight_ih, weight_hh, *(biases or (None, None)), None, embedding, mask, None,
        module.mode, False,
    )  # fmt: skip
    if module.batch_first:
        result = result.transpose(0, 1)
    last = tuple(state.unsqueeze(0) for state in finals)
    return result if output else None, last if len(last) == 2 else last[0]
