"""fastrnn's CUDA kernels on the simulator, in the place of those for the CPU."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.cpp_extension import include_paths

from fastrnn import dispatch

from . import build
from .simulator import Simulator

SOURCES = [
    *(f"csrc/cuda/kernels_{name}.cu" for name in ("float", "double", "half", "bfloat16")),
    "csrc/cuda/ops.cpp",
    "csrc/cuda/plan.cpp",
]

FAMILIES: dict[str, dict[str, int]] = {
    "block": {},
    "grid": {"multiprocessors": 64, "shared_per_block": 4096},
    "launch": {"multiprocessors": 1, "shared_per_block": 8192},
}
"""Devices on which small layers are planned so."""


@cache
def simulator() -> Simulator:
    """The kernels of all dtypes and their ops, `fastrnn_sim::_layer_forward` and `_layer_backward`.

    Skips the test that asks where they cannot be built.
    """
    if reason := build.missing():
        pytest.skip(reason)
    libraries = Path(torch.__file__).parent / "lib"
    flags = ["-DFASTRNN_CUDA_SIM", "-DTORCH_TARGET_VERSION=0x020d000000000000ULL"]
    flags += ["-ffp-contract=off", *(f"-isystem{path}" for path in include_paths())]
    link = [f"-L{libraries}", "-ltorch_cpu", "-lc10", f"-Wl,-rpath,{libraries}"]
    return Simulator(build.build("ops", SOURCES, "plain", flags=flags, link=link))


def use(family: str, monkeypatch: pytest.MonkeyPatch) -> Simulator:
    """Lets fastrnn run layers of CPU tensors on the simulator, as on a GPU: one op a layer."""
    simulated = simulator()
    simulated.schedule("inorder")
    simulated.device(**FAMILIES[family])
    for name in ("_layer_forward", "_layer_backward"):
        real: Any = getattr(torch.ops.fastrnn, name)
        monkeypatch.setattr(real, "default", getattr(torch.ops.fastrnn_sim, name).default)
    monkeypatch.setattr(dispatch, "runs_at_once", lambda *_: False)
    return simulated
