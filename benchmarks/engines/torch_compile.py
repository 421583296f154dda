"""torch.compile of a torch.nn module, as a user writes it."""

from __future__ import annotations

import torch

from benchmarks.cases import Problem
from benchmarks.engines.base import Workload
from benchmarks.engines.torch_nn import WORKLOADS, TorchNN


class TorchCompile(TorchNN):
    """Each case is compiled anew: dynamo gives up on a function after a few shapes."""

    def make(self, problem: Problem) -> Workload:
        torch.compiler.reset()
        made = WORKLOADS[problem.case.step](torch.compile(self.module(problem)), problem)
        counters = torch._dynamo.utils.counters["stats"]
        before = counters["unique_graphs"]
        made()
        graphs = counters["unique_graphs"] - before
        made.note = (
            f"compiled {graphs} graphs" if graphs else "compiled nothing, ran the module as it is"
        )
        return made
