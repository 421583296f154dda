"""`proj_size` of the LSTM, and the same in the modules that refuse it."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from cases import MODES, OpCalls, evaluate, layer_arguments, pair
from test_errors import error_of
from test_fallback import NOT_BUILT, run
from tolerances import assert_matches
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import fastrnn

# torch says once that it has no fast path for projections.
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")


# float32: a sum of 130 terms in each of two orders; halves: rounded where they leave the layer.
ALLOWED = {torch.float32: 1e-5, torch.float64: 1e-12, torch.bfloat16: 3e-2, torch.float16: 5e-3}


def states(layers: int, *batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(layers, *batch, 3), torch.randn(layers, *batch, 6)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("num_layers", [1, 2])
def test_equal_to_torch(num_layers, bidirectional, batch_first, bias, isa):
    ours, theirs = pair(
        "LSTM",
        5,
        6,
        num_layers,
        proj_size=3,
        bidirectional=bidirectional,
        batch_first=batch_first,
        bias=bias,
    )
    assert repr(ours) == repr(theirs)
    assert "proj_size=3" in repr(ours)
    count = num_layers * (2 if bidirectional else 1)
    input = torch.randn(4, 2, 5)
    hx = states(count, 4 if batch_first else 2)
    with OpCalls() as ops:
        for given in (None, hx):
            assert_matches(evaluate(ours, input, given), evaluate(theirs, input, given))
            with torch.no_grad():
                assert_matches(ours(input, given), theirs(input, given))
        assert_matches(evaluate(ours, input[0]), evaluate(theirs, input[0]))
    assert ops.calls
    output, (h_n, c_n) = ours(input, hx)
    assert output.size(-1) == 3 * (2 if bidirectional else 1)
    assert (h_n.size(-1), c_n.size(-1)) == (3, 6)


@pytest.mark.parametrize(
    "shape", [(1, 1, 8, 16, 4), (1, 5, 8, 40, 33), (30, 1, 20, 130, 7), (12, 50, 33, 65, 64)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_sizes_and_dtypes(shape, dtype, isa):
    """T, B, I, H, P: single steps, single rows, sizes that no vector divides."""
    steps, batch, inputs, hidden, size = shape
    ours, theirs = pair("LSTM", inputs, hidden, proj_size=size)
    ours, theirs = ours.to(dtype), theirs.double()
    theirs.load_state_dict(ours.state_dict())
    input = torch.randn(steps, batch, inputs).to(dtype)
    hx = torch.randn(1, batch, size).to(dtype), torch.randn(1, batch, hidden).to(dtype)
    wide = [state.double() for state in hx]
    for threads in (1, 2):
        torch.set_num_threads(threads)
        actual = evaluate(ours, input, hx)
        assert_matches(actual, evaluate(theirs, input.double(), wide), ALLOWED[dtype])
        with torch.no_grad():
            output, finals = ours(input, hx)
        assert_matches([output, *finals], list(actual[0]), fraction=0)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_packed_sequences_run_on_the_kernels(bidirectional):
    ours, theirs = pair("LSTM", 5, 9, 2, proj_size=4, bidirectional=bidirectional)
    lengths = torch.tensor([3, 7, 1, 7, 2])
    packed = pack_padded_sequence(torch.randn(7, 5, 5), lengths, enforce_sorted=False)
    for gradients in (True, False):
        with torch.set_grad_enabled(gradients), OpCalls() as ops:
            output, finals = ours(packed)
        assert ops.calls
        expected, expected_finals = theirs(packed)
        assert_matches([output.data, *finals], [expected.data, *expected_finals])
    mine, his = (
        torch.autograd.grad(m(packed)[0].data.square().sum(), m.parameters())
        for m in (ours, theirs)
    )
    assert_matches(mine, his)


def test_second_derivatives():
    module = fastrnn.LSTM(2, 4, proj_size=3).double()
    input, lengths = torch.randn(3, 2, 2).double().requires_grad_(), torch.tensor([3, 1])
    assert torch.autograd.gradgradcheck(lambda x: module(x)[0], input)
    assert torch.autograd.gradgradcheck(lambda x: module(x, lengths=lengths)[0], input)


def test_wrong_projections_are_refused_before_memory_is_touched():
    mode = MODES.index("LSTM")
    tensors = layer_arguments("LSTM", hidden=6)
    run = torch.ops.fastrnn._layer_forward
    for weight, text in {
        torch.zeros(6, 6): "whose h it makes smaller",
        torch.zeros(3, 5): "whose h it makes smaller",
        torch.zeros(6): "whose h it makes smaller",
        torch.zeros(6, 9): "weight_ih must have shape",
    }.items():
        with pytest.raises(RuntimeError, match=text):
            run(*tensors, mode, False, True, weight_hr=weight)
    half = [None if t is None else t.bfloat16() for t in tensors]
    with pytest.raises(RuntimeError, match="must be float32 or float64"):
        run(*half, mode, False, True, weight_hr=torch.zeros(6, 9).bfloat16())


def test_library_checks():
    input, _, _, weight_ih, _, bias_ih, bias_hh = layer_arguments("LSTM", hidden=6)
    hx, cx, weight_hh, weight_hr = (torch.randn(s) for s in [(3, 2), (3, 6), (24, 2), (2, 6)])
    tensors, mode = (input, hx, cx, weight_ih, weight_hh, bias_ih, bias_hh), MODES.index("LSTM")
    forward = torch.ops.fastrnn._layer_forward.default
    options = {"weight_hr": weight_hr}
    torch.library.opcheck(forward, (*tensors, mode, False, True), options)
    output, h_n, c_n, reserve = forward(*tensors, mode, False, True, **options)
    saved = (input, hx, cx, weight_ih, weight_hh, output, reserve)
    torch.library.opcheck(
        torch.ops.fastrnn._layer_backward.default,
        (output, h_n, c_n, *saved, mode, False, 255),
        options,
    )


def test_state_dict_and_copies():
    ours, theirs = pair("LSTM", 5, 6, 2, proj_size=3, bidirectional=True)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert ours.all_weights[3][4] is ours.weight_hr_l1_reverse
    input = torch.randn(4, 2, 5)
    expected = evaluate(theirs, input)
    for module in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert_matches(evaluate(module, input), expected, fraction=1e-5)


@pytest.mark.parametrize("size", [-1, 6, 7, 2.5, "3", None, True])
@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_wrong_sizes(name, size):
    ours, theirs = (lambda p=p: getattr(p, name)(5, 6, proj_size=size) for p in (fastrnn, nn))
    try:
        theirs()
    except Exception:
        assert error_of(ours) == error_of(theirs)
    else:
        assert repr(ours()) == repr(theirs())


@pytest.mark.parametrize(
    "hx",
    [
        (torch.zeros(1, 2, 6), torch.zeros(1, 2, 6)),
        (torch.zeros(1, 2, 3), torch.zeros(1, 2, 3)),
        (torch.zeros(1, 1, 3), torch.zeros(1, 1, 6)),
        (torch.zeros(2, 3), torch.zeros(2, 6)),
    ],
)
def test_wrong_states(hx):
    ours, theirs = pair("LSTM", 5, 6, proj_size=3)
    input = torch.randn(4, 2, 5)
    assert error_of(lambda: ours(input, hx)) == error_of(lambda: theirs(input, hx))


def test_without_the_extension():
    program = """
        import torch, fastrnn
        torch.manual_seed(0)
        ours = fastrnn.LSTM(5, 6, 2, proj_size=3, bidirectional=True)
        theirs = torch.nn.LSTM(5, 6, 2, proj_size=3, bidirectional=True)
        ours.load_state_dict(theirs.state_dict())
        x = torch.randn(4, 2, 5)
        torch.testing.assert_close(ours(x)[0], theirs(x)[0])
    """
    result = run(NOT_BUILT, program, "-W", "ignore")
    assert result.returncode == 0, result.stderr


def test_explain():
    explanation = fastrnn.explain(fastrnn.LSTM(5, 6, proj_size=3), torch.randn(4, 2, 5))
    assert explanation.path == "kernels"
