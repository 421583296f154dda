"""Holds a process to a number of cores, since not every engine can be told its threads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TOPOLOGY = Path("/sys/devices/system/cpu")


@contextmanager
def limited_to(count: int) -> Iterator[None]:
    """Processes started inside may use so many cores, where the system can say so (Linux)."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, pick(before, count))
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def pick(allowed: set[int], count: int, topology: Path = TOPOLOGY) -> set[int]:
    """The first so many of the allowed processors, but no second thread of a core before all
    first ones are taken."""

    def rank(processor: int) -> tuple[int, int]:
        file = topology / f"cpu{processor}" / "topology" / "thread_siblings_list"
        siblings = _numbers(file.read_text()) if file.exists() else [processor]
        return sorted(allowed.intersection(siblings)).index(processor), processor

    return set(sorted(allowed, key=rank)[:count])


def _numbers(text: str) -> list[int]:
    """Reads "0-1,4"."""
    found: list[int] = []
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found
