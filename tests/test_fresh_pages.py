"""Large arrays ask the system for huge pages before they are touched first."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import fastrnn

SMAPS = Path("/proc/self/smaps")
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def flags_of(address: int) -> list[str]:
    """The flags of the memory that an address is in."""
    inside = False
    for line in SMAPS.read_text().splitlines():
        word = line.split(maxsplit=1)[0]
        if "-" in word:
            begin, end = (int(part, 16) for part in word.split("-"))
            inside = begin <= address < end
        elif inside and word == "VmFlags:":
            return line.split()[1:]
    raise AssertionError(f"{address:#x} is in no memory")


@pytest.mark.skipif(
    not SMAPS.exists() or not HUGE_PAGES.exists() or "[never]" in HUGE_PAGES.read_text(),
    reason="there are no huge pages to ask for",
)
@pytest.mark.parametrize("gradients", [True, False])
def test_only_large_arrays_ask_for_huge_pages(gradients):
    module = fastrnn.RNN(1, 64)
    with torch.set_grad_enabled(gradients):
        small = module(torch.randn(100, 32, 1))[0]
        large = module(torch.randn(4300, 32, 1))[0]
    assert large.numel() * 4 > 32 << 20
    assert "hg" in flags_of(large.data_ptr() + (4 << 20))
    assert "hg" not in flags_of(small.data_ptr())
