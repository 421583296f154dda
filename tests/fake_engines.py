"""Engines for tests of the benchmarks: torch.nn with a fault, or none."""

import torch

from benchmarks.cases import DTYPES, Case, Problem, Shape
from benchmarks.engines import Engine, Unavailable, Workload
from benchmarks.engines.torch_nn import WORKLOADS

TINY = Shape(3, 2, 4, 5)


class Fake(Engine):
    """Computes with torch.nn; tests make it wrong."""

    packages = ("torch",)
    dtypes = tuple(DTYPES)
    error = 0.0

    def make(self, problem: Problem) -> Workload:
        case = problem.case
        module = getattr(torch.nn, case.cell)(case.shape.I, case.shape.H, dtype=case.torch_dtype)
        module.load_state_dict(problem.weights)
        with torch.no_grad():
            module.bias_hh_l0.add_(self.error)
        return WORKLOADS[case.step](module, problem)


class Wrong(Fake):
    error = 1e-2


class InferenceOnly(Fake):
    passes = ("inference",)
    dtypes = ("float32",)


class Raises(Fake):
    def make(self, problem):
        raise RuntimeError("no such kernel")


class Absent(Fake):
    packages = ("a-package-that-is-not-there",)


class Broken(Fake):
    def start(self, threads):
        raise Unavailable(f"does not start on {threads}")


class Noted(Fake):
    def make(self, problem):
        made = super().make(problem)
        made.note = "ran as it is"
        return made


FAKES = {
    "torch.nn": Fake, "fastrnn": Fake, "OpenVINO": Noted, "oneDNN": Wrong, "JAX scan": Raises,
    "ONNX Runtime": InferenceOnly, "Keras JAX": Absent, "torch.compile": Broken,
}  # fmt: skip


def fake_engine(name: str) -> Engine:
    return FAKES[name]()


def tiny(cell="GRU", step="inference", dtype="float32", threads=1) -> Problem:
    return Problem.of(Case(cell, step, TINY, dtype, threads))
