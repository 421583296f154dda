"""Whether somebody looks through a call, who then sees functions of torch only."""

from __future__ import annotations

import torch
from torch.autograd import forward_ad

# Private in torch, and without a public equal; test_ops.py fails if torch takes either away.
functorch_active = getattr(torch._C, "_are_functorch_transforms_active", lambda: False)


def is_transformed() -> bool:
    """Whether a transform of `torch.func`, or forward-mode differentiation, is active."""
    return functorch_active() or forward_ad._current_level >= 0


def can_be_read() -> bool:
    """Whether values are at hand: not while a program is traced or transformed."""
    tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return not (torch.compiler.is_compiling() or is_transformed() or tracing)
