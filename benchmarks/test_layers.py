"""The same cases for developers, by pytest-benchmark: `pytest benchmarks -k "GRU and training"`."""

import pytest
import torch

from benchmarks.cases import CELLS, IMPLEMENTATIONS, SHAPES, all_cases, check, workloads


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.benchmark(disable_gc=True)
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("case", all_cases(CELLS, SHAPES, torch.float32), ids=str)
def test_layer(benchmark, case, implementation):
    made = workloads(case)
    check(case, made)
    benchmark.group = str(case)
    benchmark(made[implementation])
