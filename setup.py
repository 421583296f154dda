"""Builds the extension fastrnn._C; everything else about the package is in pyproject.toml.

Environment variables:
    FASTRNN_BUILD_EXT: 1 (default) builds, and installs the pure-PyTorch fallback where building
        fails; "require" fails instead; 0 does not build.
    FASTRNN_BUILD_CUDA: auto (default) or 0. This version has no CUDA kernels, so 1 is refused.
    FASTRNN_CUDA_ARCHS: must be unset for the same reason.
    MAX_JOBS: compilers to run at once (default: the number of cores, at most 4).
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any, NoReturn

from setuptools import setup


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
if knob("FASTRNN_BUILD_CUDA", "auto", ("0", "1", "auto")) == "1":
    fail("FASTRNN_BUILD_CUDA=1 cannot be met, this version has no CUDA kernels; use 0 or auto.")
if "FASTRNN_CUDA_ARCHS" in os.environ:
    fail("FASTRNN_CUDA_ARCHS cannot be met, this version has no CUDA kernels; unset it.")
MAX_JOBS = os.environ.setdefault("MAX_JOBS", str(min(os.cpu_count() or 1, 4)))
if not MAX_JOBS.isdecimal() or int(MAX_JOBS) == 0:
    fail(f"MAX_JOBS must be a positive whole number, got {MAX_JOBS!r}.")


def matching(*patterns: str) -> list[str]:
    """Returns the files, relative to this one as setuptools wants, in an order all disks share."""
    return sorted(str(path) for pattern in patterns for path in Path().glob(pattern))


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
            targets = [Path(self.get_ext_fullpath(extension.name)) for extension in self.extensions]
            try:
                compiler = shlex.split(get_cxx_compiler())[0]
                if shutil.which(compiler) is None:
                    raise FileNotFoundError(f"no C++ compiler {compiler!r}, install one or set CXX")
                super().run()
            except Exception as error:
                problem = f"fastrnn._C could not be built ({error})"
                if BUILD_EXT == "require":
                    fail(f"{problem}, and FASTRNN_BUILD_EXT=require forbids the fallback.")
                for target in targets:  # an older build must not pass for this one
                    target.unlink(missing_ok=True)
                self.extensions = []
                self.warn(f"fastrnn: {problem}, installing the slower pure-PyTorch fallback.")

    module = CppExtension(
        "fastrnn._C",
        matching("csrc/*.cpp", "csrc/cpu/*.cpp"),
        depends=matching("csrc/**/*.h", "csrc/**/*.inl"),
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
