"""Why a call runs as it does: which code takes it, and how the kernels' plan cuts its work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fastrnn import _extension, dispatch, ops, reference
from fastrnn.modules import _Recurrent


@dataclass(frozen=True)
class LayerPlan:
    """How the kernels compute one layer; both directions of it alike.

    Attributes:
        layer: its index.
        shape: `(T, B, I, H)`.
        regime: the kind of kernel, in a few words.
        reasons: sentences that tell what was chosen and why.
    """

    layer: int
    shape: tuple[int, int, int, int]
    regime: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Explanation:
    """What a call of a module will do; `print` shows it.

    Attributes:
        module: the module, as it prints itself.
        path: "kernels", "torch" (torch's own functions) or "reference" (`fastrnn.reference`).
        reason: why that path.
        layers: the plan of each layer; empty when the path is not "kernels".
    """

    module: str
    path: str
    reason: str
    layers: tuple[LayerPlan, ...] = ()

    def __str__(self) -> str:
        lines = [self.module, f"  runs on: {self.path}, because {self.reason}"]
        for plan in self.layers:
            sizes = ", ".join(f"{n}={v}" for n, v in zip("TBIH", plan.shape, strict=True))
            lines.append(f"  layer {plan.layer} ({sizes}): {plan.regime}")
            lines += [f"    - {reason}" for reason in plan.reasons]
        return "\n".join(lines)


def explain(module: Any, input: Tensor) -> Explanation:
    """Tells how `module(input)` would be computed now, without computing it.

    What counts is what counts in the call itself: whether gradients are wanted, autocast, the
    number of threads, the instruction set, `torch.set_float32_matmul_precision`.

    Args:
        module: a `fastrnn.RNN`, `LSTM` or `GRU`.
        input: as for the module's forward.

    Raises:
        TypeError: `module` is not a module of fastrnn, or `input` is not a tensor.
        ValueError: `input` has not two or three dimensions.

    Example:
        >>> import fastrnn
        >>> print(explain(fastrnn.LSTM(16, 8), torch.randn(100, 64, 16)))  # doctest: +ELLIPSIS
        LSTM(16, 8)
          runs on: ...
    """
    if not isinstance(module, _Recurrent):
        raise TypeError(
            f"explain: module must be a fastrnn.RNN, LSTM or GRU, got {type(module).__name__}"
        )
    if not isinstance(input, Tensor):
        raise TypeError(f"explain: input must be a tensor, got {type(input).__name__}")
    if input.dim() not in (2, 3):
        raise ValueError(f"explain: input must have 2 or 3 dimensions, got {input.dim()}")
    input, _, weights = dispatch.autocast(input, (), module._flat_weights)
    path, reason = _path(module, input, weights)
    layers = _layers(module, input) if path == "kernels" else ()
    return Explanation(repr(module), path, reason, layers)


def _path(module: _Recurrent, input: Tensor, weights: list[Any]) -> tuple[str, str]:
    if module._layer is not ops.layer:
        return "reference", "a subclass chose its own way to run a layer"
    if not dispatch.takes(module, input, (), weights, module._layer):
        return "torch", _why_torch(module, input, weights[0])
    if ops.has_kernel(input, *weights):
        return "kernels", f"they run {_name(input.dtype)} on the CPU"
    if not _extension.loaded:
        return "reference", f"the kernels are not loaded: {_extension.reason}"
    return "reference", "a function transform is active"


def _why_torch(module: _Recurrent, input: Tensor, weight: Any) -> str:
    if module.proj_size:
        return "there is no kernel for projections (proj_size)"
    if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return "a trace holds torch's functions, not ours"
    if input.device != weight.device or input.dtype is not weight.dtype or 0 in input.shape:
        return "torch decides about this input, or refuses it"
    return f"there is no kernel for {_name(input.dtype)} on {input.device.type}"


def _layers(module: _Recurrent, input: Tensor) -> tuple[LayerPlan, ...]:
    from fastrnn import _C

    time, batch = (1, 0) if module.batch_first else (0, 1)
    T, B = (input.shape[time], input.shape[batch]) if input.dim() == 3 else (input.shape[0], 1)
    machine = _C.machine()
    directions = 2 if module.bidirectional else 1
    weights: list[Any] = module._flat_weights
    gradients = torch.is_grad_enabled() and any(t.requires_grad for t in (input, *weights))
    short = input.dtype is torch.bfloat16 or (
        input.dtype is torch.float32 and not gradients and ops.rounds_products()
    )
    plans = []
    for layer in range(module.num_layers):
        features = module.input_size if layer == 0 else module.hidden_size * directions
        shape = (T, B, features, module.hidden_size)
        size = max(input.element_size(), 4)  # halves are computed in float32
        mode = reference.MODES.index(module.mode)
        plan = _C.plan(mode, *shape, element_bytes=size, bfloat16_weights=short, **machine)
        regime, reasons = _describe(plan, machine, shape, input.dtype)
        if not gradients and not plan["single_step"]:
            reasons += (
                "packed weights are kept from call to call while their bytes stay the same",
            )
        plans.append(LayerPlan(layer, shape, regime, reasons))
    return tuple(plans)


def _describe(
    plan: dict[str, int], machine: dict[str, int], shape: tuple[int, ...], dtype: torch.dtype
) -> tuple[str, tuple[str, ...]]:
    _, batch, _, _ = shape
    reasons = [f"vectors of {machine['vector_bytes']} bytes ({_isa()})"]
    if dtype in (torch.bfloat16, torch.float16):
        reasons.append(f"{_name(dtype)} is stored, sums and states are float32")
    if plan["single_step"]:
        regime = "single step, weights read where they are"
        reasons.append("each weight is used once a row: packing would cost more than it gains")
    elif plan["projected_steps"]:
        regime = "one row, input product first"
        reasons.append(
            f"the input product of {plan['projected_steps']} steps at a time is one matrix "
            "product; the recurrence then waits for the hidden weights alone"
        )
        if plan["bfloat16_weights"]:
            rounded = "" if dtype is torch.bfloat16 else ", rounded as torch's setting allows"
            reasons.append(f"which are read as bfloat16{rounded}: half the bytes of float32")
    elif plan["row_block"] < batch:
        regime = f"blocks of {plan['row_block']} rows run through all steps"
        reasons.append("the weights stay in the second-level cache meanwhile")
    else:
        regime = "all rows step by step"
        reasons.append("the weights pass once a step, for all rows of a thread")
    if plan["rows_per_vector"] == 2:
        reasons.append("two rows share a vector, since half of one holds all hidden units")
    if plan["unit_parts"] > 1:
        reasons.append(f"{plan['unit_parts']} threads share the hidden units, rows being few")
    else:
        reasons.append(
            f"threads share the batch, at least {plan['rows_per_thread']} rows each; "
            f"torch gives {machine['threads']}"
        )
    return regime, tuple(reasons)


def _isa() -> str:
    from fastrnn import _C

    return str(_C.cpu_isa())


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
