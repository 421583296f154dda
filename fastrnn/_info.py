"""What runs here: versions, the compiled kernels or why they are missing, and the CPU."""

from __future__ import annotations

from dataclasses import dataclass

import torch

import fastrnn
from fastrnn import _extension

CUDA_STATE = "compiled and simulated, never run on a GPU"


@dataclass(frozen=True)
class Info:
    """The facts that a bug report needs; `print` shows them one a line.

    Attributes:
        version: of fastrnn.
        torch: version of the torch that runs.
        threads: of torch, which the kernels share; `torch.set_num_threads` changes them.
        loaded: whether the compiled kernels are loaded; `fastrnn.reference` runs otherwise.
        reason: why they are not, or None.
        build: what the kernels were built with; empty when they are not loaded.
        cpu_isa: instruction set in use; FASTRNN_CPU_ISA in the environment chooses another.
        cpu_isas: the instruction sets that can be chosen on this machine.
        cuda_archs: the GPU architectures that the CUDA kernels are compiled for, as "80"; newer
            GPUs run them, too. Empty where they are not built.
    """

    version: str
    torch: str
    threads: int
    loaded: bool
    reason: str | None = None
    build: tuple[tuple[str, str], ...] = ()
    cpu_isa: str | None = None
    cpu_isas: tuple[str, ...] = ()
    cuda_archs: tuple[str, ...] = ()

    def __str__(self) -> str:
        facts = {"fastrnn": self.version, "torch": self.torch, "threads": self.threads}
        if self.loaded:
            facts["kernels"] = "loaded"
            facts["built with"] = ", ".join(f"{name} {value}" for name, value in self.build)
            facts["cpu"] = f"{self.cpu_isa} (available: {', '.join(self.cpu_isas)})"
            facts["cuda"] = "no kernels, built without nvcc"
            if self.cuda_archs:
                archs = ", ".join(f"sm_{arch}" for arch in self.cuda_archs)
                facts["cuda"] = f"kernels for {archs} and newer: {CUDA_STATE}"
        else:
            facts["kernels"] = f"not loaded: {self.reason}"
            facts["to mend it"] = _extension.REMEDY
        return "\n".join(f"{name:12}{value}" for name, value in facts.items())


def info() -> Info:
    """Tells which versions run, whether the kernels are loaded or why not, and on what CPU.

    Raises:
        ValueError: FASTRNN_CPU_ISA names an instruction set that is unknown or not available.

    Example:
        >>> print(info())  # doctest: +ELLIPSIS
        fastrnn     0...
        torch       2...
    """
    common = (fastrnn.__version__, str(torch.__version__), torch.get_num_threads())
    if not _extension.loaded:
        return Info(*common, loaded=False, reason=_extension.reason)
    from fastrnn import _C

    return Info(
        *common,
        loaded=True,
        build=tuple(sorted(_C.build_info().items())),
        cpu_isa=_C.cpu_isa(),
        cpu_isas=tuple(_C.cpu_isas()),
        cuda_archs=tuple(_C.cuda_archs()),
    )
