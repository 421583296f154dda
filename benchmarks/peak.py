"""What the machine can do at most: multiply-adds on registers, and streams through memory."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import torch

STREAM_ELEMENTS = 1 << 24  # 64 MiB an array, beyond any cache it is to leave
STREAM_RUNS = 5


def measure(threads: int) -> dict[str, float]:
    """Both peaks on so many threads.

    Returns:
        `flop_per_s`: float32 multiply-adds in the instruction set that fastrnn uses, each two
        operations, on all threads at once; `bfloat16_flop_per_s`: the same of bfloat16 where that
        has products of it. `bytes_per_s`: the best of several runs of c = a + 2 b on large arrays,
        counting two reads and one write of each element.
    """
    from fastrnn import _C  # the module is needed only where the kernels are built

    rates = {"flop_per_s": flop_rate(threads), "bytes_per_s": stream_rate()}
    if _C.multiplies_bfloat16():
        rates["bfloat16_flop_per_s"] = flop_rate(threads, bfloat16=True)
    return rates


def flop_rate(threads: int, bfloat16: bool = False) -> float:
    """Operations per second of all threads together."""
    from fastrnn import _C

    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(lambda _: _C.fma_rate(bfloat16), range(threads)))


def stream_rate() -> float:
    """Bytes per second, on the threads that torch has."""
    a, b, c = (torch.ones(STREAM_ELEMENTS) for _ in range(3))
    best = float("inf")
    for _ in range(STREAM_RUNS):
        before = time.perf_counter()
        torch.add(a, b, alpha=2, out=c)
        best = min(best, time.perf_counter() - before)
    return 3 * a.nbytes / best
