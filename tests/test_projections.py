"""`proj_size` of the LSTM, and the same in the modules that refuse it."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from cases import OpCalls, evaluate, pair
from test_errors import error_of
from test_fallback import NOT_BUILT, run
from tolerances import assert_matches
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import fastrnn

# torch says once that it has no fast path for projections.
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")


def states(layers: int, *batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(layers, *batch, 3), torch.randn(layers, *batch, 6)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("num_layers", [1, 2])
def test_equal_to_torch(num_layers, bidirectional, batch_first, bias):
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
            assert_matches(evaluate(ours, input, given), evaluate(theirs, input, given), 0)
            with torch.no_grad():
                assert_matches(ours(input, given), theirs(input, given), 0)
        unbatched = evaluate(ours, input[0], states(count)), evaluate(theirs, input[0])
        assert [r.shape for r in unbatched[0][0]] == [r.shape for r in unbatched[1][0]]
    assert ops.calls == []
    output, (h_n, c_n) = ours(input, hx)
    assert output.size(-1) == 3 * (2 if bidirectional else 1)
    assert (h_n.size(-1), c_n.size(-1)) == (3, 6)


def test_state_dict_and_copies():
    ours, theirs = pair("LSTM", 5, 6, 2, proj_size=3, bidirectional=True)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert ours.all_weights[3][4] is ours.weight_hr_l1_reverse
    input = torch.randn(4, 2, 5)
    expected = evaluate(theirs, input)
    for module in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert_matches(evaluate(module, input), expected, fraction=0)


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
        assert torch.equal(ours(x)[0], theirs(x)[0])
    """
    result = run(NOT_BUILT, program, "-W", "ignore")
    assert result.returncode == 0, result.stderr


def test_packed():
    ours, theirs = pair("LSTM", 5, 6, 2, proj_size=3, bidirectional=True)
    input, lengths = torch.randn(4, 3, 5), torch.tensor([2, 4, 1])
    packed = pack_padded_sequence(input, lengths, enforce_sorted=False)
    actual, expected = ours(packed), theirs(packed)
    assert_matches([actual[0].data, actual[1]], [expected[0].data, expected[1]], fraction=0)


def test_explain_says_why():
    explanation = fastrnn.explain(fastrnn.LSTM(5, 6, proj_size=3), torch.randn(4, 2, 5))
    assert explanation.path == "torch"
    assert "proj_size" in explanation.reason
