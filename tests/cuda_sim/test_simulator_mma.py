"""The simulated tensor-core product, and where its lanes have their elements.

The layout is written down three times: in cuda_sim_warp.h, here by the figures of the PTX ISA, and
in CuTe, NVIDIA's own library, whose tables settle it:

    pip install --no-deps nvidia-cutlass==4.2.0
"""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from . import build
from .fixtures import library

pytestmark = pytest.mark.skipif(build.missing() is not None, reason=str(build.missing()))

# (lane, element) -> (row, column) of each operand.
Layout = dict[tuple[int, int], tuple[int, int]]


def ptx_layouts() -> dict[str, Layout]:
    """PTX ISA, "Matrix fragments for mma.m16n8k16 with floating point type"."""
    layouts: dict[str, Layout] = {"a": {}, "b": {}, "d": {}}
    for lane in range(32):
        group, in_group = divmod(lane, 4)
        for i in range(8):
            row = group if i < 2 or 4 <= i < 6 else group + 8
            column = in_group * 2 + (i & 1) + (0 if i < 4 else 8)
            layouts["a"][lane, i] = row, column
        for i in range(4):
            row = in_group * 2 + (i & 1) + (0 if i < 2 else 8)
            layouts["b"][lane, i] = row, group
            row = group if i < 2 else group + 8
            layouts["d"][lane, i] = row, in_group * 2 + (i & 1)
    return layouts


def cute_layouts() -> dict[str, Layout]:
    """What a program that includes CuTe's headers prints, compiled and run here."""
    spec = importlib.util.find_spec("cutlass_library")
    if spec is None or spec.origin is None:
        pytest.skip("no CuTe: pip install --no-deps nvidia-cutlass==4.2.0")
    cuda = build.cuda_include()
    folders = [Path(spec.origin).parent / "source" / "include", cuda, cuda / "cccl"]
    if not any((folder / "cuda" / "std" / "version").exists() for folder in folders):
        pytest.skip("no cuda/std beside NVIDIA's headers: pip install nvidia-cuda-cccl")
    flags = ("-w", *(f"-isystem{folder}" for folder in folders))
    compiled = build.compiled(build.ROOT, f"{library.FOLDER}/cute_layout.cpp", flags)
    command = [*build.compiler(), str(compiled)]
    program = build.kept("linked", "cute_layout", "", command, build.hashed(*command))
    printed = subprocess.check_output([program], text=True)
    layouts: dict[str, Layout] = {"a": {}, "b": {}, "d": {}}
    for line in printed.splitlines():
        operand, *numbers = line.split()
        lane, element, row, column = map(int, numbers)
        # CuTe's B is (columns, depth).
        layouts[operand][lane, element] = (column, row) if operand == "b" else (row, column)
    return layouts


def scattered(matrix: np.ndarray, layout: Layout) -> np.ndarray:
    """Elements of lanes (32, n) that hold a matrix."""
    registers = np.empty((32, len(layout) // 32), matrix.dtype)
    for place, element in layout.items():
        registers[place] = matrix[element]
    return registers


def packed(registers: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    """Two elements of a half type to a register."""
    return torch.from_numpy(registers).to(dtype).view(torch.int32).numpy()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("layouts", [ptx_layouts, cute_layouts])
@pytest.mark.parametrize("schedule", ["inorder", "unfair"])
def test_product_of_fragments_is_that_of_matrices(layouts, dtype, schedule):
    layout = layouts()
    rng = np.random.default_rng(0)
    # Small integers: every sum is exact, in whatever order.
    a, b, d = (rng.integers(-8, 9, s).astype(np.float32) for s in [(16, 16), (16, 8), (16, 8)])
    left, right = (packed(scattered(m, layout[n]), dtype) for m, n in ((a, "a"), (b, "b")))
    sums = scattered(d, layout["d"])
    simulator = library.kernels()
    simulator.schedule(schedule)
    is_half = int(dtype == torch.float16)
    assert library.call(simulator, "mma", is_half, left, right, sums) == library.SUCCESS
    assert np.array_equal(sums, scattered(a @ b + d, layout["d"]))


def test_layout_is_that_of_cute():
    layouts = ptx_layouts()
    assert layouts == cute_layouts()
    sizes = {operand: len(set(layout.values())) for operand, layout in layouts.items()}
    assert sizes == {"a": 16 * 16, "b": 16 * 8, "d": 16 * 8}
