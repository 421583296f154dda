"""Keras 3 layers on its JAX backend, jitted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from benchmarks.cases import Problem
from benchmarks.engines.base import UPDATE_FIRST, Workload, library, reorder_gates
from benchmarks.engines.jax_scan import Call, JaxEngine

LAYERS = {"RNN": "SimpleRNN", "LSTM": "LSTM", "GRU": "GRU"}


class KerasCall(Call):
    """Keras has the batch first, the weights transposed, and one bias where the cell allows it."""

    def __init__(self, *given: Any, problem: Problem) -> None:
        super().__init__(*given)
        self.cell = problem.case.cell

    def results(self) -> dict[str, Tensor]:
        found = super().results()
        for name in ("output", "grad_input"):
            if name in found:
                found[name] = found[name].transpose(0, 1)
        if "bias" in found:
            order, bias = UPDATE_FIRST[self.cell], found.pop("bias")
            for name, each in zip(("bias_ih_l0", "bias_hh_l0"), expand(bias), strict=True):
                found[name] = reorder_gates(each, order)
            for name in ("weight_ih_l0", "weight_hh_l0"):
                found[name] = reorder_gates(found[name].T, order)
        return found


def expand(bias: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of both biases; where Keras has one for both, they are equal."""
    return (bias[0], bias[1]) if bias.ndim == 2 else (bias, bias)


class KerasJax(JaxEngine):
    """keras.layers.SimpleRNN, LSTM, GRU(reset_after=True)."""

    packages = ("keras", "jax")

    def environment(self, threads: int) -> Mapping[str, str]:
        return {**super().environment(threads), "KERAS_BACKEND": "jax"}

    def start(self, threads: int) -> None:
        super().start(threads)
        self.keras = library("keras")

    def layer(self, problem: Problem) -> Any:
        """The layer with the weights of the problem."""
        case = problem.case
        options = {"return_sequences": True, "dtype": case.dtype}
        options["recurrent_initializer"] = "zeros"  # the default one has no bfloat16
        if case.cell == "GRU":
            options["reset_after"] = True
        layer = getattr(self.keras.layers, LAYERS[case.cell])(case.shape.H, **options)
        layer.build((case.shape.B, case.shape.T, case.shape.I))
        order = UPDATE_FIRST[case.cell]
        weight_ih, weight_hh, bias_ih, bias_hh = (
            reorder_gates(weight.float(), order) for weight in problem.weights.values()
        )
        bias = torch.stack([bias_ih, bias_hh]) if case.cell == "GRU" else bias_ih + bias_hh
        layer.set_weights([each.numpy() for each in (weight_ih.T, weight_hh.T, bias)])
        return layer

    def make(self, problem: Problem) -> Workload:
        jax, layer = self.jax, self.layer(problem)
        weights = [variable.value for variable in layer.trainable_variables]
        fixed = [variable.value for variable in layer.non_trainable_variables]
        input, grad_output = (
            self.array(tensor.transpose(0, 1)) for tensor in (problem.input, problem.grad_output)
        )

        def inference(input: Any, *weights: Any) -> dict[str, Any]:
            return {"output": layer.stateless_call(weights, fixed, input, training=False)[0]}

        def training(grad_output: Any, input: Any, *weights: Any) -> dict[str, Any]:
            def forward(input: Any, *weights: Any) -> Any:
                return layer.stateless_call(weights, fixed, input, training=True)[0]

            output, pull = jax.vjp(forward, input, *weights)
            names = ("output", "grad_input", "weight_ih_l0", "weight_hh_l0", "bias")
            return dict(zip(names, (output, *pull(grad_output)), strict=True))

        if problem.case.step == "inference":
            return KerasCall(jax, inference, (input, *weights), problem=problem)
        return KerasCall(jax, training, (grad_output, input, *weights), problem=problem)
