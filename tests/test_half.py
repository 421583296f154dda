"""bfloat16 and float16: conversions bit by bit, and layers against float64 and torch.nn."""

from __future__ import annotations

import copy
import functools
from typing import Any

import numpy as np
import pytest
import torch
from cases import MODES, build, evaluate, layer_arguments, make_states, pair
from test_accuracy import FEW, SHAPES, error, tensors_of
from test_modules import STYLES
from tolerances import TOLERANCES, assert_matches

import fastrnn
from fastrnn import _C, ops, reference

DTYPES = [torch.bfloat16, torch.float16]


def name_of(dtype):
    return str(dtype).removeprefix("torch.")


def widened(dtype, bits):
    return getattr(_C, f"widen_{name_of(dtype)}")(bits)


def narrowed(dtype, x):
    return getattr(_C, f"narrow_{name_of(dtype)}")(x)


def bits_of(x):
    return x.view(torch.int16).numpy().view(np.uint16)


def halves(dtype):
    """Every value that there is."""
    bits = np.arange(1 << 16, dtype=np.uint16)
    return bits, torch.from_numpy(bits.view(np.int16)).view(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_widening_is_exact(dtype, isa):
    bits, values = halves(dtype)
    actual, expected = widened(dtype, bits), values.float().numpy()
    number = ~np.isnan(expected)
    assert np.isnan(actual[~number]).all()
    np.testing.assert_array_equal(actual[number].view(np.int32), expected[number].view(np.int32))


@pytest.mark.parametrize("dtype", DTYPES)
def test_narrowing_rounds_to_nearest_even(dtype, isa):
    _, values = halves(dtype)
    exact = values[values.isfinite()].float()
    above = torch.nextafter(exact, torch.tensor(torch.inf))
    next_up = torch.nextafter(values[values.isfinite()], torch.tensor(torch.inf, dtype=dtype))
    # Half-way between neighbours, infinity's being where the next value would be.
    ties = ((exact.double() + next_up.double()) / 2).float()
    random = torch.randint(-(2**31), 2**31, (2_000_000,), dtype=torch.int32).view(torch.float32)
    largest = torch.finfo(dtype).max
    edges = torch.tensor([0.0, torch.inf, torch.nan, 65519.996, 65520, 1e-40, 1e-45, 3.3e38])
    x = torch.cat([exact, above, ties, -ties, random, edges, -edges, torch.tensor([largest])])
    x = torch.cat([x, torch.nextafter(x, torch.tensor(0.0))])
    actual, expected = narrowed(dtype, x.numpy()), x.to(dtype)
    nan = x.isnan().numpy()
    np.testing.assert_array_equal(actual[~nan], bits_of(expected)[~nan])
    assert np.isnan(widened(dtype, actual[nan])).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_tail_converts_as_whole_vectors_do(dtype, isa):
    x = torch.randn(64)
    bits = narrowed(dtype, x.numpy())
    whole = widened(dtype, bits)
    for n in range(1, 40):
        np.testing.assert_array_equal(narrowed(dtype, x[:n].numpy().copy()), bits[:n])
        np.testing.assert_array_equal(widened(dtype, bits[:n].copy()), whole[:n])


def rounds_states(dtype: torch.dtype) -> bool:
    """Whether the kernels multiply numbers of the dtype, so that h is rounded to it each step."""
    return dtype is torch.bfloat16 and _C.multiplies_bfloat16()


def rounded_layer(mode, input, hx, cx, w_ih, w_hh, b_ih, b_hh, reverse):
    """An Elman layer of `reference.layer` in float64 whose h is rounded to bfloat16 at each step.

    Unrounded it is no oracle for kernels that round: a sum near zero may cross ReLU's kink, and
    over many steps the rounding of one grows in the next ones.
    """
    outputs = []
    for x in input.flip(0) if reverse else input:
        _, hx, _ = reference.layer(mode, x[None], hx, cx, w_ih, w_hh, b_ih, b_hh, False)
        hx = hx + (hx.detach().bfloat16() - hx.detach())  # a gradient as without rounding
        outputs.append(hx)
    return torch.stack(outputs[::-1] if reverse else outputs), hx, None


def rounded_tensors(module, input):
    """As tensors_of, with h rounded at each step."""

    def call(module, input):
        hx = input.new_zeros(input.shape[1], module.hidden_size)
        output, h_n, _ = rounded_layer(module.mode, input, hx, None, *module._flat_weights, False)
        return output, h_n[None]

    (output, *finals), gradients = evaluate(module, input, call=call)
    return {"output": output, **{f"final {k}": f for k, f in enumerate(finals)}}, gradients


@functools.cache
def case(mode: str, dtype: torch.dtype, shape: tuple[int, ...]) -> Any:
    """A module and input, the float64 tensors of the same numbers, and torch.nn's."""
    steps, batch, inputs, hidden = shape
    torch.manual_seed(0)
    ours, theirs = pair(mode, inputs, hidden, dtype=dtype)
    input = torch.randn(steps, batch, inputs).to(dtype)
    exact = tensors_of(copy.deepcopy(theirs).double(), input.double())
    return ours, input, exact, tensors_of(theirs, input)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", MODES)
def test_errs_no_more_than_torch(mode, dtype, shape, isa):
    ours, input, exact, theirs = case(mode, dtype, shape)
    compared = 0
    for mine, his, truth in zip(tensors_of(ours, input), theirs, exact, strict=True):
        for name, expected in truth.items():
            assert mine[name].dtype is dtype
            if expected.numel() < 2 * FEW or not expected.any():
                continue  # of so few, some are rounded better by luck
            if mode == "RNN_RELU" and rounds_states(dtype) and truth is exact[1]:
                continue  # whose sums cross the kink when states are rounded is luck, too
            # Where torch's oneDNN multiplies bfloat16 as well, both round alike, to other bits.
            assert error(mine[name], expected) <= 1.2 * error(his[name], expected), name
            compared += 1
    assert compared > 0 or shape[-1] < 9 or shape[0] == 1


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", MODES)
def test_is_near_float64(mode, dtype, shape, isa):
    ours, input, (results, gradients), _ = case(mode, dtype, shape)
    rounds = rounds_states(dtype) and mode.startswith("RNN")
    if rounds:
        results, gradients = rounded_tensors(copy.deepcopy(ours).double(), input.double())
    found_results, found_gradients = tensors_of(ours, input)
    # No worse than the exact result would be when it is rounded to the dtype; where states are,
    # a tie may go either way.
    assert_matches(found_results, results, (1.01 if rounds else 0.51) * torch.finfo(dtype).eps)
    largest = max(expected.abs().max() for expected in gradients.values())
    for name, expected in gradients.items():
        scale = largest if expected.numel() < FEW else expected.abs().max()
        off = (found_gradients[name] - expected).abs() / scale > TOLERANCES[dtype].fraction
        # After a tie, a sum next to ReLU's kink may be on the other side.
        allowed = 1e-3 if rounds and mode == "RNN_RELU" else 0.0
        assert off.double().mean() <= allowed, name


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("features", [5, 16])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", MODES)
def test_layers_directions_and_strides(mode, dtype, features, style, isa):
    # Rounding between layers may move a sum across ReLU's kink, which changes the gradient.
    layers = 1 if mode == "RNN_RELU" else 2
    ours, theirs = pair(mode, features, 9, layers, bidirectional=True, dtype=dtype)
    exact = copy.deepcopy(theirs).double()
    input = STYLES[style](torch.randn(6, 3, features, dtype=dtype))
    hx = make_states(ours, 3)
    wide = tuple(s.double() for s in hx) if mode == "LSTM" else hx.double()
    (output, *finals), gradients = evaluate(ours, input, hx)
    (want_output, *want_finals), want_gradients = evaluate(exact, input.double(), wide)
    # The second layer reads a rounded output, and both directions add to its gradient.
    fraction = 3 * TOLERANCES[dtype].fraction
    assert_matches((output, finals), (want_output, want_finals), fraction)
    assert_matches(gradients, want_gradients, fraction)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", MODES)
def test_no_rows_and_one_step(mode, dtype, isa):
    module = build(fastrnn, mode, 5, 6, bidirectional=True, dtype=dtype)
    (output, *finals), gradients = evaluate(module, torch.randn(4, 0, 5, dtype=dtype))
    assert output.shape == (4, 0, 12) and all(f.shape == (2, 0, 6) for f in finals)
    assert not any(g.any() for g in gradients.values())
    one_step, exact = torch.randn(1, 3, 5, dtype=dtype), copy.deepcopy(module).double()
    assert_matches(evaluate(module, one_step), evaluate(exact, one_step.double()))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("batch", [1, 7, 600])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", MODES)
def test_long_sequences_in_chunks(mode, dtype, batch, reverse, isa):
    """Many steps, so that both passes are cut in chunks; reference and oracle in float64."""
    steps = max(3, 1500 // batch)
    arguments = layer_arguments(mode, steps, batch, 3, 5, dtype=dtype, requires_grad=True)
    exact = [a if a is None else a.detach().double().requires_grad_() for a in arguments]
    grad = torch.randn(steps, batch, 5, dtype=dtype)
    rounds = rounds_states(dtype) and mode.startswith("RNN")
    layer = rounded_layer if rounds else reference.layer
    mine, truth = ops.layer(mode, *arguments, reverse), layer(mode, *exact, reverse)
    assert_matches(mine, truth, (1.01 if rounds else 0.51) * torch.finfo(dtype).eps)
    gradients, expected = (
        torch.autograd.grad(result[0], [a for a in given if a is not None], grad.to(result[0]))
        for result, given in ((mine, arguments), (truth, exact))
    )
    assert_matches(gradients, expected, 2 * TOLERANCES[dtype].fraction)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", MODES)
def test_not_a_number_stays_in_its_row(mode, dtype, isa):
    arguments = layer_arguments(mode, 4, 13, 5, 20, dtype=dtype)
    arguments[0][1, 7, 2] = torch.nan
    output, _, _ = ops.layer(mode, *arguments, False)
    assert output[1:, 7].isnan().all()
    assert output[:1].isfinite().all()
    assert output[:, torch.arange(13) != 7].isfinite().all()


@pytest.mark.skipif("avx512_bf16" not in _C.cpu_isas(), reason="the CPU does not multiply bfloat16")
@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("inputs", [1, 4, 5])
@pytest.mark.parametrize("mode", MODES)
def test_pairs_end_where_a_row_does(mode, inputs, batch, request):
    """The last of an odd number of features has no neighbour; what is behind it is not one."""
    before = _C.cpu_isa()
    request.addfinalizer(lambda: _C.set_cpu_isa(before))
    wide = torch.full((3, batch, inputs + 2), torch.nan, dtype=torch.bfloat16)
    arguments = layer_arguments(mode, 3, batch, inputs, 7, dtype=torch.bfloat16)
    wide[..., :inputs] = arguments[0]
    arguments[0] = wide[..., :inputs]
    found = []
    for name in ("avx512", "avx512_bf16"):
        _C.set_cpu_isa(name)
        given = [a if a is None else a.detach().requires_grad_() for a in arguments]
        output, *_ = ops.layer(mode, *given, False)
        found.append(
            [output, *torch.autograd.grad(output.sum(), [a for a in given if a is not None])]
        )
    assert all(t.isfinite().all() for t in found[1])
    assert_matches(found[1], found[0], 2 * TOLERANCES[torch.bfloat16].fraction)


@pytest.mark.parametrize("mode", ["RNN_RELU", "LSTM"])
def test_float16_overflows_to_infinity_and_keeps_its_subnormals(mode, isa):
    """The smallest float16 are normal numbers in float32, in which the kernels compute."""
    weight = torch.eye(4, dtype=torch.float16).repeat(4 if mode == "LSTM" else 1, 1)
    tiny = torch.tensor([[2.0**-24, 2.0**-20, 3 * 2.0**-24, 0.0]], dtype=torch.float16)
    if mode == "LSTM":
        # i, f, g, o at a half or the value itself: c = 0.5*g + 0.5*c0, exact in float32.
        _, _, c_n = ops.layer(
            mode, tiny[None], tiny * 0, 8 * tiny, weight, weight * 0, None, None, False
        )
        torch.testing.assert_close(c_n.double(), 4.5 * tiny.double(), rtol=0, atol=2.0**-25)
        return
    input = torch.stack([tiny, torch.full((1, 4), 4e4, dtype=torch.float16)])
    output, _, _ = ops.layer(mode, input, tiny * 0, None, weight, 0 * weight, None, None, False)
    assert torch.equal(output[0], tiny)
    output, _, _ = ops.layer(mode, input[1:], input[1], None, weight, weight, None, None, False)
    assert output.isposinf().all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", MODES)
def test_opcheck(mode, dtype):
    arguments, code = layer_arguments(mode, dtype=dtype), MODES.index(mode)
    forward = torch.ops.fastrnn._layer_forward.default
    torch.library.opcheck(forward, (*arguments, code, False, True))
    output, _, c_n, reserve = forward(*arguments, code, False, True)
    grads = torch.randn_like(output), None, torch.randn_like(c_n) if mode == "LSTM" else None
    wanted = 0b1111111 if mode == "LSTM" else 0b1111011
    torch.library.opcheck(
        torch.ops.fastrnn._layer_backward.default,
        (*grads, *arguments[:5], output, reserve, code, False, wanted),
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", MODES)
def test_results_share_no_memory(mode, dtype):
    module = build(fastrnn, mode, 5, 6, dtype=dtype)
    hx = make_states(module, 1)
    output, finals = module(torch.randn(1, 1, 5, dtype=dtype), hx)
    finals, states = ([s] if mode != "LSTM" else list(s) for s in (finals, hx))
    pointers = {t.data_ptr() for t in (output, *finals, *states)}
    assert len(pointers) == 1 + len(finals) + len(states)


# Tracing an autograd.Function, dynamo makes an instance of it, against torch's own advice.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", MODES)
def test_compiles_in_one_graph(mode, dtype):
    torch.compiler.reset()  # dynamo limits the compiled versions of a function
    module = build(fastrnn, mode, 4, 6, 2, bidirectional=True, dtype=dtype)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    input = torch.randn(3, 5, 4, dtype=dtype)
    mine, his = (
        (*m(input), torch.autograd.grad(m(input)[0].sum(), list(module.parameters())))
        for m in (compiled, module)
    )
    assert_matches(mine, his, fraction=0)


# torch's forward-mode differentiation scripts its decompositions when first used.
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", MODES)
def test_transforms_and_second_derivatives(mode, dtype):
    """Through the reference, whose every operation rounds to the dtype."""
    module = build(fastrnn, mode, 4, 6, dtype=dtype)
    exact = copy.deepcopy(module).double()
    inputs, tangents = torch.randn(2, 2, 5, 3, 4).to(dtype)

    def through(module, inputs, tangents):
        def call(x):
            return module(x)[0]

        vmapped = torch.func.vmap(call)(inputs)
        _, jvp = torch.func.jvp(call, (inputs[0],), (tangents[0],))
        x = inputs[0].clone().requires_grad_()
        (grad,) = torch.autograd.grad(call(x).square().sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(grad.square().sum(), x)
        return vmapped, jvp, second

    found = through(module, inputs, tangents)
    expected = through(exact, inputs.double(), tangents.double())
    assert all(result.dtype is dtype for result in found)
    assert_matches(found, expected, fraction=10 * torch.finfo(dtype).eps)
