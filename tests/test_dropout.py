"""Dropout by one mask for all steps, of a layer's input and of its previous states."""

from __future__ import annotations

import copy
import functools
import pickle
from typing import Any

import pytest
import torch
from cases import MODES, build, evaluate, layer_arguments, make_states
from tolerances import assert_matches
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import fastrnn
from fastrnn import _C, _extension, dropout, ops, reference

BOTH = {"input_dropout": 0.3, "recurrent_dropout": 0.4}


def draw_mask(batch: int, hidden: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.dropout(torch.ones(batch, hidden, dtype=dtype), 0.4, True)


def results(layer: Any, mode: str, tensors: list[Any], **options: Any) -> list[Any]:
    """Output, last states, and all gradients of a weighted sum of them."""
    leaves = [None if t is None else t.detach().requires_grad_() for t in tensors]
    found = [r for r in layer(mode, *leaves, **options) if r is not None]
    generator = torch.Generator().manual_seed(1)
    loss: Any = sum(
        (r * torch.randn(r.shape, generator=generator, dtype=torch.float64).to(r)).sum()
        for r in found
    )
    return found + list(torch.autograd.grad(loss, [t for t in leaves if t is not None]))


def arguments(mode: str, shape: tuple[int, ...], **options: Any) -> list[Any]:
    """Weights as small as a module's: larger ones make roundings grow from step to step."""
    tensors = layer_arguments(mode, *shape, **options)
    tensors[4] = tensors[4] / shape[3] ** 0.5
    return tensors


def wide(tensors: list[Any]) -> list[Any]:
    return [None if t is None else t.double() for t in tensors]


@pytest.mark.parametrize("mode", MODES)
def test_the_reference_multiplies_only_what_the_hidden_weights_do(mode):
    tensors = layer_arguments(mode, dtype=torch.float64)
    x, h, c, w_ih, w_hh, b_ih, b_hh = tensors
    mask = draw_mask(3, 6, torch.float64)
    outputs = []
    for t in range(len(x)):
        i, hidden = (
            nn.functional.linear(x[t], w_ih, b_ih),
            nn.functional.linear(h * mask, w_hh, b_hh),
        )
        if mode == "LSTM":
            h, c = torch._VF.lstm_cell(x[t], (h * mask, c), w_ih, w_hh, b_ih, b_hh)
        elif mode == "GRU":
            (r_i, z_i, n_i), (r_h, z_h, n_h) = i.chunk(3, 1), hidden.chunk(3, 1)
            z = torch.sigmoid(z_i + z_h)
            h = (1 - z) * torch.tanh(n_i + torch.sigmoid(r_i + r_h) * n_h) + z * h
        else:
            h = {"RNN_TANH": torch.tanh, "RNN_RELU": torch.relu}[mode](i + hidden)
        outputs.append(h)
    output, h_n, c_n = reference.layer(mode, *tensors, False, mask=mask)
    assert_matches((output, h_n, c_n), (torch.stack(outputs), h, c))


# (T, B, I, H): a single step and row; tiles with and without rest; several chunks of backward.
SHAPES = [
    (1, 1, 3, 4),
    (1, 5, 4, 33),
    (9, 1, 4, 72),
    (7, 13, 5, 8),
    (5, 50, 3, 20),
    (40, 32, 3, 40),
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mode", MODES)
def test_kernels_equal_the_reference(mode, shape, isa):
    for dtype, reverse, bias in [
        (torch.float32, False, True),
        (torch.float32, True, False),
        (torch.float64, True, True),
    ]:
        tensors = arguments(mode, shape, bias=bias, dtype=dtype)
        mask = draw_mask(shape[1], shape[3], dtype)
        actual = results(ops.layer, mode, tensors, reverse=reverse, mask=mask)
        expected = results(
            reference.layer, mode, wide(tensors), reverse=reverse, mask=mask.double()
        )
        assert_matches(actual, expected)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "shape", [(12, 1, 64, 256), (5, 4, 64, 600), (1, 2, 128, 512), (20, 70, 8, 40)]
)
def test_any_number_of_threads_gives_the_same_bits(mode, shape, isa):
    """Units of one row are shared, those of few, those of a single step, and rows."""
    tensors, mask = arguments(mode, shape), draw_mask(shape[1], shape[3])
    one = results(ops.layer, mode, tensors, reverse=False, mask=mask)
    torch.set_num_threads(2)
    two = results(ops.layer, mode, tensors, reverse=False, mask=mask)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert_matches(
        two, results(reference.layer, mode, wide(tensors), reverse=False, mask=mask.double())
    )


@pytest.mark.parametrize("dtype", ops.HALVES)
@pytest.mark.parametrize("mode", MODES)
def test_halves(mode, dtype):
    tensors = [t if t is None else t.to(dtype) for t in layer_arguments(mode)]
    mask = draw_mask(3, 6, dtype)
    actual = results(ops.layer, mode, tensors, reverse=True, mask=mask)
    assert {r.dtype for r in actual} == {dtype}
    assert_matches(
        actual, results(reference.layer, mode, wide(tensors), reverse=True, mask=mask.double())
    )


def test_a_projection_runs_by_the_reference():
    tensors = layer_arguments("LSTM", dtype=torch.float64)
    tensors[1], tensors[4] = tensors[1][:, :2], tensors[4][:, :2]
    options = {
        "weight_hr": torch.randn(2, 6, dtype=torch.float64),
        "mask": draw_mask(3, 2).double(),
    }
    masked = [tensors[0][:1], tensors[1] * options["mask"], *tensors[2:]]
    first = reference.layer("LSTM", *masked, False, weight_hr=options["weight_hr"])[0]
    assert_matches(ops.layer("LSTM", *tensors, False, **options)[0][:1], first)


def seeded(module: nn.Module, *args: Any, **kwargs: Any) -> tuple[Any, dict[str, Tensor]]:
    torch.manual_seed(5)
    return evaluate(module, *args, **kwargs)


def by_reference(module: nn.Module) -> nn.Module:
    other = copy.deepcopy(module)
    other._layer = reference.layer
    return other


@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True, "dropout": 0.2}])
@pytest.mark.parametrize("mode", MODES)
def test_modules(mode, options):
    module = build(fastrnn, mode, 4, 5, **options, **BOTH, batch_first=True)
    input, hx = torch.randn(3, 7, 4), make_states(module, 3)
    actual = seeded(module, input, hx)
    assert_matches(actual, seeded(by_reference(module), input, hx))
    again = seeded(module, input, hx)
    assert torch.equal(actual[0][0], again[0][0])
    assert not torch.equal(actual[0][0], evaluate(module, input, hx)[0][0])
    one = torch.manual_seed(5) and module(input, hx)[0]
    with torch.no_grad():
        assert torch.equal(torch.manual_seed(5) and module(input, hx)[0], one)


