"""What several test files share: the cells, pairs of equal modules, and one full evaluation."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any

import hypothesis
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import fastrnn
from fastrnn.reference import MODES

__all__ = [
    "LAYOUTS",
    "MODES",
    "NIGHTLY",
    "OpCalls",
    "build",
    "evaluate",
    "layer_arguments",
    "make_states",
    "pair",
]

LAYOUTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "layers": {"num_layers": 2, "bias": False},
    "both": {"num_layers": 2, "bidirectional": True, "batch_first": True},
}
"""For tests whose cases take seconds: together they have each of these options."""

NIGHTLY = hypothesis.settings.get_current_profile_name() == "nightly"
"""Whether the search is the wide one of conftest.py, for which such tests take all their cases."""

GATES = {"RNN_TANH": 1, "RNN_RELU": 1, "LSTM": 4, "GRU": 3}


def build(package: Any, mode: str, *args: Any, **kwargs: Any) -> Any:
    """The module of `package` (`fastrnn` or `torch.nn`) for a mode of `torch.nn.RNNBase`."""
    if mode.startswith("RNN_"):
        return package.RNN(*args, nonlinearity=mode.removeprefix("RNN_").lower(), **kwargs)
    return getattr(package, mode)(*args, **kwargs)


def pair(mode: str, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
    """A module of fastrnn and the one of torch.nn, with equal weights."""
    ours, theirs = build(fastrnn, mode, *args, **kwargs), build(nn, mode, *args, **kwargs)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def make_states(module: nn.RNNBase, batch: int | None) -> Any:
    """Random first states in the form that the module takes; `batch` None: unbatched."""
    layers = module.num_layers * (2 if module.bidirectional else 1)
    shape = (layers,) if batch is None else (layers, batch)
    dtype = module.weight_ih_l0.dtype
    hx = torch.randn(*shape, module.proj_size or module.hidden_size, dtype=dtype)
    return (
        (hx, torch.randn(*shape, module.hidden_size, dtype=dtype)) if module.mode == "LSTM" else hx
    )


def evaluate(
    module: Any,
    input: Tensor,
    hx: Any = None,
    *,
    frozen: Container[str] = (),
    call: Callable[..., Any] = nn.Module.__call__,
) -> tuple[Any, dict[str, Tensor]]:
    """The results of a call, and the gradients of a weighted sum of them by everything.

    By everything that requires one: `frozen` may name "input", "state 0" and "state 1". `call` is
    called as `call(module, input, hx)`, without hx where there is none.
    """
    input = input.detach().requires_grad_("input" not in frozen)
    states = [] if hx is None else [hx] if isinstance(hx, Tensor) else list(hx)
    states = [s.detach().requires_grad_(f"state {k}" not in frozen) for k, s in enumerate(states)]
    output, finals = call(module, input, *([_like(states, hx)] if states else []))
    finals = list(finals) if isinstance(finals, tuple) else [finals]
    loss = sum((result * _weights(result)).sum() for result in (output, *finals))
    by = {"input": input, **{f"state {k}": state for k, state in enumerate(states)}}
    by = {k: t for k, t in (by | dict(module.named_parameters())).items() if t.requires_grad}
    gradients = torch.autograd.grad(loss, list(by.values())) if by else ()
    results = (output.detach(), *(final.detach() for final in finals))
    return results, dict(zip(by, gradients, strict=True))


def layer_arguments(
    mode: str,
    steps: int = 5,
    batch: int = 3,
    inputs: int = 4,
    hidden: int = 6,
    *,
    bias: bool = True,
    dtype: torch.dtype = torch.float32,
    requires_grad: bool = False,
) -> list[Tensor | None]:
    """Random tensors in the order that `fastrnn.reference.layer` takes them."""
    rows = GATES[mode] * hidden
    shapes: list[Any] = [
        (steps, batch, inputs),
        (batch, hidden),
        (batch, hidden) if mode == "LSTM" else None,
        (rows, inputs),
        (rows, hidden),
        (rows,) if bias else None,
        (rows,) if bias else None,
    ]
    return [
        shape and (0.5 * torch.randn(shape, dtype=dtype)).requires_grad_(requires_grad)
        for shape in shapes
    ]


def _like(states: list[Tensor], hx: Any) -> Any:
    return states[0] if isinstance(hx, Tensor) else type(hx)(states)


def _weights(result: Tensor) -> Tensor:
    """Different for each element, so that no two mistakes cancel; the same in every call."""
    generator = torch.Generator("cpu").manual_seed(result.numel())
    weights = torch.randn(result.shape, generator=generator, dtype=torch.float64, device="cpu")
    return weights.to(result)


class OpCalls(TorchDispatchMode):
    """Records the calls of fastrnn's ops in its block, those of backward too."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, tuple[Any, ...]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "fastrnn":
            self.calls.append((func._opname, args))
        return func(*args, **(kwargs or {}))

    def names(self) -> list[str]:
        return [name for name, _ in self.calls]
