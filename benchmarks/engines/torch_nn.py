"""torch.nn and fastrnn: modules of the same interface, called as a user calls them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import fastrnn
from benchmarks.cases import DTYPES, Problem
from benchmarks.engines.base import Engine, Workload


class Inference(Workload):
    """A forward call without gradients."""

    def __init__(self, module: nn.Module, problem: Problem) -> None:
        self.module = module
        self.input = problem.input

    def __call__(self) -> None:
        with torch.no_grad():
            self.output, self.state = self.module(self.input)

    def results(self) -> dict[str, Tensor]:
        states = self.state if isinstance(self.state, tuple) else (self.state,)
        named = zip(("h_n", "c_n"), states, strict=False)
        return {"output": self.output, **dict(named)}


class Training(Inference):
    """A training step without the optimizer: a fresh graph and all gradients in every call."""

    def __init__(self, module: nn.Module, problem: Problem) -> None:
        super().__init__(module, problem)
        self.input = problem.input.clone().requires_grad_()
        self.grad_output = problem.grad_output
        self.weights = tuple(problem.weights)

    def __call__(self) -> None:
        self.module.zero_grad(set_to_none=True)
        self.input.grad = None
        self.output, self.state = self.module(self.input)
        self.output.backward(self.grad_output)

    def results(self) -> dict[str, Tensor]:
        grads = {name: getattr(self.module, name).grad for name in self.weights}
        return {**super().results(), "grad_input": self.input.grad, **grads}


WORKLOADS = {"inference": Inference, "training": Training}


class TorchNN(Engine):
    """torch.nn.RNN, torch.nn.LSTM, torch.nn.GRU."""

    packages = ("torch",)
    dtypes = tuple(DTYPES)
    modules = nn

    def start(self, threads: int) -> None:
        torch.set_num_threads(threads)

    def module(self, problem: Problem) -> nn.RNNBase:
        """The layer with the weights of the problem."""
        case = problem.case
        module: nn.RNNBase = getattr(self.modules, case.cell)(
            case.shape.I, case.shape.H, dtype=case.torch_dtype
        )
        module.load_state_dict(problem.weights)
        return module

    def make(self, problem: Problem) -> Workload:
        return WORKLOADS[problem.case.step](self.module(problem), problem)


class FastRNN(TorchNN):
    """fastrnn.RNN, fastrnn.LSTM, fastrnn.GRU."""

    packages = ("fastrnn",)
    modules = fastrnn
