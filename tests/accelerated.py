"""What the tests of `accelerate` share: twins of a module, what it returns, and kernel calls."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.profiler import profile

import fastrnn

SEQUENCES = ["RNN", "LSTM", "GRU"]
CELLS = ["RNNCell", "LSTMCell", "GRUCell"]


def twins(name: str, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
    """A module of torch.nn that is accelerated, and an equal one that is not.

    Smaller Elman cells than this are left to torch.
    """
    stock = getattr(nn, name)(*args or (5, 256 if name == "RNNCell" else 6), **kwargs)
    return fastrnn.accelerate(copy.deepcopy(stock)), stock


def hidden_weight(module: Any) -> str:
    """The name of the first weight that the state is multiplied with."""
    return "weight_hh" if isinstance(module, nn.RNNCellBase) else "weight_hh_l0"


def make_input(module: Any) -> Tensor:
    """Random input of three rows, of four steps where the module takes steps."""
    shape = (3,) if isinstance(module, nn.RNNCellBase) else (4, 3)
    return torch.randn(*shape, module.input_size)


def make_states(module: Any) -> Any:
    """Random states that go with `make_input`."""
    shape = (3,) if isinstance(module, nn.RNNCellBase) else (module.num_layers, 3)
    h, c = torch.randn(2, *shape, module.hidden_size)
    return (h, c) if isinstance(module, nn.LSTM | nn.LSTMCell) else h


def flat(results: Any) -> list[Tensor]:
    """The tensors in what a module or a model returns, in order."""
    if isinstance(results, Tensor):
        return [results]
    return [tensor for part in results for tensor in flat(part)]


def gradients(model: nn.Module, *inputs: Any) -> list[Tensor]:
    """The results of a call, and the gradients of the sum of their squares by all parameters."""
    model.zero_grad()
    results = flat(model(*inputs))
    sum((result.square().sum() for result in results), torch.tensor(0.0)).backward()
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    return [tensor.detach().clone() for tensor in (*results, *grads)]


@contextmanager
def kernel_calls() -> Iterator[list[str]]:
    """The ops of fastrnn that were called inside, in a list that is filled at the end."""
    calls: list[str] = []
    with profile() as profiled:
        yield calls
    calls += [e.name for e in profiled.function_events if e.name.startswith("fastrnn::")]
