"""How the kernels compute each layer of a call, in words: what `fastrnn.explain` tells of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fastrnn import devices, dispatch, dropout, ops, paths, reference


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


def of_layers(module: nn.RNNBase, input: Tensor, vocabulary: int) -> tuple[LayerPlan, ...]:
    """`vocabulary`: of ids, for which `input` stands then; else 0."""
    shapes = _shapes(module, input)
    if input.is_cuda:
        return tuple(
            LayerPlan(k, shape, *_cuda_plan(module, shape, input)) for k, shape in enumerate(shapes)
        )
    at_once = _layers_at_once(module, shapes[-1], input)
    return tuple(
        LayerPlan(k, shape, *_plan(module, shape, input, 0 if k else vocabulary, at_once))
        for k, shape in enumerate(shapes)
    )


def _layers_at_once(module: nn.RNNBase, shape: tuple[int, int, int, int], input: Tensor) -> int:
    """Threads that run layers at the same time, or 1: csrc/inference.cpp."""
    from fastrnn import _C

    copies = input.dtype in ops.HALVES and not _in_pairs(input)
    alone = module.num_layers == 1 or module.bidirectional or copies
    if alone or _wants_gradients(module, input) or not dispatch.wants_one_op(module, input):
        return 1
    T, B, _, H = shape
    sizes = {"layers": module.num_layers, "element_bytes": input.element_size()}
    return _C.layers_at_once(reference.MODES.index(module.mode), T, B, H, **sizes, **_C.machine())


def _in_pairs(input: Tensor) -> bool:
    """Whether the kernels multiply it as bfloat16."""
    from fastrnn import _C

    return input.dtype is torch.bfloat16 and _C.multiplies_bfloat16()


def _shapes(module: nn.RNNBase, input: Tensor) -> list[tuple[int, int, int, int]]:
    """`(T, B, I, H)` of each layer."""
    time, batch = (1, 0) if module.batch_first else (0, 1)
    T, B = (input.shape[time], input.shape[batch]) if input.dim() == 3 else (input.shape[0], 1)
    between = (module.proj_size or module.hidden_size) * (2 if module.bidirectional else 1)
    inputs = [module.input_size] + [between] * (module.num_layers - 1)
    return [(T, B, features, module.hidden_size) for features in inputs]


def _plan(
    module: nn.RNNBase,
    shape: tuple[int, int, int, int],
    input: Tensor,
    vocabulary: int,
    at_once: int,
) -> tuple[str, tuple[str, ...]]:
    """The regime and the reasons of a layer on the CPU."""
    from fastrnn import _C

    machine = _C.machine()
    gradients = _wants_gradients(module, input)
    pairs = _in_pairs(input)
    short = (input.dtype is torch.bfloat16 and not pairs) or (
        input.dtype is torch.float32 and not gradients and ops.rounds_products()
    )
    steps, batch, features, hidden = shape
    plan = _C.plan(
        reference.MODES.index(module.mode),
        steps,
        batch,
        0 if vocabulary else features,
        hidden,
        # Halves are computed in float32, where they are not multiplied as they are.
        element_bytes=input.element_size() if pairs else max(input.element_size(), 4),
        bfloat16_weights=short and not vocabulary,
        vocabulary=vocabulary,
        keeps=not gradients,
        features=module.proj_size or module.hidden_size,
        masks=dropout.masks_states(module),
        beside_others=at_once > 1,
        **machine,
    )
    regime, reasons = _describe(plan, machine, shape, input.dtype, at_once)
    if pairs:
        reasons += ("products are of bfloat16, and h is rounded for them; sums are float32",)
    elif input.dtype in ops.HALVES:
        reasons += (f"{paths.dtype_name(input.dtype)} is stored, sums and states are float32",)
    if vocabulary:
        reasons += (_about_table(plan, vocabulary),)
    if module.proj_size:
        reasons += ("a product after each step projects h",)
    if dropout.masks_states(module):
        reasons += ("each step leaves h for the output and h times the mask for the next product",)
    if not gradients and not plan["single_step"]:
        reasons += ("packed weights are kept from call to call while their bytes stay the same",)
    return regime, reasons


def _about_table(plan: dict[str, int], vocabulary: int) -> str:
    if plan["whole_table"]:
        return f"a table of the input products of all {vocabulary} tokens is kept, and looked up"
    return "a table of the input products of the call's distinct tokens is made, and looked up"


def _wants_gradients(module: nn.RNNBase, input: Tensor) -> bool:
    weights: list[Any] = module._flat_weights
    return torch.is_grad_enabled() and any(t.requires_grad for t in (input, *weights))


CUDA_REGIMES = {
    "block": "blocks of rows run through all steps",
    "grid": "blocks share the hidden units in one launch",
    "launch": "a launch for each step",
}


def _cuda_plan(
    module: nn.RNNBase, shape: tuple[int, int, int, int], input: Tensor
) -> tuple[str, tuple[str, ...]]:
    """The regime and the reasons of a layer on a GPU; its backward is planned by itself."""
    from fastrnn import _C

    T, B, _, H = shape
    mode, size = reference.MODES.index(module.mode), input.element_size()
    limits = devices.cuda_limits(input.get_device())
    plans = {"forward": _C.cuda_plan(mode, size, False, T, B, H, **limits)}
    if _wants_gradients(module, input):
        plans["backward"] = _C.cuda_plan(mode, size, True, T, B, H, **limits)
    reasons = ["the input product of all steps is one matrix product of torch's before them"]
    for name, plan in plans.items():
        blocks = plan["row_blocks"] * plan["unit_blocks"]
        reasons.append(
            f"{name}: {plan['reason']}; {blocks} blocks of {plan['rows']} rows x {plan['units']} "
            f"units, {plan['warps']} warps and {plan['shared_bytes']} bytes of shared memory each"
        )
    return CUDA_REGIMES[plans["forward"]["scope"]], tuple(reasons)


def _describe(
    plan: dict[str, int],
    machine: dict[str, int],
    shape: tuple[int, ...],
    dtype: torch.dtype,
    at_once: int,
) -> tuple[str, tuple[str, ...]]:
    _, batch, _, _ = shape
    reasons = [f"vectors of {machine['vector_bytes']} bytes ({_isa()})"]
    if plan["single_step"]:
        regime = "single step, weights read where they are"
        reasons.append("each weight is used once a row: packing would cost more than it gains")
    elif plan["projected_steps"] and batch > 1:
        regime = "all rows step by step, input product first"
        reasons.append(
            f"the input product of {plan['projected_steps']} steps at a time is taken before them: "
            "weights for both products and the rows would not stay in the second-level cache"
        )
    elif plan["projected_steps"]:
        ahead = plan["projects_ahead"]
        regime = "one row, input product " + ("ahead" if ahead else "first")
        reasons.append(
            f"while a step waits for the hidden weights, it takes a part of the input product of "
            f"the next {plan['projected_steps']} steps"
            if ahead
            else f"the input product of {plan['projected_steps']} steps at a time is one matrix "
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
    if at_once > 1:
        reasons.append(
            f"{at_once} threads run the layers at the same time, each some steps behind the one "
            "below"
        )
    elif plan["unit_parts"] > 1:
        reasons.append(
            f"{plan['unit_parts']} threads share the hidden units: each reads its part of the "
            "weights alone"
        )
    else:
        reasons.append(
            f"threads share the batch, at least {plan['rows_per_thread']} rows each; "
            f"torch gives {machine['threads']}"
        )
    return regime, tuple(reasons)


def _isa() -> str:
    from fastrnn import _C

    return str(_C.cpu_isa())
