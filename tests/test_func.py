"""`torch.func` on modules, and losses made of gradients: equal to loops, and to torch.nn."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases import MODES, build, pair
from tolerances import assert_matches
from torch import Tensor, nn
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vjp, vmap

import fastrnn

LAYOUT = {"num_layers": 2, "bidirectional": True, "batch_first": True}

# torch's forward-mode differentiation scripts its decompositions when first used.
pytestmark = pytest.mark.filterwarnings(
    "ignore:`torch.jit.script` is deprecated:DeprecationWarning"
)


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: weight.detach() for name, weight in module.named_parameters()}


@pytest.mark.parametrize("mode", MODES)
def test_gradient_penalty(mode):
    """A critic's step as in WGAN-GP: the penalty's gradient is a second derivative."""
    gradients = []
    torch.manual_seed(0)
    head = nn.Linear(12, 1)
    input = torch.randn(3, 5, 4)
    for critic in pair(mode, 4, 6, **LAYOUT):
        point = input.clone().requires_grad_()
        score = head(critic(point)[0].mean(1))
        (slope,) = torch.autograd.grad(score.sum(), point, create_graph=True)
        penalty = (slope.flatten(1).norm(dim=1) - 1).square().mean()
        (score.mean() + 10 * penalty).backward()
        gradients.append([parameter.grad for parameter in critic.parameters()])
        without = torch.autograd.grad(head(critic(input)[0].mean(1)).mean(), critic.weight_hh_l0)
        assert not torch.allclose(without[0], critic.weight_hh_l0.grad)  # the penalty counts
    assert_matches(*gradients, fraction=1e-4)


@pytest.mark.parametrize("mode", MODES)
def test_gradients_of_a_functional_call(mode):
    ours, theirs = pair(mode, 4, 6, **LAYOUT)
    input = torch.randn(3, 5, 4)

    def loss(weights: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(ours, weights, (x,))[0].square().mean()

    by_weights, by_input = grad(loss, argnums=(0, 1))(weights_of(ours), input)
    point = input.clone().requires_grad_()
    expected = torch.autograd.grad(theirs(point)[0].square().mean(), [*theirs.parameters(), point])
    assert_matches([*by_weights.values(), by_input], list(expected))


@pytest.mark.parametrize("mode", MODES)
def test_gradients_per_sample(mode):
    ours, theirs = pair(mode, 4, 6, **LAYOUT)
    inputs, targets = torch.randn(4, 5, 4), torch.randn(4, 12)

    def loss(weights: dict[str, Tensor], x: Tensor, target: Tensor) -> Tensor:
        output, _ = functional_call(ours, weights, (x.unsqueeze(0),))
        return (output[0, -1] - target).square().sum()

    per_sample = vmap(grad(loss), in_dims=(None, 0, 0))(weights_of(ours), inputs, targets)
    for k, (x, target) in enumerate(zip(inputs, targets, strict=True)):
        one = (theirs(x.unsqueeze(0))[0][0, -1] - target).square().sum()
        expected = torch.autograd.grad(one, list(theirs.parameters()))
        assert_matches([gradient[k] for gradient in per_sample.values()], list(expected))


@pytest.mark.parametrize("mode", MODES)
def test_an_ensemble_by_vmap(mode):
    """Models of one form as one, `torch.func.stack_module_state`."""
    models = [build(fastrnn, mode, 4, 6, **LAYOUT) for _ in range(3)]
    weights, buffers = torch.func.stack_module_state(models)
    input = torch.randn(2, 5, 4)

    def call(weights: Any, buffers: Any) -> Tensor:
        return functional_call(models[0], (weights, buffers), (input,))[0]

    outputs = vmap(call)(weights, buffers)
    assert_matches(list(outputs), [model(input)[0] for model in models])


@pytest.mark.parametrize("mode", MODES)
def test_jacobians_agree(mode):
    """Forward over, reverse over, and row by row; and both products with vectors."""
    module = build(fastrnn, mode, 2, 3, bidirectional=True, dtype=torch.float64)
    input, tangent = torch.randn(2, 3, 1, 2, dtype=torch.float64)

    def call(x: Tensor) -> Tensor:
        return module(x)[0]

    point = input.clone().requires_grad_()
    output = module(point)[0]
    rows = [
        torch.autograd.grad(element, point, retain_graph=True)[0] for element in output.flatten()
    ]
    expected = torch.stack(rows).view(*output.shape, *input.shape)
    assert_matches(jacrev(call)(input), expected)
    assert_matches(jacfwd(call)(input), expected)
    _, forward = jvp(call, (input,), (tangent,))
    assert_matches(forward, torch.tensordot(expected, tangent, dims=3))
    _, pull = vjp(call, input)
    cotangent = torch.randn_like(output)
    assert_matches(pull(cotangent)[0], torch.tensordot(cotangent, expected, dims=3))


@pytest.mark.parametrize("mode", ["LSTM", "GRU"])
def test_hessian_by_weights(mode):
    """Forward over reverse, against differences of gradients that the kernels compute."""
    module = build(fastrnn, mode, 2, 2, bias=False, dtype=torch.float64)
    input = torch.randn(3, 1, 2, dtype=torch.float64)
    weights = weights_of(module)

    def loss(weight: Tensor) -> Tensor:
        swapped = weights | {"weight_hh_l0": weight}
        return functional_call(module, swapped, (input,))[0].square().sum()

    actual = hessian(loss)(weights["weight_hh_l0"])

    def gradient(weight: Tensor) -> Tensor:
        with torch.no_grad():
            module.weight_hh_l0.copy_(weight)
        return torch.autograd.grad(module(input)[0].square().sum(), module.weight_hh_l0)[0]

    point = weights["weight_hh_l0"].clone()
    step = 1e-6
    for row in range(point.shape[0]):
        shift = torch.zeros_like(point)
        shift[row, 1] = step
        difference = (gradient(point + shift) - gradient(point - shift)) / (2 * step)
        assert_matches(actual[:, :, row, 1], difference, fraction=1e-7)
