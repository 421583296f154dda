from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_Float = TypeVar("_Float", np.float32, np.float64)

def build_info() -> dict[str, str]: ...
def cpu_isa() -> str: ...
def cpu_isas() -> list[str]: ...
def set_cpu_isa(name: str) -> None: ...
def machine() -> dict[str, int]: ...
def plan(
    mode: int,
    T: int,
    B: int,
    I: int,
    H: int,
    element_bytes: int,
    vector_bytes: int,
    l2_bytes: int,
    threads: int,
) -> dict[str, int]: ...
def activation(name: str, x: NDArray[_Float]) -> NDArray[_Float]: ...
