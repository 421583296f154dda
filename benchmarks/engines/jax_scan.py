"""JAX: a jitted lax.scan over the steps, the product with the input taken out of the loop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from benchmarks.cases import Problem
from benchmarks.engines.base import Engine, Workload, library

NAMES = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")


def to_torch(array: Any) -> Tensor:
    """A copy that torch may own, in float32."""
    return torch.tensor(library("numpy").asarray(array, dtype="float32"))


class Call(Workload):
    """A jitted function on fixed arguments; it returns its results by name."""

    def __init__(self, jax: Any, function: Any, arguments: tuple[Any, ...]) -> None:
        self.wait = jax.block_until_ready
        self.function = jax.jit(function)
        self.arguments = arguments

    def __call__(self) -> None:
        self.returned = self.wait(self.function(*self.arguments))

    def results(self) -> dict[str, Tensor]:
        return {name: to_torch(value) for name, value in self.returned.items()}


class JaxEngine(Engine):
    """What the engines on JAX share: how it is kept to the CPU and to the threads."""

    def environment(self, threads: int) -> Mapping[str, str]:
        # XLA takes a thread for each core that the process may use. With one core it should not
        # even hand work over.
        flags = {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false"} if threads == 1 else {}
        return {"JAX_PLATFORMS": "cpu", **flags}

    def start(self, threads: int) -> None:
        self.jax = library("jax")

    def array(self, tensor: Tensor) -> Any:
        """The tensor in JAX, with its dtype."""
        dtype = str(tensor.dtype).removeprefix("torch.")
        return self.jax.numpy.asarray(tensor.float().numpy(), dtype=dtype)


class JaxScan(JaxEngine):
    """The layer as a user of JAX writes it."""

    packages = ("jax", "jaxlib")

    def make(self, problem: Problem) -> Workload:
        jax, cell = self.jax, problem.case.cell
        input, grad_output = self.array(problem.input), self.array(problem.grad_output)
        weights = [self.array(problem.weights[name]) for name in NAMES]

        def inference(input: Any, *weights: Any) -> dict[str, Any]:
            output, state = layer(jax, cell, input, *weights)
            return {"output": output, **state}

        def training(grad_output: Any, input: Any, *weights: Any) -> dict[str, Any]:
            output, pull = jax.vjp(lambda *given: layer(jax, cell, *given)[0], input, *weights)
            names = ("output", "grad_input", *NAMES)
            return dict(zip(names, (output, *pull(grad_output)), strict=True))

        if problem.case.step == "inference":
            return Call(jax, inference, (input, *weights))
        return Call(jax, training, (grad_output, input, *weights))


def layer(
    jax: Any, cell: str, input: Any, weight_ih: Any, weight_hh: Any, bias_ih: Any, bias_hh: Any
) -> tuple[Any, dict[str, Any]]:
    """Output (T, B, H) and final states (1, B, H) by name, from zero states."""
    np, sigmoid, tanh = jax.numpy, jax.nn.sigmoid, jax.numpy.tanh

    def rnn(h: Any, igates: Any) -> tuple[Any, Any]:
        h = tanh(igates + h @ weight_hh.T)
        return h, h

    def lstm(state: Any, igates: Any) -> tuple[Any, Any]:
        h, c = state
        i, f, g, o = np.split(igates + h @ weight_hh.T, 4, axis=-1)
        c = sigmoid(f) * c + sigmoid(i) * tanh(g)
        h = sigmoid(o) * tanh(c)
        return (h, c), h

    def gru(h: Any, igates: Any) -> tuple[Any, Any]:
        input_r, input_z, input_n = np.split(igates, 3, axis=-1)
        hidden_r, hidden_z, hidden_n = np.split(h @ weight_hh.T + bias_hh, 3, axis=-1)
        r, z = sigmoid(input_r + hidden_r), sigmoid(input_z + hidden_z)
        n = tanh(input_n + r * hidden_n)
        h = n + z * (h - n)
        return h, h

    step = {"RNN": rnn, "LSTM": lstm, "GRU": gru}[cell]
    igates = input @ weight_ih.T + (bias_ih if cell == "GRU" else bias_ih + bias_hh)
    zero = np.zeros((input.shape[1], weight_hh.shape[1]), input.dtype)
    state, output = jax.lax.scan(step, (zero, zero) if cell == "LSTM" else zero, igates)
    states = state if cell == "LSTM" else (state,)
    return output, dict(zip(("h_n", "c_n"), (each[None] for each in states), strict=False))
