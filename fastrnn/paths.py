"""Which code runs a call of a recurrent module, and why: what `fastrnn.explain` tells."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from fastrnn import _extension, cells, convert, devices, dispatch, dropout, ops


class Path(NamedTuple):
    """What runs a call.

    Attributes:
        name: "kernels", "torch" (torch's own functions) or "reference" (`fastrnn.reference`).
        reason: why.
    """

    name: str
    reason: str


def of(module: nn.Module, input: Any) -> Path:
    """The path of `module(input)`, called now.

    Args:
        module: a recurrent module or cell, of fastrnn or of torch.
        input: a tensor, or for a module a `PackedSequence`.
    """
    mode = convert.mode_of(module)
    if mode == "torch":
        known = convert.torch_class(module) is not None
        return Path(
            "torch",
            convert.refusal(module) or "it is not accelerated"
            if known
            else f"{type(module).__name__} has code of its own",
        )
    if isinstance(module, nn.RNNCellBase):
        return _of_cell(module, input)
    assert isinstance(module, nn.RNNBase)
    return _of_sequence(module, input)


def likely(module: nn.Module) -> Path:
    """The path of a call with one row and one step of the dtype and device of the weights."""
    weight = next(module.parameters(), torch.empty(0))
    size: Any = module.input_size
    return of(
        module, weight.new_empty((1, size) if isinstance(module, nn.RNNCellBase) else (1, 1, size))
    )


def _of_sequence(module: nn.RNNBase, input: Any) -> Path:
    input, _, weights = dispatch.autocast(input, (), module._flat_weights)
    layer = getattr(module, "_layer", ops.layer)
    if layer is not ops.layer:
        return Path("reference", "a subclass chose its own way to run a layer")
    if dropout.is_on(module):
        path = _of_masked(module, input, weights)
        if path is not None:
            return path
    if isinstance(input, PackedSequence):
        if dispatch.has_kernel(module, input.data, (), weights):
            return Path("kernels", f"they run packed {_kind(input.data)}")
        return Path("torch", _why_torch(module, input.data, weights[0]))
    if not dispatch.takes(module, input, (), weights, layer):
        return Path("torch", _why_torch(module, input, weights[0]))
    return _ours(input, weights)


def _of_masked(module: nn.RNNBase, input: Any, weights: list[Any]) -> Path | None:
    """The reference, where it alone has the masks of a call; None for all other calls."""
    data = input.data if isinstance(input, PackedSequence) else input
    if not isinstance(data, Tensor) or not ops.are_like(data, weights):
        return None
    if dispatch.is_traced():
        return Path("reference", "torch's own code has no masks for input and states")
    if dispatch.has_kernel(module, data, (), weights):
        return None
    if not _extension.loaded or ops.is_transformed():
        return _ours(data, weights)
    if dropout.masks_states(module) and ops.has_kernel(data, *weights):
        where = "with projections" if module.proj_size else "for CUDA"
        return Path("reference", f"the kernels {where} have no recurrent dropout")
    return Path("reference", f"there is no kernel for {_kind(data)}")


def _of_cell(cell: nn.RNNCellBase, input: Any) -> Path:
    base = convert.torch_class(cell) or type(cell)._stock  # type: ignore[attr-defined]
    kind = base.__name__.removesuffix("Cell")
    mode, weights = cells.mode_of(cell, kind), cells.weights_of(cell)
    states = cells.states_of(cell, kind, input, None)
    there = [weight for weight in weights if weight is not None]
    if mode is not None and states is not None and cells.takes(mode, input, states, weights):
        return _ours(input, there)
    if torch._C._is_any_autocast_enabled():
        return Path("torch", "its own cells know what autocast casts")
    on_cpu = isinstance(input, Tensor) and input.is_cpu
    if on_cpu and ops.has_kernel(input, *there) and not dispatch.is_traced():
        rows = input.shape[0] if input.dim() == 2 else 1
        if mode is not None and not cells.pays(mode, rows, weights[0], weights[1]):
            return Path("torch", f"its own cell is faster for {_calls(rows)}")
    return Path("torch", _why_torch(cell, input, weights[0]))


def _calls(rows: int) -> str:
    gradients = "with" if torch.is_grad_enabled() else "without"
    return f"{rows} row{'' if rows == 1 else 's'} of this size {gradients} gradients"


def _ours(input: Tensor, weights: list[Any]) -> Path:
    if ops.has_kernel(input, *weights):
        return Path("kernels", f"they run {_kind(input)}")
    if not _extension.loaded:
        return Path("reference", f"the kernels are not loaded: {_extension.reason}")
    return Path("reference", "a function transform is active")


def _why_torch(module: nn.Module, input: Any, weight: Any) -> str:
    if dispatch.is_traced():
        return "a trace holds torch's functions, not ours"
    if (
        not isinstance(input, Tensor)
        or input.device != weight.device
        or input.dtype is not weight.dtype
        or 0 in input.shape
    ):
        return "torch decides about this input, or refuses it"
    if not _extension.loaded:
        return f"the kernels are not loaded: {_extension.reason}"
    if input.is_cuda:
        refused = devices.cuda_refusal(input.get_device())
        if refused is not None:
            return refused
        if isinstance(module, nn.RNNCellBase):
            return "its own cells run single steps on CUDA"
        if module.proj_size:
            return "the kernels for CUDA have no projections"
    return f"there is no kernel for {_kind(input)}"


def _kind(tensor: Tensor) -> str:
    """The dtype and the device, in words."""
    device = tensor.device.type
    where = {"cpu": "the CPU", "cuda": "CUDA"}.get(device, device)
    return f"{dtype_name(tensor.dtype)} on {where}"


def dtype_name(dtype: torch.dtype) -> str:
    """The name without "torch."."""
    return str(dtype).removeprefix("torch.")
