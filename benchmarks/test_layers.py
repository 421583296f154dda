"""The same cases for developers: `pytest benchmarks -k "GRU and training and 100x64x16x8"`."""

import pytest
import torch

from benchmarks.cases import CELLS, SHAPES, Case, Problem, all_cases
from benchmarks.check import check, expected
from benchmarks.engines import FASTRNN, TORCH, engine

TIMED = ["float32", "bfloat16"]  # float64 goes the way of float32


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def case_id(case: Case) -> str:
    """The case as -k can name it, which has no commas."""
    return str(case).replace(",", "x")


@pytest.mark.benchmark(disable_gc=True)
@pytest.mark.parametrize("implementation", [TORCH, FASTRNN])
@pytest.mark.parametrize("case", all_cases(CELLS, SHAPES, TIMED, threads=1), ids=case_id)
def test_layer(benchmark, case, implementation):
    problem = Problem.of(case)
    workload = engine(implementation).make(problem)
    check(problem, workload, expected(problem))
    benchmark.group = str(case)
    benchmark(workload)
