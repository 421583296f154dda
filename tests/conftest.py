"""Fixtures and settings that all tests share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest
import torch

# Without the kernels the tests would pass on torch's own code, so they must not start: the
# import's warning is an error here, and says how to build them.
from fastrnn import _C
from fastrnn.imdb.synthetic import synthetic_reviews, write_folders

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

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


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A headless Chromium for all tests that look at a page.

    Without one they are skipped, and fail where FAIL_WITHOUT_BROWSER is 1.
    """
    path = shutil.which("chromium")
    if path is None:
        give_up = pytest.fail if os.environ.get("FAIL_WITHOUT_BROWSER") == "1" else pytest.skip
        give_up("there is no chromium")
    from playwright.sync_api import sync_playwright

    # No sandbox: containers have none to give. The rest keeps it from calling its makers.
    switches = "no-sandbox disable-gpu disable-quic no-first-run disable-background-networking"
    more = "disable-component-update disable-sync"
    arguments = [f"--{switch}" for switch in f"{switches} {more}".split()]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def browser_page(browser: Browser) -> Iterator[Page]:
    """An empty page of a profile of its own, 1000 by 800 pixels; calls wait 10 s at most."""
    context = browser.new_context(viewport={"width": 1000, "height": 800})
    context.set_default_timeout(10_000)
    yield context.new_page()
    context.close()


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Path of a folder of made-up reviews, 200 to train and 100 to test; leave it as it is."""
    folder = tmp_path_factory.mktemp("reviews") / "aclImdb"
    write_folders(synthetic_reviews(train=200, test=100), folder)
    return str(folder)


@pytest.fixture
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test runs in its own folder, with a cache of its own."""
    monkeypatch.setenv("FASTRNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
