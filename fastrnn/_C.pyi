from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

_Float = TypeVar("_Float", np.float32, np.float64)

def build_info() -> dict[str, str]: ...
def cuda_archs() -> list[str]: ...
def cpu_isa() -> str: ...
def cpu_isas() -> list[str]: ...
def set_cpu_isa(name: str) -> None: ...
def machine() -> dict[str, int]: ...
def multiplies_bfloat16() -> bool: ...
def fma_rate(bfloat16: bool = False) -> float: ...
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
    bfloat16_weights: bool = ...,
    features: int = ...,
    vocabulary: int = ...,
    keeps: bool = ...,
    masks: bool = ...,
    beside_others: bool = ...,
) -> dict[str, int]: ...
def layers_at_once(
    mode: int,
    T: int,
    B: int,
    H: int,
    layers: int,
    element_bytes: int,
    vector_bytes: int,
    l2_bytes: int,
    threads: int,
) -> int: ...
def cuda_plan(
    mode: int,
    element_bytes: int,
    backward: bool,
    T: int,
    B: int,
    H: int,
    multiprocessors: int,
    shared_bytes: int,
    compute_capability: int,
) -> dict[str, Any]: ...
def activation(name: str, x: NDArray[_Float]) -> NDArray[_Float]: ...
def widen_bfloat16(bits: NDArray[np.uint16]) -> NDArray[np.float32]: ...
def widen_float16(bits: NDArray[np.uint16]) -> NDArray[np.float32]: ...
def narrow_bfloat16(x: NDArray[np.float32]) -> NDArray[np.uint16]: ...
def narrow_float16(x: NDArray[np.float32]) -> NDArray[np.uint16]: ...
