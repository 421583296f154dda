"""Runs `fake_cuda/checks.py`, for which torch has to know a CUDA device, though there is none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.cpp_extension import include_paths, library_paths

FOLDER = Path(__file__).parent / "fake_cuda"

RUN = """
import ctypes, sys
import pytest
for library in sys.argv[2:]:
    ctypes.CDLL(library)
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", sys.argv[1]]))
"""


def test_modules_on_fake_tensors(tmp_path):
    if torch.version.cuda is not None and not torch.cuda.is_available():
        pytest.skip("this torch knows CUDA, and wants a GPU")
    libraries = [] if torch.version.cuda is not None else [build(tmp_path / "device.so")]
    result = subprocess.run(
        [sys.executable, "-c", RUN, str(FOLDER / "checks.py"), *map(str, libraries)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def build(library: Path) -> Path:
    includes, folders = include_paths(), library_paths()
    subprocess.run(
        [
            os.environ.get("CXX", "c++"),
            *("-std=c++20", "-O0", "-shared", "-fPIC"),
            *(f"-I{folder}" for folder in includes),
            *(str(FOLDER / "device.cpp"), "-o", str(library)),
            *(f"-L{folder}" for folder in folders),
            *(f"-Wl,-rpath,{folder}" for folder in folders),
            *("-lc10", "-ltorch_cpu"),
        ],
        check=True,
        timeout=300,
    )
    return library