LENGTHS = torch.tensor([4, 9, 1, 0, 6, 6, 2])


@pytest.mark.parametrize("padding", ["right", "left"])
@pytest.mark.parametrize("mode", MODES)
def test_lengths(mode, padding, isa):
    module = build(fastrnn, mode, 4, 9, num_layers=2, bidirectional=True, **BOTH)
    input, hx = torch.randn(9, 7, 4), make_states(module, 7)
    call = functools.partial(nn.Module.__call__, lengths=LENGTHS, padding=padding)
    actual = seeded(module, input, hx, call=call)
    assert_matches(actual, seeded(by_reference(module), input, hx, call=call))
    # A row has the mask of its place, whatever the lengths of the others.
    torch.manual_seed(5)
    whole, _ = module(input, hx, lengths=torch.full((7,), 9))
    assert_matches(actual[0][0][:, 1], whole[:, 1].detach())


@pytest.mark.parametrize("enforce_sorted", [False, True])
def test_packed_sequences(enforce_sorted):
    module = fastrnn.LSTM(4, 5, bidirectional=True, **BOTH)
    input, lengths = torch.randn(9, 4, 4), torch.tensor([9, 6, 6, 2])
    lengths = lengths if enforce_sorted else lengths.flip(0)
    packed = pack_padded_sequence(input, lengths, enforce_sorted=enforce_sorted)
    for other in (module, by_reference(module)):
        torch.manual_seed(5)
        output, (h_n, _) = other(packed)
        torch.manual_seed(5)
        wanted, (wanted_h, _) = module(input, lengths=lengths)
        assert_matches(pad_packed_sequence(output)[0], wanted)
        assert_matches(h_n, wanted_h)
    assert by_reference(module).forward(packed, output=False)[0] is None


