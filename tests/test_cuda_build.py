"""The CUDA part of the build: what nvcc and ptxas made of the kernels, and how that is linked.

None of it runs a kernel. Where there is no nvcc there is nothing to see, and the tests are skipped.
"""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

import build_cuda
from fastrnn import _C
from fastrnn._info import CUDA_STATE, Info
from tests import cuda_budget

ARCHS = _C.cuda_archs()
REPORTS = cuda_budget.reports()
VERSION = _C.build_info()["cuda"]
NVCC = build_cuda.find("nvcc")
needs_kernels = pytest.mark.skipif(not ARCHS, reason="fastrnn._C was built without CUDA kernels")
needs_reports = pytest.mark.skipif(
    not (ARCHS and REPORTS), reason="CUDA kernels were not built in this folder"
)


@pytest.mark.skipif(NVCC is None, reason=f"no nvcc in {build_cuda.PLACES}")
@pytest.mark.skipif(os.environ.get("FASTRNN_BUILD_CUDA") == "0", reason="FASTRNN_BUILD_CUDA=0")
def test_nvcc_built_the_kernels():
    assert ARCHS, "build again, the tests of this file need the CUDA kernels"
    assert VERSION == build_cuda.ask(NVCC).version


@needs_kernels
@pytest.mark.parametrize("op", ["_layer_forward", "_layer_backward"])
def test_op_has_a_cuda_kernel_whatever_torch_was_built_for(op):
    for device in ("CPU", "CUDA"):
        assert torch._C._dispatch_has_kernel_for_dispatch_key(f"fastrnn::{op}", device)


@needs_kernels
@pytest.mark.skipif(shutil.which("readelf") is None, reason="no readelf, which is in binutils")
def test_extension_needs_no_cuda_library_and_shows_none_of_its_own():
    def readelf(option):
        command = ["readelf", "--wide", option, _C.__file__]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    needed = re.findall(r"\(NEEDED\).*\[(.*)\]", readelf("--dynamic"))
    assert "libtorch_cpu.so" in needed
    assert [name for name in needed if "cuda" in name or name.startswith("libnv")] == []
    assert re.findall(r" (?:cuda|cu|__cuda)[A-Z]\w+$", readelf("--dyn-syms"), re.MULTILINE) == []


@needs_reports
def test_every_kernel_is_compiled_for_every_architecture():
    for name, report in REPORTS.items():
        kernels = {arch: set() for arch in ARCHS}
        for usage in cuda_budget.parse(report):
            assert usage.registers > 0
            kernels[usage.arch].add(usage.kernel)
        assert len(kernels[ARCHS[0]]) > 10, name
        assert all(of == kernels[ARCHS[0]] for of in kernels.values()), name


@needs_reports
def test_no_kernel_spills_or_uses_the_stack():
    assert [usage for usage in cuda_budget.last_build() if usage.spilled or usage.stack] == []


@needs_reports
def test_no_kernel_of_narrower_types_computes_in_double_precision():
    doubles = {name for name, report in REPORTS.items() if "double precision" in report}
    assert doubles <= {"kernels_double"}


@needs_reports
def test_kernels_stay_within_their_budget():
    budget = json.loads(cuda_budget.BUDGET.read_text())
    if VERSION != budget["nvcc"]:
        pytest.skip(f"the budget is of nvcc {budget['nvcc']}, this build of {VERSION}")
    usages = cuda_budget.last_build()
    advice = "make it leaner, or write the new budget by `python -m tests.cuda_budget --write`"
    assert cuda_budget.excess(usages, budget) == [], advice
    assert set(budget["kernels"]) == {usage.kernel for usage in usages}, advice


def test_budget_notices_growth_and_new_kernels():
    usage = cuda_budget.Usage("recurrence<Gru>", "90", 100, 16, 0, 0)
    budget = json.loads(cuda_budget.as_json([usage], "13.0.88"))
    assert cuda_budget.excess([usage], budget) == []
    for change, wanted in [
        ({"registers": 101}, "takes [101, 16], its budget is [100, 16]"),
        ({"shared": 32}, "takes [100, 32]"),
        ({"arch": "100"}, "on sm_100 has no budget"),
        ({"kernel": "another"}, "another on sm_90 has no budget"),
    ]:
        (line,) = cuda_budget.excess([cuda_budget.Usage(**(vars(usage) | change))], budget)
        assert wanted in line
    assert cuda_budget.excess([cuda_budget.Usage(**(vars(usage) | {"registers": 1}))], budget) == []


