"""Autocast: all cells run our kernels in the dtype that it asks for, and gradients come back."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from cases import MODES, OpCalls, evaluate, make_states, pair
from test_errors import error_of
from test_fallback import NOT_BUILT, run
from tolerances import TOLERANCES, assert_matches
from torch.nn.utils.rnn import pack_padded_sequence

HALVES = [torch.bfloat16, torch.float16]


def autocast(dtype: torch.dtype, **kwargs: Any) -> torch.autocast:
    return torch.autocast("cpu", dtype=dtype, **kwargs)


def to(hx: Any, dtype: torch.dtype) -> Any:
    return tuple(s.to(dtype) for s in hx) if isinstance(hx, tuple) else hx.to(dtype)


@pytest.mark.parametrize("state_dtype", [None, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("mode", MODES)
def test_is_the_half_module_with_float32_gradients(mode, dtype, state_dtype):
    """To the bit what a module of that dtype does; so its tests hold here too."""
    ours, _ = pair(mode, 5, 6, 2, bidirectional=True)
    input = torch.randn(4, 3, 5)
    hx = None if state_dtype is None else to(make_states(ours, 3), state_dtype)
    half = copy.deepcopy(ours).to(dtype)
    half_hx = None if hx is None else to(hx, dtype)
    expected, expected_gradients = evaluate(half, input.to(dtype), half_hx)
    with OpCalls() as ops, autocast(dtype):
        actual, gradients = evaluate(ours, input, hx)
    assert_matches(actual, expected, fraction=0)
    assert all(result.dtype is dtype for result in actual)
    for name, gradient in gradients.items():
        assert gradient.dtype is (state_dtype if name.startswith("state") else torch.float32)
        assert torch.equal(gradient, expected_gradients[name].to(gradient.dtype)), name
    assert ops.names() == ["_layer_forward"] * 4 + ["_layer_backward"] * 4


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("mode", MODES)
def test_near_float64(mode, dtype):
    ours, theirs = pair(mode, 5, 9)
    input, hx = torch.randn(6, 4, 5), make_states(theirs, 4)
    expected = evaluate(theirs.double(), input.double(), to(hx, torch.float64))
    with autocast(dtype):
        (output, *finals), gradients = evaluate(ours, input, hx)
    # Input, states and weights are rounded, each by as much as one tolerance of the dtype.
    fraction = 4 * TOLERANCES[dtype].fraction
    assert_matches(((output, *finals), gradients), expected, fraction)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("mode", MODES)
def test_without_gradients(mode, dtype):
    ours, _ = pair(mode, 5, 6, 2, batch_first=True)
    half = copy.deepcopy(ours).to(dtype)
    input = torch.randn(3, 4, 5)
    with torch.no_grad():
        expected = half(input.to(dtype))
        with OpCalls() as ops, autocast(dtype):
            actual = ours(input)
    assert actual[0].dtype is dtype
    assert_matches(actual, expected, fraction=0)
    assert ops.names() == ["_inference"]


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_rows_of_different_lengths(mode, grad):
    ours, _ = pair(mode, 5, 6, 2, bidirectional=True)
    half = copy.deepcopy(ours).bfloat16()
    input, lengths, hx = torch.randn(4, 3, 5), torch.tensor([2, 4, 1]), make_states(ours, 3)
    packed = pack_padded_sequence(input, lengths, enforce_sorted=False)
    with torch.set_grad_enabled(grad):
        expected = half(packed.to(torch.bfloat16), to(hx, torch.bfloat16))
        padded = half(input.bfloat16(), to(hx, torch.bfloat16), lengths=lengths)
        with OpCalls() as ops, autocast(torch.bfloat16):
            actual = ours(packed, hx)
            with_lengths = ours(input, hx, lengths=lengths)
    assert torch.equal(actual[0].data, expected[0].data)
    assert_matches([actual[1], with_lengths], [expected[1], padded], fraction=0)
    names = ops.names()
    assert names.count("_layer_forward") == (8 if grad else 0)
    assert names.count("_inference") == (0 if grad else 2)
    if grad:
        (with_lengths[0].sum() + actual[0].data.sum()).backward()
        assert all(weight.grad.dtype is torch.float32 for weight in ours.parameters())


@pytest.mark.parametrize("mode", MODES)
def test_nested_and_disabled(mode):
    ours, _ = pair(mode, 5, 6)
    input = torch.randn(4, 3, 5)
    plain, _ = ours(input)
    with autocast(torch.bfloat16):
        with autocast(torch.bfloat16, enabled=False):
            inside, _ = ours(input)
            assert error_of(lambda: ours(input.bfloat16()))[0] is ValueError
        with autocast(torch.float16):
            inner, _ = ours(input)
        outer, _ = ours(input)
    assert torch.equal(inside, plain)
    assert (inner.dtype, outer.dtype) == (torch.float16, torch.bfloat16)


@pytest.mark.parametrize("input_dtype", [torch.float32, *HALVES])
@pytest.mark.parametrize("mode", MODES)
def test_module_that_is_half_already(mode, input_dtype):
    ours, _ = pair(mode, 5, 6, dtype=torch.bfloat16)
    input = torch.randn(4, 3, 5).to(input_dtype)
    with OpCalls() as ops, autocast(torch.float16):
        (output, *_), gradients = evaluate(ours, input)
    assert output.dtype is torch.float16
    assert gradients["input"].dtype is input_dtype
    assert gradients["weight_hh_l0"].dtype is torch.bfloat16
    assert ops.names() == ["_layer_forward", "_layer_backward"]


@pytest.mark.parametrize("mode", MODES)
def test_float64_is_left_alone(mode):
    ours, theirs = pair(mode, 5, 6, dtype=torch.float64)
    input = torch.randn(4, 3, 5, dtype=torch.float64)
    with OpCalls() as ops, autocast(torch.bfloat16):
        assert_matches(evaluate(ours, input), evaluate(theirs, input))
        narrow = input.float()
        assert error_of(lambda: ours(narrow)) == error_of(lambda: theirs(narrow))
    assert ops.names() == ["_layer_forward", "_layer_backward"]


@pytest.mark.parametrize("mode", MODES)
def test_autocast_of_another_device_changes_nothing(mode):
    ours, _ = pair(mode, 5, 6)
    input = torch.randn(4, 3, 5)
    expected = evaluate(ours, input)
    with torch.autocast("xpu", dtype=torch.bfloat16):
        assert_matches(evaluate(ours, input), expected, fraction=0)


@pytest.mark.parametrize("mode", MODES)
def test_errors_are_torchs(mode):
    ours, theirs = pair(mode, 5, 6)
    calls = {
        "features": lambda m: m(torch.zeros(4, 3, 7)),
        "dimensions": lambda m: m(torch.zeros(5)),
        "steps": lambda m: m(torch.zeros(0, 3, 5)),
        "meta": lambda m: m.to("meta")(torch.zeros(4, 3, 5)),
        "none": lambda m: m(None),
    }
    with autocast(torch.bfloat16):
        for call in calls.values():
            kind, text = error_of(lambda call=call: call(theirs))
            assert (kind, text) == error_of(lambda call=call: call(ours))


# Tracing an autograd.Function, dynamo makes an instance of it, against torch's own advice.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("mode", MODES)
def test_compiles_in_one_graph(mode):
    torch.compiler.reset()
    ours, _ = pair(mode, 5, 6)
    input = torch.randn(4, 3, 5)

    @torch.compile(fullgraph=True, backend="aot_eager")
    def inside(x):
        with autocast(torch.bfloat16):
            return ours(x)[0]

    with autocast(torch.bfloat16):
        expected = ours(input)[0]
        gradients = torch.autograd.grad(expected.sum(), list(ours.parameters()))
        outside = torch.compile(ours, fullgraph=True, backend="aot_eager")(input)[0]
    assert torch.equal(outside, expected)
    compiled = inside(input)
    assert torch.equal(compiled, expected)
    found = torch.autograd.grad(compiled.sum(), list(ours.parameters()))
    assert_matches(found, gradients, fraction=0)


@pytest.mark.parametrize("mode", MODES)
def test_second_derivatives(mode):
    ours, theirs = pair(mode, 5, 6)
    input = torch.randn(4, 3, 5)

    def penalty(module, x):
        x = x.clone().requires_grad_()
        (grad,) = torch.autograd.grad(module(x)[0].float().square().sum(), x, create_graph=True)
        return torch.autograd.grad(grad.square().sum(), module.weight_hh_l0)[0]

    with autocast(torch.bfloat16):
        found = penalty(ours, input)
    assert found.dtype is torch.float32
    expected = penalty(theirs.double(), input.double())
    # The reference rounds each of its operations to bfloat16.
    assert_matches(found, expected, fraction=0.1)


def test_without_the_extension():
    program = """
        import torch, fastrnn
        for name in ("RNN", "LSTM", "GRU"):
            module = getattr(fastrnn, name)(3, 4)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                output, _ = module(torch.randn(5, 2, 3))
            assert output.dtype is torch.bfloat16, name
            output.float().sum().backward()
            assert module.weight_hh_l0.grad.dtype is torch.float32, name
    """
    result = run(NOT_BUILT, program, "-W", "ignore")
    assert result.returncode == 0, result.stderr


def test_weights_that_change_between_calls():
    """Nothing that was cast is kept: torch's cache of casts misses a change through `.data`."""
    ours, _ = pair("GRU", 5, 6)
    input = torch.randn(4, 3, 5)
    with autocast(torch.bfloat16):
        first, _ = ours(input)
        ours.weight_hh_l0.data.mul_(-1)
        second, _ = ours(input)
    assert not torch.equal(first, second)
