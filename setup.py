"""Builds the extension fastrnn._C; everything else about the package is in pyproject.toml.

Environment variables:
    FASTRNN_BUILD_EXT: 1 (default) builds, and installs the pure-PyTorch fallback where building
        fails; "require" fails instead; 0 does not build.
    FASTRNN_BUILD_CUDA: auto (default) builds the CUDA kernels, too, where there is an nvcc, and
        goes without them where it cannot; 1 fails instead, and so does auto with an nvcc that
        cannot build them if FASTRNN_BUILD_EXT is "require"; 0 does not build them. A torch for CPUs
        will do.
    FASTRNN_CUDA_ARCHS: GPU architectures to compile for, as "80;90". Default: those of 80, 90, 100
        and 120 that nvcc knows. Newer GPUs than the newest compile the kernels when first used.
    CUDA_HOME: the CUDA toolkit. Default: that of the nvcc on PATH, else /usr/local/cuda, else pip's
        packages nvidia-cuda-{nvcc,crt,runtime,cccl} and nvidia-nvvm, all of one version.
    MAX_JOBS: compilers to run at once (default: the number of cores, at most 4).
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from setuptools import Extension, setup


def fail(message: str) -> NoReturn:
    """Ends the build with one sentence instead of a traceback."""
    sys.exit(f"fastrnn: {message}")


def knob(name: str, default: str, allowed: tuple[str, ...]) -> str:
    """Returns an environment variable's value, one of those allowed."""
    value = os.environ.get(name, default)
    if value not in allowed:
        fail(f"{name} must be one of {', '.join(allowed)}, got {value!r}.")
    return value


BUILD_EXT = knob("FASTRNN_BUILD_EXT", "1", ("0", "1", "require"))
BUILD_CUDA = knob("FASTRNN_BUILD_CUDA", "auto", ("0", "1", "auto"))
if BUILD_CUDA == "1" and BUILD_EXT == "0":
    fail("FASTRNN_BUILD_CUDA=1 cannot be met with FASTRNN_BUILD_EXT=0, which builds nothing.")
CUDA_ARCHS = os.environ.get("FASTRNN_CUDA_ARCHS") or None
if not re.fullmatch(r"(8|9|1\d)\d(;(8|9|1\d)\d)*", CUDA_ARCHS or "80"):
    fail(
        "FASTRNN_CUDA_ARCHS must be compute capabilities from 8.0 on without their dots, as "
        f"'80;90', got {CUDA_ARCHS!r}."
    )
MAX_JOBS = os.environ.setdefault("MAX_JOBS", str(min(os.cpu_count() or 1, 4)))
if not MAX_JOBS.isdecimal() or int(MAX_JOBS) == 0:
    fail(f"MAX_JOBS must be a positive whole number, got {MAX_JOBS!r}.")


def matching(*patterns: str) -> list[str]:
    """Returns the files, relative to this one as setuptools wants, in an order all disks share."""
    return sorted(str(path) for pattern in patterns for path in Path().glob(pattern))


def add_cuda_kernels(module: Extension, warn: Callable[[str], None]) -> None:
    """Compiles the CUDA kernels, where they are wanted and can be, and links them into module."""
    sys.path.insert(0, str(Path(__file__).parent))  # which isolated builds leave out
    import build_cuda

    archs: tuple[str, ...] = ()
    version = "none"
    nvcc = None if BUILD_CUDA == "0" else build_cuda.find("nvcc")
    try:
        if nvcc:
            toolkit = build_cuda.ask(nvcc)
            chosen = build_cuda.choose_archs(toolkit, CUDA_ARCHS)
            strict = BUILD_EXT == "require"
            objects = build_cuda.compile_kernels(toolkit, chosen, int(MAX_JOBS), strict=strict)
            archs, version = chosen, toolkit.version
            module.sources.append("csrc/cuda/ops.cpp")
            module.include_dirs += toolkit.include_dirs
            module.extra_objects += [str(path) for path in objects]
            # The static runtime, so that the same file loads where there is no CUDA.
            module.library_dirs += toolkit.library_dirs
            module.libraries += ["cudart_static", "dl", "rt", "pthread"]
        elif BUILD_CUDA == "1":
            raise build_cuda.Unusable(f"found no nvcc in {build_cuda.PLACES}")
        else:
            print("fastrnn: building for the CPU only, see FASTRNN_BUILD_CUDA in setup.py.")
    except build_cuda.Unusable as error:
        problem = f"the CUDA kernels cannot be built ({error})"
        if BUILD_CUDA == "1" or BUILD_EXT == "require":
            fail(f"{problem}: mend that, or set FASTRNN_BUILD_CUDA=0 to go without them.")
        warn(f"fastrnn: {problem}, going without them.")
    module.define_macros += [
        ("FASTRNN_CUDA_ARCHS", ",".join(archs)),
        ("FASTRNN_CUDA_VERSION", f'"{version}"'),
    ]


def extension_settings() -> dict[str, Any]:
    """Returns the arguments of setup() that build fastrnn._C."""
    try:
        import pybind11
        import torch
        from torch.utils.cpp_extension import BuildExtension, CppExtension, get_cxx_compiler
    except ImportError as error:
        fail(
            f"the build environment cannot import PyTorch or pybind11 ({error}): install torch, "
            "ninja and pybind11 in it and pass --no-build-isolation to pip, or set "
            "FASTRNN_BUILD_EXT=0 for the pure-PyTorch fallback."
        )

    class Build(BuildExtension):
        def run(self) -> None:
            self.force = True  # whoever compiles knows what changed, and settings may have, too
            targets = [Path(self.get_ext_fullpath(extension.name)) for extension in self.extensions]
            try:
                compiler = shlex.split(get_cxx_compiler())[0]
                if shutil.which(compiler) is None:
                    raise FileNotFoundError(f"no C++ compiler {compiler!r}, install one or set CXX")
                add_cuda_kernels(module, self.warn)
                super().run()
            except Exception as error:
                problem = f"fastrnn._C could not be built ({error})"
                for name, value in (("EXT", "require"), ("CUDA", "1")):
                    if os.environ.get(f"FASTRNN_BUILD_{name}") == value:
                        fail(f"{problem}, and FASTRNN_BUILD_{name}={value} forbids the fallback.")
                for target in targets:  # an older build must not pass for this one
                    target.unlink(missing_ok=True)
                self.extensions = []
                self.warn(f"fastrnn: {problem}, installing the slower pure-PyTorch fallback.")

    module = CppExtension(
        "fastrnn._C",
        matching("csrc/*.cpp", "csrc/cpu/*.cpp", "csrc/cuda/plan.cpp"),
        include_dirs=["csrc", pybind11.get_include()],
        define_macros=[
            ("TORCH_TARGET_VERSION", "0x020d000000000000ULL"),  # the stable ABI of torch 2.13
            ("FASTRNN_TORCH_VERSION", f'"{torch.__version__}"'),
        ],
        extra_compile_args=[
            "-O3",
            "-g0",  # some Pythons add -g, and debug information is many times the code
            "-fvisibility=hidden",
            "-ffp-contract=off",  # rounding is the choice of the source, not of the compiler
            "-fno-math-errno",
        ],
    )
    return {"ext_modules": [module], "cmdclass": {"build_ext": Build}}


setup(**({} if BUILD_EXT == "0" else extension_settings()))
