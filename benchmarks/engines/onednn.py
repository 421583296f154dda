"""oneDNN called directly, by a small program in C++ that is compiled at first use."""

from __future__ import annotations

import ctypes
import hashlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.cases import CELLS, GATES, Problem
from benchmarks.engines.base import (
    UPDATE_FIRST,
    Engine,
    Unavailable,
    Workload,
    library,
    reorder_gates,
)

SOURCE = Path(__file__).with_suffix(".cpp")
PACKAGE = "onednn-devel"
BUFFERS = (
    "input", "weight_ih", "weight_hh", "bias", "output", "h_n", "c_n",
    "grad_output", "grad_input", "grad_weight_ih", "grad_weight_hh", "grad_bias",
)  # fmt: skip


class Sizes(ctypes.Structure):
    """As in the C++ file."""

    _fields_ = [(name, ctypes.c_int64) for name in "TBIH"]


class Buffers(ctypes.Structure):
    """As in the C++ file."""

    _fields_ = [(name, ctypes.c_void_p) for name in BUFFERS]


def build(folder: Path) -> Path:
    """The compiled program, from `folder` if it is there already.

    Raises:
        Unavailable: there is no compiler, or it failed.
    """
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("c++")
    if not compiler:
        raise Unavailable("a C++ compiler is needed: install g++ or set CXX")
    files = importlib.metadata.files(PACKAGE) or []
    header = next(file for file in files if str(file).endswith("oneapi/dnnl/dnnl.hpp"))
    include = Path(str(header.locate())).resolve().parents[2]
    options = [
        "-std=c++17", "-O2", "-shared", "-fPIC", f"-I{include}", f"-L{libraries()}", "-ldnnl",
        f"-Wl,-rpath,{libraries()}", "-Wl,--allow-shlib-undefined",
    ]  # fmt: skip
    key = f"{importlib.metadata.version(PACKAGE)} {compiler} {options}".encode()
    digest = hashlib.sha256(SOURCE.read_bytes() + key).hexdigest()[:16]
    target = folder / f"onednn-{digest}.so"
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            made = Path(temporary) / target.name
            command = [compiler, str(SOURCE), "-o", str(made), *options]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise Unavailable(f"{' '.join(command)} failed: {done.stderr.strip()[-500:]}")
            made.replace(target)
    return target


def libraries() -> Path:
    """Where the wheel puts its libraries, and those of the packages it needs."""
    return Path(sys.prefix) / "lib"


class Layer(Workload):
    """Primitives and buffers of one case; they live as long as this object."""

    def __init__(self, program: ctypes.CDLL, problem: Problem) -> None:
        self.program, self.cell = program, problem.case.cell
        training = problem.case.step == "training"
        self.tensors = tensors(problem)
        pointers = {name: tensor.data_ptr() for name, tensor in self.tensors.items()}
        shape = problem.case.shape
        self.handle = program.onednn_create(
            CELLS.index(self.cell),
            ctypes.byref(Sizes(shape.T, shape.B, shape.I, shape.H)),
            problem.case.dtype == "bfloat16",
            training,
            ctypes.byref(Buffers(**pointers)),
        )
        if not self.handle:
            raise Unavailable(f"oneDNN refused: {program.onednn_error().decode()}")
        self.note = f"kernels {program.onednn_kernels(self.handle).decode()}"
        self.call = program.onednn_train if training else program.onednn_forward

    def __call__(self) -> None:
        if not self.call(self.handle):
            raise RuntimeError(f"oneDNN failed: {self.program.onednn_error().decode()}")

    def results(self) -> dict[str, Tensor]:
        order, found = UPDATE_FIRST[self.cell], {"output": self.tensors["output"]}
        for name in ("h_n", "c_n"):
            if name in self.tensors:
                found[name] = self.tensors[name][None]
        if "grad_input" in self.tensors:
            found["grad_input"] = self.tensors["grad_input"]
            for name in ("weight_ih", "weight_hh"):
                found[f"{name}_l0"] = reorder_gates(self.tensors[f"grad_{name}"], order)
            biases = split_bias(self.tensors["grad_bias"], self.cell)
            for name, bias in zip(("bias_ih_l0", "bias_hh_l0"), biases, strict=True):
                found[name] = reorder_gates(bias, order)
        return found

    def __del__(self) -> None:
        if getattr(self, "handle", None):
            self.program.onednn_destroy(self.handle)


def tensors(problem: Problem) -> dict[str, Tensor]:
    """All that a layer reads and writes, in oneDNN's order of gates."""
    case, shape = problem.case, problem.case.shape
    weight_ih, weight_hh, bias_ih, bias_hh = (
        reorder_gates(weight, UPDATE_FIRST[case.cell]) for weight in problem.weights.values()
    )
    made = {
        "input": problem.input,
        "weight_ih": weight_ih,
        "weight_hh": weight_hh,
        "bias": join_bias(bias_ih.float(), bias_hh.float(), case.cell),
        "output": torch.empty(shape.T, shape.B, shape.H, dtype=case.torch_dtype),
        "h_n": torch.empty(shape.B, shape.H, dtype=case.torch_dtype),
    }
    if case.cell == "LSTM":
        made["c_n"] = torch.empty(shape.B, shape.H)
    if case.step == "training":
        made["grad_output"] = problem.grad_output.float()
        for name in ("input", "weight_ih", "weight_hh", "bias"):
            made[f"grad_{name}"] = torch.empty(made[name].shape)
    return made


def join_bias(bias_ih: Tensor, bias_hh: Tensor, cell: str) -> Tensor:
    """One bias; a GRU's last gate keeps two, since the reset gate multiplies one of them."""
    if cell != "GRU":
        return bias_ih + bias_hh
    hidden = bias_hh.shape[0] // GATES[cell]
    joined = bias_ih.clone()
    joined[: 2 * hidden] += bias_hh[: 2 * hidden]
    return torch.cat([joined, bias_hh[2 * hidden :]])


def split_bias(grad_bias: Tensor, cell: str) -> tuple[Tensor, Tensor]:
    """Gradients of both biases from those of the joined one."""
    if cell != "GRU":
        return grad_bias, grad_bias
    z, r, input_n, hidden_n = grad_bias.chunk(4)
    return torch.cat([z, r, input_n]), torch.cat([z, r, hidden_n])


class OneDNN(Engine):
    """The wheel computes through SYCL and OpenCL on the CPU."""

    packages = (PACKAGE,)

    def environment(self, threads: int) -> Mapping[str, str]:
        # The wheel finds neither its own libraries nor its OpenCL device.
        path = [str(libraries()), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
        return {
            "LD_LIBRARY_PATH": os.pathsep.join(path),
            "OCL_ICD_FILENAMES": str(libraries() / "libintelocl.so"),
        }

    def start(self, threads: int) -> None:
        folder = library("fastrnn.imdb.download").cache_folder() / "benchmarks"
        program = ctypes.CDLL(str(build(folder)))
        for name in ("onednn_error", "onednn_kernels"):
            getattr(program, name).restype = ctypes.c_char_p
        program.onednn_create.restype = ctypes.c_void_p
        for name in ("onednn_kernels", "onednn_forward", "onednn_train", "onednn_destroy"):
            getattr(program, name).argtypes = [ctypes.c_void_p]
        if not program.onednn_start():
            raise Unavailable(f"oneDNN found no CPU: {program.onednn_error().decode()}")
        self.program: Any = program

    def make(self, problem: Problem) -> Workload:
        return Layer(self.program, problem)