PLANTED = {
    "spill": (
        "__launch_bounds__(1024, 2) void kernel(float* x) { float kept[48];"
        "for (int i = 0; i < 48; ++i) kept[i] = x[i * 999]; __syncthreads();"
        "for (int i = 0; i < 48; ++i) x[i * 7] = kept[47 - i]; }",
        "Registers are spilled",
    ),
    "stack": (
        "void kernel(float* x) { __shared__ float all[8]; all[threadIdx.x] = x[1]; float kept[64];"
        "for (int i = 0; i < 64; ++i) kept[int(x[i])] = i; x[0] = kept[int(x[1])] + all[0]; }",
        "Local memory used",
    ),
    "double": ("void kernel(float* x) { x[threadIdx.x] *= 0.1; }", "double precision"),
}


@pytest.mark.skipif(NVCC is None, reason="no nvcc")
@pytest.mark.parametrize("planted", PLANTED)
def test_gate_stops_a_kernel_that_should_not_pass(tmp_path, planted):
    body, wanted = PLANTED[planted]
    source = tmp_path / "kernels_float.cu"
    source.write_text(f"__global__ {body}\n")

    def build(strict):
        output = tmp_path / "kernels_float.o"
        command = build_cuda.command(build_cuda.ask(NVCC), ["80"], source, output, strict)
        return build_cuda.run(command)

    with pytest.raises(build_cuda.Unusable, match=wanted):
        build(strict=True)
    report = build(strict=False)
    (usage,) = cuda_budget.parse(report)
    assert (usage.spilled > 0) == (planted == "spill")
    assert (usage.stack > 0) == (planted != "double")
    assert usage.shared == (32 if planted == "stack" else 0)
    assert ("double precision" in report) == (planted == "double")


def instructions(name):
    """Returns (kernel, machine code of the oldest GPU), where there are NVIDIA's disassemblers."""
    cuobjdump, nvdisasm = (
        build_cuda.find(name) or build_cuda.find(name, {"PATH": os.environ["PATH"]})
        for name in ("cuobjdump", "nvdisasm")
    )
    if cuobjdump is None or nvdisasm is None:
        pytest.skip("no cuobjdump and nvdisasm, which pip has as nvidia-cuda-{cuobjdump,nvdisasm}")
    path = os.pathsep.join([str(Path(nvdisasm).parent), os.environ["PATH"]])
    objects = cuda_budget.ROOT / build_cuda.OBJECTS
    command = [cuobjdump, "-sass", "-arch", f"sm_{ARCHS[0]}", str(objects / f"{name}.o")]
    told = subprocess.run(
        command, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=True
    ).stdout
    parts = re.split(r"Function : (\w+)", told)[1:]
    names = cuda_budget.readable(parts[::2])
    return [(names[part], code) for part, code in zip(parts[::2], parts[1::2], strict=True)]


@needs_reports
@pytest.mark.parametrize("name", ["kernels_half", "kernels_bfloat16", "kernels_float"])
def test_machine_code(name):
    kernels = instructions(name)
    assert len(kernels) > 10
    for kernel, code in kernels:
        assert re.findall(r"\b(?:LDL|STL|DADD|DMUL|DFMA)\b.*", code) == [], kernel
        if kernel.startswith("recurrence"):
            tensor_cores = "TileLanes" in kernel and name != "kernels_float"
            assert ("HMMA.16816.F32" in code) == tensor_cores, kernel
            assert re.search(r"\bLDG\.E\.\S*128", code), kernel


def test_info_tells_what_there_is_for_gpus():
    facts = {"version": "0", "torch": "2", "threads": 1, "loaded": True, "cpu_isa": "avx2"}
    assert "cuda        no kernels, built without nvcc" in str(Info(**facts))
    told = str(Info(**facts, cuda_archs=("80", "120")))
    assert f"cuda        kernels for sm_80, sm_120 and newer: {CUDA_STATE}" in told
    assert CUDA_STATE == "compiled and simulated, never run on a GPU"
