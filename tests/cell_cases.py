"""What the tests of cells share: pairs of equal cells, their states, and one full evaluation."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

import fastrnn

CELLS = ["RNNCell", "LSTMCell", "GRUCell"]


def pair(name: str, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
    """A cell of fastrnn and the one of torch.nn, with equal weights."""
    ours, theirs = getattr(fastrnn, name)(*args, **kwargs), getattr(nn, name)(*args, **kwargs)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def make_states(cell: Any, *shape: int) -> Any:
    """Random states of `shape` before the hidden units, in the form that the cell takes."""
    h, c = torch.randn(2, *shape, cell.hidden_size, dtype=cell.weight_ih.dtype)
    return (h, c) if isinstance(cell, nn.LSTMCell | fastrnn.LSTMCell) else h


def as_list(states: Any) -> list[Any]:
    return [] if states is None else list(states) if isinstance(states, tuple | list) else [states]


def evaluate(cell: Any, input: torch.Tensor, hx: Any = None) -> tuple[Any, Any]:
    """The next states, and the gradients of a weighted sum of them by everything."""
    input = input.detach().requires_grad_()
    states = [state.detach().requires_grad_() for state in as_list(hx)]
    given_hx = [] if hx is None else [tuple(states) if isinstance(hx, tuple | list) else states[0]]
    results = as_list(cell(input, *given_hx))
    loss = sum(
        (result * torch.linspace(-1, 2, result.numel(), dtype=result.dtype).view_as(result)).sum()
        for result in results
    )
    gradients = torch.autograd.grad(loss, [input, *states, *cell.parameters()])
    return [result.detach() for result in results], list(gradients)
