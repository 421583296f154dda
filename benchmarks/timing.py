"""Interleaved timing: all variants in every iteration, in shuffled order, compared as ratios."""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

WARM_UP = 0.1  # part of the time budget
PATIENCE = 30  # budgets after which few iterations must do
FEWEST = 3
SETTLE_S = 0.002  # longer than the workers of a variant on several threads spin


@dataclass(frozen=True)
class Spread:
    """Median and quartiles."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """Describes two or more values."""
        return cls(*statistics.quantiles(values, n=4, method="inclusive"))


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Keeps Python's collector from running inside one variant's time."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def interleave(
    variants: Mapping[str, Callable[[], object]],
    *,
    budget_s: float,
    min_iterations: int,
    settle_s: float = 0,
    prepare: Callable[[str], object] = lambda name: None,
    clock: Callable[[], Any] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, list[float]]:
    """Times all variants once per iteration, until the budget is spent.

    A variant that always ran first would find the caches as the last one left them, and a machine
    that slows down would slow one variant: so each iteration has an order of its own, and entries
    of one iteration are to be compared with each other.

    Args:
        variants: what to call, by name.
        budget_s: seconds for warm-up and iterations together.
        min_iterations: iterations to make even when they exceed the budget; 3 are enough where
            that would take 30 budgets.
        settle_s: seconds to sleep before each variant, and then to call it once untimed. With
            several threads the workers of the last variant still spin, and would take the core
            of a worker of the next.
        prepare: called with a variant's name before each of its calls, untimed.
        clock: gives moments, whose difference is seconds.
        sleep: waits so many seconds.

    Returns:
        Seconds of each variant in each iteration.
    """
    order = list(variants)
    shuffle = random.Random(0).shuffle
    times: dict[str, list[float]] = {name: [] for name in order}
    with no_garbage_collection():
        start = clock()
        while True:
            for name in order:
                prepare(name)
                variants[name]()
            if clock() - start >= WARM_UP * budget_s:
                break
        done = 0
        while True:
            budgets = PATIENCE if done < min_iterations else 1
            if done >= min(FEWEST, min_iterations) and clock() - start >= budgets * budget_s:
                break
            done += 1
            shuffle(order)
            for name in order:
                if settle_s:
                    sleep(settle_s)
                    prepare(name)
                    variants[name]()
                prepare(name)
                before = clock()
                variants[name]()
                times[name].append(clock() - before)
    return times


def ratios(times: Mapping[str, list[float]], over: str, under: str) -> Spread:
    """How many times as long `over` takes as `under`, iteration by iteration."""
    return Spread.of([a / b for a, b in zip(times[over], times[under], strict=True)])
