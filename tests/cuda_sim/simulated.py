"""fastrnn's CUDA kernels on the simulator, in the place of those for the CPU."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import MODES
from torch.utils.cpp_extension import include_paths

from fastrnn import _C, at_once, dispatch

from . import build
from .simulator import Simulator

SOURCES = [
    *(f"csrc/cuda/kernels_{name}.cu" for name in ("float", "double", "half", "bfloat16")),
    "csrc/cuda/ops.cpp",
    "csrc/cuda/plan.cpp",
]

FAMILIES = ("block", "grid", "launch")
"""What the plans of a layer can be."""


def device(
    family: str, mode: str, batch: int, hidden: int, dtype: torch.dtype = torch.float32
) -> dict[str, int]:
    """A device on which a layer is planned so, forward and backward."""
    multiprocessors = {"block": 16, "grid": 1024, "launch": 1}[family]
    sizes = (3, batch, hidden)
    for shared in (227 << 10, *range(32 << 10, 0, -256)):
        try:
            plans = [
                _C.cuda_plan(
                    MODES.index(mode), dtype.itemsize, back, *sizes, multiprocessors, shared, 90
                )
                for back in (False, True)
            ]
        except ValueError:  # nothing fits any more
            break
        if all(plan["scope"] == family for plan in plans):
            return {"multiprocessors": multiprocessors, "shared_per_block": shared}
    raise AssertionError(f"no device has the plan {family!r} for {mode} {sizes} {dtype}")


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


def use(device: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> Simulator:
    """Lets fastrnn run layers of CPU tensors on the simulator, as on a GPU: one op a layer."""
    simulated = simulator()
    simulated.schedule("inorder")
    simulated.device(**device)
    for name in ("_layer_forward", "_layer_backward"):
        real: Any = getattr(torch.ops.fastrnn, name)
        monkeypatch.setattr(real, "default", getattr(torch.ops.fastrnn_sim, name).default)
    monkeypatch.setattr(at_once, "run", lambda *_: None)
    monkeypatch.setattr(dispatch, "wants_one_op", lambda *_: False)
    return simulated
