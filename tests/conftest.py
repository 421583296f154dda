"""Fixtures and settings that all tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import hypothesis
import pytest
import torch

# Without the kernels the tests would pass on torch's own code, so they must not start: the
# import's warning is an error here, and says how to build them.
from fastrnn import _C

# `pytest --hypothesis-profile=nightly` searches wider, and differently each time.
hypothesis.settings.register_profile("ci", max_examples=200, deadline=None, derandomize=True)
hypothesis.settings.register_profile("nightly", max_examples=5000, deadline=None)
hypothesis.settings.load_profile("ci")


@pytest.fixture(autouse=True)
def isolated() -> Iterator[None]:
    """Each test starts from the same seed and one thread, and leaks neither into the next."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
    torch.set_num_threads(threads)


@pytest.fixture(params=_C.cpu_isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs the test once on each instruction set of this machine."""
    before = _C.cpu_isa()
    _C.set_cpu_isa(request.param)
    yield request.param
    _C.set_cpu_isa(before)


_NO_GPU = "there is no GPU"

# Marked, so that nothing is set up for a test that is skipped.
_CUDA = pytest.param(
    "cuda",
    marks=pytest.mark.skipif(
        not torch.cuda.is_available() and os.environ.get("FAIL_WITHOUT_CUDA") != "1",
        reason=_NO_GPU,
    ),
)


@pytest.fixture(params=["cpu", _CUDA])
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs the test on the CPU and on a GPU: new tensors and modules are made there.

    Without a GPU the second is skipped, and fails where FAIL_WITHOUT_CUDA is 1.
    """
    if request.param == "cpu":
        yield "cpu"
        return
    if not torch.cuda.is_available():
        pytest.fail(_NO_GPU)
    # cuDNN rounds factors to TF32 otherwise, and is what results are compared with.
    with torch.device("cuda"), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield "cuda"
