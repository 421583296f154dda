"""A library built for the simulator, with the simulator's own functions."""

from __future__ import annotations

import ctypes
from pathlib import Path

SCHEDULES = ("inorder", "reverse", "random", "unfair")


class Simulator:
    """Loads a library that `build` returned; `library` has what it exports."""

    def __init__(self, path: Path) -> None:
        self.library = ctypes.CDLL(str(path))
        self.library.cuda_sim_error.restype = ctypes.c_char_p

    def schedule(
        self, name: str, seed: int = 1, preemption: float = 0.0, resident_blocks: int = 1
    ) -> None:
        """How threads take turns in launches that follow.

        Args:
            name: One of `SCHEDULES`.
            seed: Of what is random.
            preemption: Chance of a change of threads at a basic block, in libraries of kind
                "preempt".
            resident_blocks: Blocks that run at once in launches that are not cooperative.
        """
        arguments = (ctypes.c_uint64(seed), ctypes.c_double(preemption), resident_blocks)
        if self.library.cuda_sim_schedule(name.encode(), *arguments):
            raise ValueError(f"schedule {name!r} is none of {SCHEDULES}")

    def device(
        self,
        multiprocessors: int = 16,
        shared_per_block: int = 227 << 10,
        shared_per_multiprocessor: int = 228 << 10,
        compute_capability: int = 90,
    ) -> None:
        """The GPU of launches that follow; an H100's memory by default, and fewer multiprocessors.

        Bytes of shared memory are the most that a block may ask for, and what a multiprocessor
        has.
        """
        self.library.cuda_sim_device(
            multiprocessors, shared_per_block, shared_per_multiprocessor, compute_capability
        )

    def check_read_only(self, on: bool) -> None:
        """Whether launches that follow check that what __ldg read never changed."""
        self.library.cuda_sim_check_read_only(int(on))

    def error(self) -> str:
        """Why the last launch or call failed, empty if it did not."""
        return self.library.cuda_sim_error().decode()
