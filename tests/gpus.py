"""What tests of CUDA calls share: a GPU that is only said to be there."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fastrnn import _C, devices

# What the GPU of one test answers is not kept for the next.
_cuda_refusal: Any = devices._cuda_refusal.__wrapped__


def say_there_is(
    monkeypatch: pytest.MonkeyPatch,
    capability: tuple[int, int] = (9, 0),
    archs: tuple[str, ...] = ("80", "90"),
) -> None:
    """A GPU of this capability, and kernels that were compiled for `archs`."""
    monkeypatch.setattr(_C, "cuda_archs", lambda: list(archs))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: capability)
    facts = SimpleNamespace(
        multi_processor_count=132,
        shared_memory_per_block_optin=232448,
        major=capability[0],
        minor=capability[1],
    )
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: facts)
    monkeypatch.setattr(devices, "_cuda_refusal", _cuda_refusal)


def say_tensors_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every tensor says that it is on the GPU, and computes on the CPU as before."""
    answers: dict[str, Any] = {
        "is_cpu": property(lambda tensor: False),
        "is_cuda": property(lambda tensor: True),
        "get_device": lambda tensor: 0,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(torch.Tensor, name, answer, raising=False)
