"""Why a call runs as it does: which code takes it, and how the kernels' plan cuts its work."""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import dataclass
from typing import Any, overload

from torch import Tensor, nn

from fastrnn import convert, dispatch, paths, plans, tokens


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
    layers: tuple[plans.LayerPlan, ...] = ()

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
    layers = plans.of_layers(module, input, vocabulary) if path.name == "kernels" else ()
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
