"""Times one client in this process: `python -m benchmarks.clients.measure JOB`, JSON in and out.

A process times one client alone, as its users run it: torch's own LSTM takes new memory for its
weights at every call, and is twice as fast where an earlier program left the heap large.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from statistics import median
from typing import Any

import torch
from torch import nn

import fastrnn
from benchmarks.check import TOLERANCES, compare
from benchmarks.clients import CLIENTS, Program, pins
from benchmarks.timing import Spread, interleave, ratios

STOCK, FAST = "before", "after"

Row = dict[str, Any]
"""One client: `seconds` by STOCK and FAST, and their `ratio`, are spreads.

`cpu_seconds`, of all threads, tell how far to trust them: with one thread they are as many, unless
something else had the core.
"""


def recurrent_share(program: Program) -> float:
    """Part of one run that passes in forward calls of recurrent modules and cells."""
    began = inside = 0.0

    def begin(*_: Any) -> None:
        nonlocal began
        began = time.perf_counter()

    def end(*_: Any) -> None:
        nonlocal inside
        inside += time.perf_counter() - began

    hooks = []
    for module in program.model.modules():
        if isinstance(module, nn.RNNBase | nn.RNNCellBase):
            hooks += [module.register_forward_pre_hook(begin), module.register_forward_hook(end)]
    start = time.perf_counter()
    program.run()
    whole = time.perf_counter() - start
    for hook in hooks:
        hook.remove()
    return inside / whole


def counted(run: Callable[[], object], spent: list[float]) -> Callable[[], None]:
    """`run`, and the CPU seconds of each call are added to `spent`."""

    def call() -> None:
        before = time.process_time()
        run()
        spent.append(time.process_time() - before)

    return call


def measure(name: str, limits: Mapping[str, Any]) -> Row:
    """Checks one client, then times it before and after `accelerate`.

    Args:
        name: one of CLIENTS.
        limits: for `interleave`.

    Raises:
        Missing: it is not installed.
        ValueError: it computes something else after `accelerate`.
    """
    stock, fast = CLIENTS[name].make(), CLIENTS[name].make()
    fastrnn.accelerate(fast.model)
    compare(fast.run(), stock.run(), TOLERANCES["float32"], name)
    share = recurrent_share(stock)
    spent: dict[str, list[float]] = {STOCK: [], FAST: []}
    runs = {STOCK: stock.run, FAST: fast.run}
    calls = {each: counted(run, spent[each]) for each, run in runs.items()}
    times = interleave(calls, **limits)
    return {
        "client": name,
        "version": pins()[CLIENTS[name].packages[0]],
        "does": CLIENTS[name].does,
        "threads": torch.get_num_threads(),
        "iterations": len(times[STOCK]),
        "recurrent_share": share,
        "seconds": {each: asdict(Spread.of(values)) for each, values in times.items()},
        "cpu_seconds": {each: median(values) for each, values in spent.items()},
        "ratio": asdict(ratios(times, STOCK, FAST)),
    }


def main(job: Mapping[str, Any]) -> None:
    """Does a job: `client`, `threads`, `limits`."""
    torch.set_num_threads(job["threads"])
    print(json.dumps(measure(job["client"], job["limits"])))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