@pytest.mark.parametrize("mode", MODES)
def test_derivatives(mode):
    module = build(fastrnn, mode, 2, 3, bidirectional=True, dtype=torch.float64, **BOTH)
    input = torch.randn(3, 2, 2, dtype=torch.float64, requires_grad=True)
    states = make_states(module, 2)
    states = [s.requires_grad_() for s in (states if mode == "LSTM" else [states])]
    for options in ({}, {"lengths": torch.tensor([1, 3])}):

        def call(input: Tensor, *states: Tensor, options: Any = options) -> Tensor:
            torch.manual_seed(3)
            return module(input, states if mode == "LSTM" else states[0], **options)[0]

        assert torch.autograd.gradcheck(call, (input, *states))
        assert torch.autograd.gradgradcheck(call, (input, *states))


def test_masks_are_one_for_all_steps_with_the_right_mean():
    gru = fastrnn.GRU(50, 40, **BOTH)
    x, mask = dropout.apply(gru, torch.ones(3, 2000, 50), torch.zeros(2000, 40))
    assert torch.equal(x[0], x[2])
    for drawn, p in ((x[0], 0.3), (mask, 0.4)):
        assert_matches(drawn.unique(), torch.tensor([0, 1 / (1 - p)]))
        zeros = (drawn == 0).double()
        assert abs(zeros.mean() - p) < 0.01
        assert (zeros.mean(0) - p).abs().max() < 0.06 and (zeros.mean(1) - p).std() < 0.1


@pytest.mark.parametrize("mode", MODES)
def test_evaluation_and_zero_probability_are_without(mode):
    plain = build(fastrnn, mode, 4, 5, num_layers=2)
    masked = build(fastrnn, mode, 4, 5, num_layers=2, **BOTH)
    masked.load_state_dict(plain.state_dict())
    input = torch.randn(6, 3, 4)
    assert_matches(evaluate(masked.eval(), input), evaluate(plain, input), 0)
    state = torch.random.get_rng_state()
    plain(input)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_options_are_kept():
    lstm = fastrnn.LSTM(4, 5, **BOTH)
    text = "LSTM(4, 5, input_dropout=0.3, recurrent_dropout=0.4)"
    for copied in (lstm, copy.deepcopy(lstm), pickle.loads(pickle.dumps(lstm))):
        assert repr(copied) == text
    assert repr(fastrnn.RNN(4, 5, input_dropout=0, nonlinearity="relu")) == "RNN(4, 5)"
    assert lstm.state_dict().keys() == nn.LSTM(4, 5).state_dict().keys()
    del lstm.input_dropout, lstm.recurrent_dropout  # as of a pickle from before there were any
    assert repr(lstm) == "LSTM(4, 5)" and lstm(torch.randn(2, 1, 4))[0].shape == (2, 1, 5)


@pytest.mark.parametrize("name", ["input_dropout", "recurrent_dropout"])
@pytest.mark.parametrize("p", [-0.1, 1, 1.5, float("nan"), "0.1", True, None])
def test_probabilities_are_checked(name, p):
    with pytest.raises(ValueError, match=rf"^{name} should be a number in range \[0, 1\)"):
        fastrnn.GRU(4, 5, **{name: p})


def test_ops_check_the_mask():
    run = torch.ops.fastrnn._layer_forward.default
    tensors = layer_arguments("GRU")
    code = MODES.index("GRU")
    with pytest.raises(RuntimeError, match=r"mask .*\(3, 6\)"):
        run(*tensors, code, False, True, mask=torch.ones(3, 5))
    with pytest.raises(RuntimeError, match="mask"):
        run(*tensors, code, False, True, mask=torch.ones(3, 6, dtype=torch.float64))
    half = [t.bfloat16() for t in tensors if t is not None]
    with pytest.raises(RuntimeError, match="mask must be float32 or float64"):
        run(half[0], half[1], None, *half[2:], code, False, True, mask=torch.ones(3, 6).bfloat16())


