"""driver.cpp built with kernels, as a shared library or as a program of a sanitizer."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

from . import build

DRIVER = "tests/cuda_sim/driver.cpp"
ONE_CELL = "tests/cuda_sim/fixtures/one_cell.cu"  # Elman<Tanh>
ALL_CELLS = "csrc/cuda/kernels_float.cu"
FAMILIES = ("block", "grid", "launch")
LANES = ("tile", "depth")
RIGHT, WRONG, SIMULATOR_ERROR = 0, 1, 3


def built(
    kernels: str, kind: str, element: str = "float", mutation: build.Mutation | None = None
) -> Path:
    flags = (f"-DFASTRNN_ELEMENT={element}",)
    return build.build("driver", [kernels, DRIVER], kind, mutation=mutation, flags=flags)


def run(
    path: Path,
    family: str,
    mode: str,
    lanes: str,
    lengths: str = "even",
    schedule: str = "inorder",
    seed: int = 1,
    preemption: float = 0.0,
    read_only: bool = False,
) -> tuple[int, str]:
    """Exit code of driver.cpp and what it, or a sanitizer, says; arguments are driver.cpp's."""
    arguments = [family, mode, lanes, lengths, schedule]
    arguments += [str(seed), str(preemption), str(int(read_only))]
    if path.suffix != ".so":
        try:
            result = build.run(path, *arguments)
        except subprocess.TimeoutExpired as error:
            return -1, str(error)
        return result.returncode, result.stderr
    library = ctypes.CDLL(str(path))
    library.cuda_sim_error.restype = ctypes.c_char_p
    code = library.run_case(" ".join(arguments).encode())
    return code, library.cuda_sim_error().decode()
