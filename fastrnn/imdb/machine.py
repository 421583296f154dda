"""What a reader must know of the machine to judge a time."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import fastrnn


def cpu_model() -> str:
    """The processor's name, as the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def machine_text() -> str:
    """Processor, cores and instruction set in half a sentence.

    Example:
        >>> machine_text()  # doctest: +ELLIPSIS
        '... cores, ...'
    """
    isa = fastrnn.info().cpu_isa or "no compiled kernels"
    return f"{cpu_model()}, {os.cpu_count()} cores, {isa}"
