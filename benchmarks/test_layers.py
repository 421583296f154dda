"""The same cases for developers, by pytest-benchmark: `pytest benchmarks -k "GRU and training"`."""

import pytest
import torch

from benchmarks.cases import CELLS, SHAPES, Problem, all_cases
from benchmarks.check import check, expected
from benchmarks.engines import FASTRNN, TORCH, engine


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.benchmark(disable_gc=True)
@pytest.mark.parametrize("implementation", [TORCH, FASTRNN])
@pytest.mark.parametrize("case", all_cases(CELLS, SHAPES, ["float32"], threads=1), ids=str)
def test_layer(benchmark, case, implementation):
    problem = Problem.of(case)
    workload = engine(implementation).make(problem)
    check(problem, workload, expected(problem))
    benchmark.group = str(case)
    benchmark(workload)
