"""Ops whose gradients survive `torch.export`.

torch exports what a call did below its autograd functions: a graph of our raw ops, which have no
gradient, so that whoever trains the program would train less of it than there is. A call in which
gradients may be wanted is exported as an op of the kind defined here instead, which calls the
autograd function wherever the program runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

_library = torch.library.Library("fastrnn", "FRAGMENT")  # type: ignore[no-untyped-call]


def define(schema: str, function: Callable[..., Any]) -> None:
    """Makes `function`, which may call autograd functions, an op of the namespace `fastrnn`.

    Args:
        schema: its name, arguments and results, as PyTorch's dispatcher writes them.
        function: takes them and returns them, for fake tensors too.
    """
    _library.define(schema)  # type: ignore[no-untyped-call]
    name = schema.partition("(")[0]
    _library.impl(name, function, "CompositeImplicitAutograd")  # type: ignore[no-untyped-call]


def is_tracing() -> bool:
    """Whether `torch.export` is looking on and gradients may be wanted of what it sees."""
    return torch.compiler.is_exporting() and torch.is_grad_enabled()
