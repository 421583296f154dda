"""Why a call runs as it does: which code takes it, and how the kernels' plan cuts its work."""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import dataclass
from typing import Any, overload

import torch
from torch import Tensor, nn

from fastrnn import convert, devices, dispatch, dropout, ops, paths, reference, tokens


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


@dataclass(frozen=True)
class Use:
    """What a model does with one of its recurrent modules.

    Attributes:
        name: of the module in the model; "" is the model itself.
        cls: its class.
        sizes: and other options, as the module prints them.
        mode: how it came to fastrnn: "fastrnn" (built of it), "accelerated", "accelerated for
            compile", or "torch" (not at all).
        path: what runs it, as in `Explanation`.
        reason: why.
        calls: how many calls went that way; None where `explain` had no inputs.
    """

    name: str
    cls: str
    sizes: str
    mode: str
    path: str
    reason: str
    calls: int | None = None


@dataclass(frozen=True)
class Report:
    """The recurrent modules of a model and what runs them; `print` shows a table."""

    uses: tuple[Use, ...]

    def __str__(self) -> str:
        if not self.uses:
            return "no recurrent modules"
        head = ("module", "class", "sizes", "mode", "runs on", "calls", "why")
        rows = [
            (use.name or "(itself)", use.cls, use.sizes, use.mode, use.path, use.calls, use.reason)
            for use in self.uses
        ]
        shown = [head, *(tuple("" if cell is None else str(cell) for cell in row) for row in rows)]
        columns = [column for column in zip(*shown, strict=True) if any(column[1:])]
        widths = [max(map(len, column)) for column in columns]
        return "\n".join(
            "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
            for row in zip(*columns, strict=True)
        )


@overload
def explain(
    module: nn.RNNBase, input: Tensor, /, *, embedding: Tensor | None = None
) -> Explanation: ...


@overload
def explain(module: nn.Module, /, *inputs: Any) -> Explanation | Report: ...


