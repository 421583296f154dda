"""First and second derivatives of the shipped kernels against finite differences, in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases import MODES, build, make_states
from tolerances import assert_matches
from torch.autograd import gradcheck, gradgradcheck

import fastrnn


def function_of(module: Any, with_states: bool) -> tuple[Any, list[torch.Tensor]]:
    """The module as a function of its input, states and weights, and a point to check it at."""
    names = [name for name, _ in module.named_parameters()]
    point = [torch.randn(3, 2, module.input_size, dtype=torch.float64)]
    if with_states:
        hx = make_states(module, 2)
        point += hx if isinstance(hx, tuple) else [hx]
    states = len(point) - 1
    point += [weight.detach().clone() for weight in module.parameters()]

    def call(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        input, hx, weights = tensors[0], tensors[1 : 1 + states], tensors[1 + states :]
        arguments = (input, *([hx if states == 2 else hx[0]] if states else []))
        swapped = dict(zip(names, weights, strict=True))
        output, finals = torch.func.functional_call(module, swapped, arguments)
        return (output, *finals) if isinstance(finals, tuple) else (output, finals)

    return call, [t.requires_grad_() for t in point]


@pytest.mark.parametrize("with_states", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_one_layer(mode, bias, with_states, isa, device):
    module = build(fastrnn, mode, 2, 3, bias=bias, dtype=torch.float64)
    call, point = function_of(module, with_states)
    assert gradcheck(call, point)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("mode", MODES)
def test_layers_and_directions(mode, num_layers, bidirectional):
    module = build(
        fastrnn, mode, 2, 2, num_layers, bidirectional=bidirectional, dtype=torch.float64
    )
    call, point = function_of(module, with_states=True)
    assert gradcheck(call, point)


@pytest.mark.parametrize("mode", MODES)
def test_second_derivatives(mode):
    module = build(fastrnn, mode, 2, 2, bidirectional=True, dtype=torch.float64)
    call, point = function_of(module, with_states=True)
    assert gradgradcheck(call, point)


@pytest.mark.parametrize("mode", MODES)
def test_second_derivatives_where_a_state_comes_from_the_input(mode):
    module = build(fastrnn, mode, 2, 2, dtype=torch.float64)

    def call(input: torch.Tensor) -> torch.Tensor:
        hx = torch.tanh(input[:1])
        output, _ = module(input, (hx, 2 * hx) if mode == "LSTM" else hx)
        return output

    input = torch.randn(3, 2, 2, dtype=torch.float64, requires_grad=True)
    assert gradcheck(call, input)
    assert gradgradcheck(call, input)
    # gradgradcheck alone would accept any first derivative whose own derivative is right.
    plain, with_graph = (
        torch.autograd.grad(call(input).square().sum(), input, create_graph=create_graph)
        for create_graph in (False, True)
    )
    assert_matches(with_graph, plain)


@pytest.mark.parametrize("mode", MODES)
def test_batched_gradients(mode):
    """`is_grads_batched` runs the backward under vmap."""
    module = build(fastrnn, mode, 2, 3, dtype=torch.float64)
    input = torch.randn(3, 2, 2, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x: module(x)[0], input, check_batched_grad=True)
