"""Worker processes, threads of Python, inference tensors, numbers of threads, and memory."""

from __future__ import annotations

import concurrent.futures
import gc
import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import MODES, build, evaluate, make_states, pair
from tolerances import assert_matches
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import fastrnn

LAYOUT = {"num_layers": 2, "bidirectional": True}

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


class Features(Dataset[Tensor]):
    """Items that a module computes, as a frozen encoder in a data pipeline does."""

    def __init__(self, module: nn.RNNBase, inputs: Tensor) -> None:
        self.module, self.inputs = module, inputs

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> Tensor:
        with torch.no_grad():
            return self.module(self.inputs[index])[0]


@needs_fork
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # on one core
@pytest.mark.parametrize("mode", MODES)
def test_workers_of_a_data_loader(mode):
    """Forked after the parent has used its pool of threads, kept weights and kept scratch."""
    module = build(fastrnn, mode, 4, 40, **LAYOUT)
    data = Features(module, torch.randn(6, 9, 8, 4))
    torch.set_num_threads(2)
    expected = [data[k] for k in range(len(data))]
    loader = DataLoader(data, batch_size=None, num_workers=2, multiprocessing_context="fork",
                        timeout=100)  # fmt: skip
    for actual, wanted in zip(loader, expected, strict=True):
        assert torch.equal(actual, wanted)
    assert torch.equal(data[0], expected[0])  # and the parent goes on


@needs_fork
def test_training_in_a_fork_of_a_process_that_has_not_trained(tmp_path):
    module = fastrnn.GRU(4, 6, **LAYOUT)
    input = torch.randn(5, 3, 4)
    with torch.no_grad():
        module(input)
    result = tmp_path / "gradients.pt"
    process = os.fork()
    if process == 0:
        code = 1
        try:
            # A backward in the parent, by any test before, forbids its threads in a fork.
            with torch.autograd.set_multithreading_enabled(False):
                torch.save(evaluate(module, input), result)
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(process, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert_matches(torch.load(result), evaluate(module, input), 0.0)


def test_one_module_in_many_threads():
    """Single steps with states, whole sequences, and batches of one, all at once."""
    module = fastrnn.LSTM(8, 40, **LAYOUT).eval()
    calls = [
        (torch.randn(steps, batch, 8), make_states(module, batch))
        for steps, batch in ((1, 1), (1, 4), (30, 1), (30, 5), (7, 64))
    ]

    def run(k: int) -> Tensor:
        with torch.inference_mode():
            return module(*calls[k % len(calls)])[0]

    torch.set_num_threads(2)
    expected = [run(k) for k in range(len(calls))]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for k, output in enumerate(pool.map(run, range(300))):
            assert torch.equal(output, expected[k % len(calls)])


def test_modules_that_train_in_threads_of_their_own():
    work = [
        (build(fastrnn, mode, 5, hidden, **LAYOUT), torch.randn(20, batch, 5))
        for mode in MODES
        for hidden, batch in ((8, 3), (33, 17))
    ]
    torch.set_num_threads(2)
    expected = [evaluate(*item) for item in work]

    def run(k: int) -> Any:
        return evaluate(*work[k % len(work)])

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for k, actual in enumerate(pool.map(run, range(40))):
            assert_matches(actual, expected[k % len(work)], 0.0)


@pytest.mark.parametrize("mode", MODES)
def test_inference_tensors(mode):
    """A model made under inference mode, of whose weights torch counts no versions."""
    plain, theirs = pair(mode, 4, 6, **LAYOUT)
    with torch.inference_mode():
        ours = build(fastrnn, mode, 4, 6, **LAYOUT)
        ours.load_state_dict(plain.state_dict())
        assert ours.weight_hh_l0.is_inference()
        input = torch.randn(5, 3, 4)
        hx = make_states(ours, 3)
        expected = theirs(input, hx)
        assert_matches(ours(input, hx), expected)
        ours.weight_hh_l0.mul_(0.5)
        theirs.weight_hh_l0.data.mul_(0.5)
        assert_matches(ours(input, hx), theirs(input, hx))
    with torch.no_grad():
        assert_matches(ours(input, hx), theirs(input, hx))
    # Without a word about gradients torch refuses to save such tensors for backward.
    for module in (ours, theirs):
        with pytest.raises(RuntimeError, match="Inference tensors cannot be saved for backward"):
            module(input, hx)
    detached = ours.requires_grad_(False)
    assert_matches(detached(input, hx), theirs.requires_grad_(False)(input, hx))


@pytest.mark.parametrize("mode", MODES)
def test_numbers_of_threads_that_change(mode):
    """The same bits, also where backward has another number than forward."""
    module = build(fastrnn, mode, 9, 70, **LAYOUT)
    arguments = (torch.randn(11, 6, 9), make_states(module, 6))
    expected = evaluate(module, *arguments)
    for threads in (2, 1, 3, 4, 1):
        torch.set_num_threads(threads)
        assert_matches(evaluate(module, *arguments), expected, 0.0)
        with torch.no_grad():
            assert_matches(module(*arguments)[0], expected[0][0], 0.0)
    torch.set_num_threads(1)
    output, _ = module(*arguments)
    torch.set_num_threads(2)
    actual = torch.autograd.grad(output.sum(), list(module.parameters()))
    output, _ = module(*arguments)
    assert_matches(actual, torch.autograd.grad(output.sum(), list(module.parameters())), 0.0)


def resident() -> int:
    """Bytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def growth() -> int:
    """Bytes gained over a thousand rounds of changing shapes and weights."""
    torch.set_num_threads(1)
    modules = [build(fastrnn, mode, 16, hidden) for mode in MODES for hidden in (13, 64)]
    generator = torch.Generator().manual_seed(3)

    def use(rounds: int) -> None:
        for _ in range(rounds):
            steps, batch, k = (
                int(torch.randint(low, high, (), generator=generator))
                for low, high in ((1, 60), (1, 20), (0, len(modules)))
            )
            input = torch.randn(steps, batch, 16)
            modules[k](input)[0].sum().backward()
            with torch.no_grad():
                modules[k](input)
                modules[k].weight_hh_l0.mul_(0.99)
                modules[k](input)
        gc.collect()

    use(300)
    before = resident()
    use(1000)
    return resident() - before


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux")
def test_memory_does_not_grow():
    """In a process of its own, where no other test's memory comes and goes."""
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as pool:
        # 0 to 2 MiB were seen. One output left behind in each round would be 40 MiB.
        assert pool.submit(growth).result() < 8 << 20
