"""Frozen weights and inputs: equal gradients for the rest, and no work for the frozen."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases import MODES, OpCalls, evaluate, make_states, pair
from hypothesis import given, settings
from hypothesis import strategies as st
from tolerances import assert_matches

# The bits of `wanted` in `_layer_backward`, least first.
WANTED = ("input", "hx", "cx", "weight_ih", "weight_hh", "bias_ih", "bias_hh")


def wanted_by_backward(ops: OpCalls) -> list[set[str]]:
    """What each call of the backward kernel computes, from the last layer to the first."""
    masks = [args[12] for name, args in ops.calls if name == "_layer_backward"]
    return [{name for k, name in enumerate(WANTED) if mask >> k & 1} for mask in masks]


def saved_by_forward(ops: OpCalls) -> list[bool]:
    """Whether each call of the forward kernel keeps what backward needs."""
    return [args[9] for name, args in ops.calls if name == "_layer_forward"]


def freeze(module: Any, names: Any) -> None:
    for name, weight in module.named_parameters():
        weight.requires_grad_(name not in names)


@given(data=st.data())
@settings(max_examples=60)
def test_any_subset(data):
    torch.manual_seed(0)
    mode = data.draw(st.sampled_from(MODES))
    ours, theirs = pair(mode, 5, 6, 2, bidirectional=True)
    names = [name for name, _ in ours.named_parameters()] + ["input", "state 0", "state 1"]
    frozen = data.draw(st.sets(st.sampled_from(names)))
    if data.draw(st.booleans()):  # most sets of many are neither small nor large
        frozen = set(names) - frozen
    input, hx = torch.randn(4, 3, 5), make_states(ours, 3)
    for module in (ours, theirs):
        freeze(module, frozen)
    with OpCalls() as ops:
        actual = evaluate(ours, input, hx, frozen=frozen)
    assert_matches(actual, evaluate(theirs, input, hx, frozen=frozen))
    assert saved_by_forward(ops).count(True) == len(wanted_by_backward(ops))


@pytest.mark.parametrize("mode", MODES)
def test_first_layer_computes_no_gradient_of_input_and_zero_states(mode):
    ours, _ = pair(mode, 5, 6, 2)
    with OpCalls() as ops:
        ours(torch.randn(4, 3, 5))[0].sum().backward()
    weights = set(WANTED[3:])
    assert wanted_by_backward(ops) == [{"input"} | weights, weights]


@pytest.mark.parametrize("mode", MODES)
def test_frozen_weights_cost_nothing(mode):
    ours, _ = pair(mode, 5, 6, 2)
    ours.requires_grad_(False)
    input = torch.randn(4, 3, 5, requires_grad=True)
    with OpCalls() as ops:
        ours(input)[0].sum().backward()
    assert wanted_by_backward(ops) == [{"input"}, {"input"}]


@pytest.mark.parametrize("mode", MODES)
def test_each_weight_alone(mode):
    for kind in WANTED[3:]:
        ours, _ = pair(mode, 5, 6)
        freeze(ours, {name for name, _ in ours.named_parameters() if name != f"{kind}_l0"})
        with OpCalls() as ops:
            ours(torch.randn(4, 3, 5))[0].sum().backward()
        assert wanted_by_backward(ops) == [{kind}]


@pytest.mark.parametrize("mode", MODES)
def test_state_alone(mode):
    ours, _ = pair(mode, 5, 6)
    ours.requires_grad_(False)
    input, hx = torch.randn(4, 3, 5), make_states(ours, 3)
    last = hx[-1] if mode == "LSTM" else hx
    last.requires_grad_()
    with OpCalls() as ops:
        ours(input, hx)[0].sum().backward()
    assert wanted_by_backward(ops) == [{"cx" if mode == "LSTM" else "hx"}]


@pytest.mark.parametrize("mode", MODES)
def test_frozen_lower_layers_keep_nothing_and_have_no_backward(mode):
    """As when a head is trained on a frozen body."""
    ours, _ = pair(mode, 5, 6, 3)
    freeze(ours, {name for name, _ in ours.named_parameters() if not name.endswith("l2")})
    with OpCalls() as ops:
        ours(torch.randn(4, 3, 5))[0].sum().backward()
    assert saved_by_forward(ops) == [False, False, True]
    assert wanted_by_backward(ops) == [set(WANTED[3:])]


@pytest.mark.parametrize("mode", MODES)
def test_nothing_to_train_keeps_nothing(mode):
    module = pair(mode, 5, 6, 2)[0].requires_grad_(False)
    with OpCalls() as ops:
        output, _ = module(torch.randn(4, 3, 5))
    assert not output.requires_grad
    assert not any(saved_by_forward(ops))


@pytest.mark.parametrize("mode", MODES)
def test_only_some_results_are_used(mode):
    """The output alone, the last state alone, a middle step alone: as torch.nn, in each."""
    ours, theirs = pair(mode, 5, 6, 2, bidirectional=True)
    input = torch.randn(4, 3, 5)

    def last(result: Any) -> torch.Tensor:
        return result[1][-1] if mode == "LSTM" else result[1]

    uses = (
        lambda result: result[0].square().sum(),
        lambda result: last(result).square().sum(),
        lambda result: last(result)[1].square().sum(),
        lambda result: result[0][2, 1].square().sum(),
    )
    for use in uses:
        mine, his = (
            torch.autograd.grad(use(m(input)), list(m.parameters()), materialize_grads=True)
            for m in (ours, theirs)
        )
        assert_matches(mine, his)