def explain(
    module: nn.Module, /, *inputs: Any, embedding: Tensor | None = None
) -> Explanation | Report:
    """Tells what runs a recurrent module, or those of a whole model, and why.

    What counts is what counts in the call itself: whether gradients are wanted, autocast, the
    number of threads, the instruction set, `torch.set_float32_matmul_precision`.

    Args:
        module: a module for sequences (`fastrnn.LSTM`, an accelerated `torch.nn.LSTM`), with a
            tensor as its input, is explained in detail without being called. Of any other module,
            and of these without input, each recurrent module in it gets a line.
        *inputs: of the module. A model is called with them once, for the inputs that its recurrent
            modules get then. Without any, a line tells of a call with one row and one step of the
            dtype of the weights. Integers `(T, B)` are token ids, as the modules take them.
        embedding: what a module for sequences is called with beside ids. Default: None.

    Returns:
        An `Explanation` of one module for sequences, or a `Report` of a model. Both can be printed.

    Raises:
        TypeError: `module` is not a module, or the input of one for sequences is not a tensor.
        ValueError: that input has not two or three dimensions.

    Example:
        >>> import fastrnn
        >>> print(explain(fastrnn.LSTM(16, 8), torch.randn(100, 64, 16)))  # doctest: +ELLIPSIS
        LSTM(16, 8)
          runs on: ...
        >>> model = fastrnn.accelerate(nn.Sequential(nn.GRU(16, 8)))
        >>> print(explain(model, torch.randn(100, 64, 16)))  # doctest: +ELLIPSIS
        module  class         sizes  mode         runs on  calls  why
        0       torch.nn.GRU  16, 8  accelerated  ...
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"explain: module must be a torch.nn.Module, got {type(module).__name__}")
    if not isinstance(module, nn.RNNBase) or not inputs:
        return _report(module, inputs)
    (input, *_) = inputs
    if not isinstance(input, Tensor):
        raise TypeError(f"explain: input must be a tensor, got {type(input).__name__}")
    vocabulary = 0
    if tokens.has_ids(input) and hasattr(module, "_layer"):
        vocabulary = module.input_size if embedding is None else embedding.shape[0]
        input = tokens.as_float(module, input)
    if input.dim() not in (2, 3):
        raise ValueError(f"explain: input must have 2 or 3 dimensions, got {input.dim()}")
    path = paths.of(module, input)
    input, _, _ = dispatch.autocast(input, (), [])
    layers = _layers(module, input, vocabulary) if path.name == "kernels" else ()
    return Explanation(repr(module), path.name, path.reason, layers)


def _report(model: nn.Module, inputs: tuple[Any, ...]) -> Report:
    found = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.RNNBase | nn.RNNCellBase)
    }
    if not inputs:
        return Report(tuple(_use(name, m, paths.likely(m)) for name, m in found.items()))
    calls: dict[str, Counter[paths.Path]] = {name: Counter() for name in found}

    def record(name: str, module: nn.Module, args: Any, kwargs: Any) -> None:
        # A forward of its own may hand torch's another input than its own.
        own = convert.has_own_forward(module)
        input = args[0] if args else kwargs.get("input")
        calls[name][paths.likely(module) if own else paths.of(module, input)] += 1

    handles = [
        module.register_forward_pre_hook(functools.partial(record, name), with_kwargs=True)
        for name, module in found.items()
    ]
    try:
        model(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    uses = []
    for name, module in found.items():
        seen = calls[name] or {paths.Path("", "these inputs do not reach it"): 0}
        uses += [_use(name, module, path, count) for path, count in seen.items()]
    return Report(tuple(uses))


def _use(name: str, module: nn.Module, path: paths.Path, calls: int | None = None) -> Use:
    cls = type(module)
    where = cls.__module__.removesuffix(".modules.rnn").removesuffix(".modules")
    reason = path.reason
    if convert.has_own_forward(module) and path.name == "kernels":
        reason = f"where its own forward calls torch's, {reason}"
    return Use(
        name,
        f"{where.removesuffix('.cells')}.{cls.__name__}",
        module.extra_repr(),
        convert.mode_of(module),
        path.name,
        reason,
        calls,
    )


def _layers(module: nn.RNNBase, input: Tensor, vocabulary: int) -> tuple[LayerPlan, ...]:
    """`vocabulary`: of ids, for which `input` stands then; else 0."""
    shapes = _shapes(module, input)
    if input.is_cuda:
        return tuple(
            LayerPlan(k, shape, *_cuda_plan(module, shape, input)) for k, shape in enumerate(shapes)
        )
    return tuple(
        LayerPlan(k, shape, *_plan(module, shape, input, 0 if k else vocabulary))
        for k, shape in enumerate(shapes)
    )


def _shapes(module: nn.RNNBase, input: Tensor) -> list[tuple[int, int, int, int]]:
    """`(T, B, I, H)` of each layer."""
    time, batch = (1, 0) if module.batch_first else (0, 1)
    T, B = (input.shape[time], input.shape[batch]) if input.dim() == 3 else (input.shape[0], 1)
    between = (module.proj_size or module.hidden_size) * (2 if module.bidirectional else 1)
    inputs = [module.input_size] + [between] * (module.num_layers - 1)
    return [(T, B, features, module.hidden_size) for features in inputs]


def _plan(
    module: nn.RNNBase, shape: tuple[int, int, int, int], input: Tensor, vocabulary: int
) -> tuple[str, tuple[str, ...]]:
    """The regime and the reasons of a layer on the CPU."""
    from fastrnn import _C

    machine = _C.machine()
    gradients = _wants_gradients(module, input)
    pairs = input.dtype is torch.bfloat16 and _C.multiplies_bfloat16()
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
        **machine,
    )
    regime, reasons = _describe(plan, machine, shape, input.dtype)
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
    plan: dict[str, int], machine: dict[str, int], shape: tuple[int, ...], dtype: torch.dtype
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
    if plan["unit_parts"] > 1:
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
