"""What no CUDA kernel may use, by the text of the sources."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

CUDA = Path(__file__).resolve().parents[1] / "csrc" / "cuda"
SOURCES = sorted(path for path in CUDA.iterdir() if path.suffix in {".cu", ".cuh", ".h", ".cpp"})

# Each with the reason, and a line that it must find.
FORBIDDEN = {
    r"\b__ldg\b|\b__restrict(__)?\b|\bld\.global\.nc\b": (
        "the read-only cache does not see what other multiprocessors write in a launch",
        "const E x = __ldg(from);",
    ),
    r"\batomic[A-Z]\w*|\batom\.|\bred\.global\b|\batomic_ref\b": (
        "the order of atomics, and so of roundings, changes from run to run",
        "atomicAdd(sum, x);",
    ),
    r"\b__(exp|exp10|log|log2|log10|pow|sin|cos|sincos|tan|tanh)f\b|\b__fdividef\b|\b__frcp_\w+"
    r"|\b__fsqrt_\w+|\b\w+\.approx\b|\bh2?(exp|tanh|rcp)\w*\(|use_fast_math": (
        "approximate functions are off by more than the 2 ulp that number.cuh promises",
        'asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(x));',
    ),
    r"\bcudaMalloc\w*|\bcudaFree\w*|\bcuda(Device|Stream|Event|Thread)Synchronize\b|\bcudaMemcpy\b"
    r"|\bcudaStreamQuery\b": (
        "a CUDA graph cannot capture it, and memory is torch's to give",
        "cudaStreamSynchronize(stream);",
    ),
    r"<<<": (
        "launches have attributes, and their errors are returned (cudaLaunchKernelEx)",
        "recurrence<<<grid, block>>>(pass);",
    ),
}
SHARED = r"\b__shared__\b"


def code(text: str) -> str:
    """The text without comments, line for line."""
    return re.sub(r"//[^\n]*", "", text)


def found(pattern: str, path: Path) -> list[str]:
    lines = code(path.read_text()).splitlines()
    return [
        f"{path.name}:{number}: {line.strip()}"
        for number, line in enumerate(lines, 1)
        if re.search(pattern, line)
    ]


def test_there_are_kernels_to_look_at():
    assert {"recurrence.cuh", "multiply.cuh", "device.cuh"} <= {path.name for path in SOURCES}


@pytest.mark.parametrize("pattern", FORBIDDEN)
def test_kernels_do_not_use(pattern):
    reason, example = FORBIDDEN[pattern]
    assert re.search(pattern, code(example)), "the pattern finds nothing"
    lines = [line for path in SOURCES for line in found(pattern, path)]
    assert not lines, "\n".join([f"{reason}:", *lines])


def test_shared_memory_is_declared_by_the_macro_alone():
    lines = {path.name: found(SHARED, path) for path in SOURCES}
    assert len(lines.pop("device.cuh")) == 1
    assert not any(lines.values()), f"FASTRNN_SHARED of device.cuh declares it, not: {lines}"
