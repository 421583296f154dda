"""The raw ops, and how the choice between kernel and reference meets torch's transforms."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases import MODES, build, evaluate, layer_arguments, pair
from tolerances import assert_matches
from torch.autograd import forward_ad

import fastrnn
from fastrnn import ops, reference, transforms

NEEDED = 7


def forward_op(mode: str, arguments: list[Any], reverse: bool = False, save: bool = True) -> Any:
    code = MODES.index(mode)
    return torch.ops.fastrnn._layer_forward.default(*arguments, code, reverse, save)


def backward_arguments(mode: str, wanted: int, bias: bool = True) -> tuple[Any, ...]:
    arguments = layer_arguments(mode, bias=bias)
    output, _, c_n, reserve = forward_op(mode, arguments)
    grads = (torch.randn_like(output), None, torch.randn_like(c_n) if mode == "LSTM" else None)
    code = MODES.index(mode)
    return (*grads, *arguments[:5], output, reserve, code, False, wanted)


@pytest.mark.parametrize("save", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_opcheck_forward(mode, save):
    arguments = (*layer_arguments(mode), MODES.index(mode), False, save)
    torch.library.opcheck(torch.ops.fastrnn._layer_forward.default, arguments)


@pytest.mark.parametrize("wanted", [0b1111111, 0b0011000, 0])
@pytest.mark.parametrize("mode", MODES)
def test_opcheck_backward(mode, wanted):
    if mode != "LSTM":
        wanted &= ~0b100
    torch.library.opcheck(
        torch.ops.fastrnn._layer_backward.default, backward_arguments(mode, wanted)
    )


@pytest.mark.parametrize("mode", MODES)
def test_only_wanted_gradients_are_returned(mode):
    whole = torch.ops.fastrnn._layer_backward.default(*backward_arguments(mode, 0b1111011))
    for k in range(NEEDED):
        if whole[k].numel() == 0:
            continue
        torch.manual_seed(0)
        some = torch.ops.fastrnn._layer_backward.default(*backward_arguments(mode, 1 << k))
        assert [r.numel() > 0 for r in some] == [j == k for j in range(len(some))]


@pytest.mark.parametrize("mode", MODES)
def test_equals_reference(mode, isa):
    for reverse in (False, True):
        arguments = layer_arguments(mode)
        assert_matches(
            ops.layer(mode, *arguments, reverse), reference.layer(mode, *arguments, reverse)
        )


@pytest.mark.parametrize("subset", range(1, 2**NEEDED, 5))
def test_gradients_of_subsets(subset, monkeypatch):
    """Only what requires a gradient is computed, and equals the reference's."""
    arguments = layer_arguments("LSTM")
    for k, argument in enumerate(arguments):
        argument.requires_grad_(bool(subset >> k & 1))
    needing = [a for a in arguments if a.requires_grad]
    masks = []
    op = torch.ops.fastrnn._layer_backward
    original = op.default

    def spy(*args: Any) -> Any:
        masks.append(args[12])
        return original(*args)

    monkeypatch.setattr(op, "default", spy)
    ours, theirs = (
        torch.autograd.grad(sum(r.sum() for r in run("LSTM", *arguments, False)), needing)
        for run in (ops.layer, reference.layer)
    )
    assert masks == [subset]
    assert_matches(ours, theirs)


@pytest.mark.parametrize("mode", MODES)
def test_gradients_of_each_result_alone(mode):
    arguments = layer_arguments(mode, requires_grad=True)
    tensors = [a for a in arguments if a is not None]
    for k in range(3 if mode == "LSTM" else 2):
        ours, theirs = (
            torch.autograd.grad(run(mode, *arguments, True)[k].square().sum(), tensors)
            for run in (ops.layer, reference.layer)
        )
        assert_matches(ours, theirs)


def test_undefined_gradients_pass_through():
    class Stop(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, grad: torch.Tensor) -> None:
            return None

    arguments = layer_arguments("GRU", requires_grad=True)
    output, _, _ = ops.layer("GRU", *arguments, False)
    (grad,) = torch.autograd.grad(Stop.apply(output).sum(), arguments[0], allow_unused=True)
    assert grad is None


@pytest.mark.parametrize("mode", MODES)
def test_second_backward_is_identical(mode):
    arguments = layer_arguments(mode, requires_grad=True)
    tensors = [a for a in arguments if a is not None]
    loss = sum(r.sum() for r in ops.layer(mode, *arguments, False) if r is not None)
    first = torch.autograd.grad(loss, tensors, retain_graph=True)
    second = torch.autograd.grad(loss, tensors)
    assert all(map(torch.equal, first, second))


def test_nothing_is_kept_when_no_gradient_is_needed(monkeypatch):
    saved = []
    op = torch.ops.fastrnn._layer_forward
    original = op.default

    def spy(*args: Any, **kwargs: Any) -> Any:
        saved.append(args[9])
        return original(*args, **kwargs)

    monkeypatch.setattr(op, "default", spy)
    arguments = layer_arguments("LSTM", requires_grad=True)
    with torch.no_grad():
        ops.layer("LSTM", *arguments, False)
    with torch.inference_mode():
        ops.layer("LSTM", *arguments, False)
    ops.layer("LSTM", *[a.detach() for a in arguments], False)
    assert saved == [False] * 3
    output, _, _ = ops.layer("LSTM", *arguments, False)
    assert saved[3:] == [True]
    assert output.requires_grad


@pytest.fixture
def compiler():
    """All modules share one `forward`, and dynamo limits the compiled versions of a function."""
    torch.compiler.reset()