@pytest.mark.parametrize("mode", MODES)
def test_opcheck(mode):
    tensors, code, mask = layer_arguments(mode), MODES.index(mode), draw_mask(3, 6)
    forward, backward = (
        getattr(torch.ops.fastrnn, f"_layer_{way}").default for way in ("forward", "backward")
    )
    options = {"mask": mask}
    torch.library.opcheck(forward, (*tensors, code, False, True), options)
    output, h_n, _, reserve = forward(*tensors, code, False, True, **options)
    wanted = 0b1111111 if mode == "LSTM" else 0b1111011
    saved = (output, h_n, None, *tensors[:5], output, reserve, code, False, wanted)
    torch.library.opcheck(backward, saved, options)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("lengths", [None, torch.tensor([2, 5, 3])])
def test_compiled_in_one_graph(lengths):
    torch.compiler.reset()
    module = fastrnn.GRU(4, 6, num_layers=2, **BOTH)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    call = functools.partial(nn.Module.__call__, lengths=lengths)
    input = torch.randn(5, 3, 4)
    actual = seeded(compiled, input, call=call)
    wanted = seeded(module, input, call=call)
    assert_matches(actual[0], wanted[0])
    assert_matches(list(actual[1].values()), list(wanted[1].values()))
    torch.compiler.reset()


def test_function_transforms():
    module = fastrnn.LSTM(3, 4, **BOTH).double()
    inputs = torch.randn(2, 5, 3, 3, dtype=torch.float64)

    def call(input: Tensor) -> Tensor:
        return module(input)[0]

    with torch.no_grad():
        torch.manual_seed(2)
        mapped = torch.func.vmap(call, randomness="same")(inputs)
        torch.manual_seed(2)
        assert_matches(mapped[0], call(inputs[0]))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_traces_hold_the_masks_and_scripts_refuse_them():
    module = fastrnn.GRU(3, 4, **BOTH)
    input = torch.randn(5, 2, 3)
    traced = torch.jit.trace(module, (input,), check_trace=False)
    assert "fastrnn::" not in str(traced.inlined_graph)
    torch.manual_seed(2)
    output = traced(input)[0]
    torch.manual_seed(2)
    assert_matches(output, module(input)[0])
    with pytest.raises(RuntimeError, match="no recurrent_dropout; call eval"):
        torch.jit.script(module)
    torch.jit.script(module.eval())


def test_explained():
    module = fastrnn.LSTM(3, 4, **BOTH)
    found = fastrnn.explain(module, torch.randn(1, 2, 3))
    assert found.path == "kernels" and "mask" in str(found) and "single step" not in str(found)
    assert "mask" not in str(fastrnn.explain(module.eval(), torch.randn(1, 2, 3)))
    module = fastrnn.LSTM(3, 4, proj_size=2, **BOTH)
    found = fastrnn.explain(module, torch.randn(5, 2, 3))
    assert found.path == "reference"
    assert found.reason == "the kernels with projections have no recurrent dropout"
    module.recurrent_dropout = 0.0
    assert fastrnn.explain(module, torch.randn(5, 2, 3)).path == "kernels"


def test_plans_of_single_steps():
    sizes = {"element_bytes": 4, **_C.machine()}
    assert _C.plan(2, 1, 3, 4, 5, **sizes)["single_step"] == 1
    assert _C.plan(2, 1, 3, 4, 5, **sizes, masks=True)["single_step"] == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_op_draws_the_mask_that_torch_draws(dtype, monkeypatch):
    like = torch.zeros(3, 40, dtype=dtype, requires_grad=True)
    masks = []
    for loaded in (True, False):
        monkeypatch.setattr(_extension, "loaded", loaded)
        torch.manual_seed(3)
        masks += [dropout._draw(like, 3, 40, 0.4), dropout._draw(like, 5, 0, 0.4)]
    for one, three in zip(masks[:2], masks[2:], strict=True):
        assert torch.equal(one, three)
        assert one.dtype is dtype and not one.requires_grad
    assert set(masks[0].flatten().tolist()) == {0.0, (torch.ones((), dtype=dtype) / 0.6).item()}
    assert masks[1].shape == (5, 0)


@pytest.mark.parametrize("arguments", [(2, 3, 1.0, torch.float32), (2, 3, 0.5, torch.bfloat16)])
def test_the_op_refuses_what_is_no_mask(arguments):
    with pytest.raises(RuntimeError, match=r"p must be in|must be float32 or float64"):
        torch.ops.fastrnn._draw_mask.default(*arguments)
