"""The GPUs that the compiled kernels run on."""

from __future__ import annotations

import functools
from typing import Any

import torch


def cuda_refusal(index: int) -> str | None:
    """Why the kernels cannot run on a GPU, or None where they can.

    Args:
        index: of the GPU, as in `cuda:0`.
    """
    return _cuda_refusal(index)


# What torch.compiler.assume_constant_result does, after it has imported the whole compiler.
cuda_refusal._dynamo_marked_constant = True  # type: ignore[attr-defined]


@functools.cache
def _cuda_refusal(index: int) -> str | None:
    from fastrnn import _C

    archs = [int(arch) for arch in _C.cuda_archs()]
    if not archs:
        return "the kernels are built without CUDA"
    if torch.version.hip is not None:
        return "the kernels are compiled for NVIDIA's GPUs, and this torch is for AMD's"
    if not torch.cuda.is_available():  # a fake tensor
        return "there is no GPU here"
    oldest = divmod(min(archs), 10)
    capability = torch.cuda.get_device_capability(index)
    if capability < oldest:
        return (
            f"the kernels are compiled for compute capability {_dotted(oldest)} and newer, "
            f"this GPU is {_dotted(capability)}"
        )
    return None


def cuda_limits(index: int) -> dict[str, int]:
    """What the plans of the kernels depend on beside the shape, as `_C.cuda_plan` takes it.

    Args:
        index: of the GPU, as in `cuda:0`.
    """
    facts: Any = torch.cuda.get_device_properties(index)  # its stub lacks shared memory
    return {
        "multiprocessors": facts.multi_processor_count,
        "shared_bytes": facts.shared_memory_per_block_optin,
        "compute_capability": 10 * facts.major + facts.minor,
    }


def _dotted(capability: tuple[int, int]) -> str:
    return ".".join(map(str, capability))