# Tracing an autograd.Function, dynamo makes an instance of it, against torch's own advice.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_compiles_in_one_graph(mode, bidirectional, compiler):
    module = build(fastrnn, mode, 4, 6, 2, batch_first=True, bidirectional=bidirectional)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    input = torch.randn(3, 5, 4)
    assert_matches(evaluate(compiled, input)[0], evaluate(module, input)[0])
    mine, his = (
        torch.autograd.grad(m(input)[0].sum(), list(module.parameters()))
        for m in (compiled, module)
    )
    assert_matches(mine, his)
    with torch.no_grad():
        output, _ = compiled(input)
        assert_matches(output, module(input)[0])
        assert output.stride() == module(input)[0].stride()


# Tracing an autograd.Function, dynamo makes an instance of it, against torch's own advice.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_compiles_for_any_length_and_batch(compiler):
    module = fastrnn.GRU(4, 6)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager", dynamic=True)
    for steps, batch in ((5, 3), (7, 2), (9, 4)):
        input = torch.randn(steps, batch, 4)
        assert_matches(compiled(input), module(input))


# torch warns so for its own modules too: an RNNBase re-reads weights that the exporter swapped.
@pytest.mark.filterwarnings("ignore:The tensor attributes self._flat_weights:UserWarning")
@pytest.mark.parametrize("mode", MODES)
def test_exports(mode):
    module = build(fastrnn, mode, 4, 6)
    input = torch.randn(5, 3, 4)
    program = torch.export.export(module, (input,))
    assert "fastrnn.layer" in str(program.graph)
    assert_matches(program.module()(input), module(input))


@pytest.fixture
def no_kernel(monkeypatch):
    """Fails the test if a raw op is called."""

    def refuse(*args: Any) -> None:
        raise AssertionError("the kernel was called")

    monkeypatch.setattr(torch.ops.fastrnn._layer_forward, "default", refuse)


@pytest.mark.parametrize("mode", MODES)
def test_vmap(mode, no_kernel):
    ours, theirs = pair(mode, 4, 6, 2)
    inputs = torch.randn(2, 5, 3, 4)
    output, _ = torch.func.vmap(lambda x: ours(x))(inputs)
    assert_matches(list(output), [theirs(x)[0] for x in inputs])


# torch's forward-mode differentiation scripts its decompositions when first used.
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("mode", MODES)
def test_jvp(mode, no_kernel):
    module = build(fastrnn, mode, 4, 6, dtype=torch.float64)
    input, tangent = torch.randn(2, 5, 3, 4, dtype=torch.float64)
    _, forward = torch.func.jvp(lambda x: module(x)[0], (input,), (tangent,))
    with forward_ad.dual_level():
        output, _ = module(forward_ad.make_dual(input, tangent))
        assert_matches(forward_ad.unpack_dual(output).tangent, forward)
    step = 1e-6 * tangent
    with torch.no_grad():
        difference = (
            reference_output(module, input + step) - reference_output(module, input - step)
        ) / 2e-6
    assert_matches(forward, difference, fraction=1e-8)


def reference_output(module: Any, input: torch.Tensor) -> torch.Tensor:
    hx = input.new_zeros(input.shape[1], module.hidden_size)
    cx = hx if module.mode == "LSTM" else None
    return reference.layer(module.mode, input, hx, cx, *module._flat_weights, False)[0]


# torch's forward-mode differentiation scripts its decompositions when first used.
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("mode", MODES)
def test_forward_mode_through_backward(mode):
    """Backward is linear in the incoming gradient; the raw op alone would drop the tangent."""
    arguments = layer_arguments(mode, dtype=torch.float64, requires_grad=True)
    tensors = [a for a in arguments if a is not None]
    output, _, _ = ops.layer(mode, *arguments, False)
    grad, tangent = torch.randn(2, *output.shape, dtype=torch.float64)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(grad, tangent)
        duals = torch.autograd.grad(output, tensors, dual, retain_graph=True)
        tangents = [forward_ad.unpack_dual(d).tangent for d in duals]
    assert_matches(tangents, torch.autograd.grad(output, tensors, tangent))


@pytest.mark.parametrize("mode", MODES)
def test_func_grad_per_sample(mode, no_kernel):
    ours, theirs = pair(mode, 4, 6)
    inputs = torch.randn(3, 5, 1, 4)

    def loss(weights, x):
        return torch.func.functional_call(ours, weights, (x,))[0].square().sum()

    weights = {name: w.detach() for name, w in ours.named_parameters()}
    per_sample = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(weights, inputs)
    for k, x in enumerate(inputs):
        expected = torch.autograd.grad(theirs(x)[0].square().sum(), list(theirs.parameters()))
        assert_matches([g[k] for g in per_sample.values()], expected)


def test_guards_exist_in_this_torch():
    """Both are private to torch; without them transforms would reach the kernels."""
    assert not transforms.functorch_active()
    assert torch.func.vmap(lambda x: x + transforms.functorch_active())(torch.zeros(1)).item() == 1
    assert forward_ad._current_level < 0
    with forward_ad.dual_level():
        assert forward_ad._current_level == 0


def test_other_dtypes_fall_to_the_reference(no_kernel):
    arguments = layer_arguments("LSTM", dtype=torch.complex64)
    expected = reference.layer("LSTM", *arguments, False)
    assert all(map(torch.equal, ops.layer("LSTM", *arguments, False), expected))


def test_mixed_dtypes_are_refused(no_kernel):
    arguments = layer_arguments("GRU")
    arguments[1] = arguments[1].double()
    with pytest.raises(RuntimeError, match="dtype"):
        ops.layer("GRU", *arguments, False)
