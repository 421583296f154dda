"""Which code computes a call of a recurrent module: kernels, reference or torch's own.

The module is any `torch.nn.RNNBase`, of fastrnn or of torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from fastrnn import dropout, onnx, ops

Layer = Callable[..., tuple[Tensor, Tensor, Tensor | None]]
"""Runs one layer in one direction: `fastrnn.ops.layer` or `fastrnn.reference.layer`."""


def takes(
    module: nn.RNNBase, input: Any, states: tuple[Any, ...], weights: list[Any], layer: Layer
) -> bool:
    """Whether a call is for `layer`; torch's own code runs, or refuses, all others.

    Under autocast the tensors are those that `autocast` gives.
    """
    if not isinstance(input, Tensor) or input.dim() not in (2, 3):
        return False
    time_dim = 1 if module.batch_first and input.dim() == 3 else 0
    return (
        input.size(time_dim) > 0
        and _are_all_there(module, weights)
        and ops.are_like(input, weights)
        and ops.are_like(input, states)
        and all(state.dim() == input.dim() for state in states)
        # Torch's own code would leave the masks out.
        and (dropout.is_on(module) or _prefers(module, input, layer))
    )


def _prefers(module: nn.RNNBase, input: Tensor, layer: Layer) -> bool:
    """Whether `layer` is to run what torch's own code could run too."""
    return (
        # Another layer than ours was chosen, and runs wherever it can.
        (layer is not ops.layer or ops.is_best_for(input, module.proj_size > 0))
        and not is_traced()
        # ONNX has no operator with projections.
        and not (module.proj_size and onnx.is_exporting())
    )


def runs_at_once(
    module: nn.RNNBase, input: Any, states: tuple[Any, ...], weights: list[Any]
) -> bool:
    """Whether one op can do the whole call: no gradients, no dropout, and nothing to refuse.

    Usual calls have been asked by `at_once.run` before; this is for computed weights, autocast,
    compilers and the like.
    """
    if not isinstance(input, Tensor) or input.dim() != 3 or not wants_one_op(module, input):
        return False
    shape = input.shape
    steps, batch = (shape[1], shape[0]) if module.batch_first else (shape[0], shape[1])
    if steps == 0 or shape[2] != module.input_size:
        return False
    return runs_rows_at_once(module, input, states, weights, batch)


def runs_rows_at_once(
    module: nn.RNNBase, like: Tensor, states: tuple[Any, ...], weights: list[Any], batch: int
) -> bool:
    """The same of `batch` rows whose input fits and has the dtype and device of `like`."""
    if states:
        layers = module.num_layers * (2 if module.bidirectional else 1)
        wanted = (layers, batch, module.hidden_size)
        for state in states:
            if not isinstance(state, Tensor) or state.shape != wanted:
                return False
    return has_kernel(module, like, states, weights) and not onnx.is_exporting()


def wants_one_op(module: nn.RNNBase, input: Tensor) -> bool:
    """Whether `ops.inference` is for a call of these options, if there is a kernel at all."""
    return not (
        torch.is_grad_enabled()
        or module.proj_size
        or not input.is_cpu
        or drops(module)
        or dropout.is_on(module)
    )


def states_in(hx: Any, mode: str) -> tuple[Any, ...] | None:
    """The states in `hx` as a tuple, or None where `hx` has not the form that `mode` takes."""
    if mode != "LSTM":
        return (hx,)
    return tuple(hx) if isinstance(hx, tuple | list) and len(hx) == 2 else None


def drops(module: nn.RNNBase) -> bool:
    """Whether a call zeroes outputs between layers."""
    # The float comes last: torch.compile traces all again where it meets one.
    return module.training and module.num_layers > 1 and module.dropout != 0


def has_kernel(
    module: nn.RNNBase, input: Tensor, states: tuple[Any, ...], weights: list[Any]
) -> bool:
    """Whether the kernels can run a call whose sizes fit."""
    for state in states:
        if not isinstance(state, Tensor):
            return False
    return (
        _are_all_there(module, weights)
        and ops.has_kernel(
            input,
            *states,
            *weights,
            projects=module.proj_size > 0,
            masks=dropout.masks_states(module),
        )
        and not is_traced()
    )


def _are_all_there(module: nn.RNNBase, weights: list[Any]) -> bool:
    """Whether there are as many weights as the module's options say."""
    layers = module.num_layers * (2 if module.bidirectional else 1)
    return len(weights) == layers * ((4 if module.bias else 2) + (module.proj_size > 0))


def autocast(
    input: Any, states: tuple[Any, ...], weights: list[Any]
) -> tuple[Any, tuple[Any, ...], list[Any]]:
    """The tensors of a call as autocast on the device of `input` wants them, gradients kept.

    All cells alike: torch casts in some of the functions that its cells call, and so gives float32
    for a GRU. What is cast is what torch casts: floating point, but not float64.
    """
    data = input.data if isinstance(input, PackedSequence) else input
    if not isinstance(data, Tensor):
        return input, states, weights
    device = data.device
    kind = device.type
    if not torch.amp.is_autocast_available(kind) or not torch.is_autocast_enabled(kind):
        return input, states, weights
    dtype = torch.get_autocast_dtype(kind)

    def cast(x: Any) -> Any:
        if isinstance(x, Tensor) and x.is_floating_point() and x.dtype is not torch.float64:
            return x.to(dtype) if x.device == device else x
        return x

    data = cast(data)
    input = input._replace(data=data) if isinstance(input, PackedSequence) else data
    return input, tuple(map(cast, states)), list(map(cast, weights))


def is_traced() -> bool:
    """Whether a trace is made, which stays portable: it holds torch's functions, not ours."""
    return torch.jit.is_tracing()  # type: ignore[attr-defined, no-any-return, no-untyped-call]
