"""The modules against those of torch.nn: results, gradients, strides, and all that is not maths."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from cases import MODES, build, evaluate, make_states, pair
from tolerances import assert_matches
from torch import nn
from torch.nn.utils import parametrize

import fastrnn
from fastrnn import ops

STYLES = {
    "contiguous": lambda x: x,
    "time and batch swapped": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "features outermost": lambda x: x.movedim(-1, 0).contiguous().movedim(0, -1),
    "every other feature": lambda x: x.repeat_interleave(2, -1)[..., ::2],
    "one row for all": lambda x: x[:1].expand_as(x),
    "one vector for all": lambda x: x.flatten(0, -2)[0].expand_as(x),
}


# Torch's own modules on a GPU, of weights that were replaced.
pytestmark = pytest.mark.filterwarnings("ignore:RNN module weights are not part of:UserWarning")


@pytest.fixture
def kernel_calls(monkeypatch) -> list[str]:
    """The modes of the layers that kernels ran, rather than torch's own code."""
    calls: list[str] = []
    original, shortest = ops.layer, ops.layer_with_gradient

    def layer_with_gradient(*args: Any) -> Any:
        calls.append(args[-2])
        return shortest(*args)

    def layer(mode: str, *args: Any) -> Any:
        calls.append(mode)
        return original(mode, *args)

    monkeypatch.setattr(ops, "layer_with_gradient", layer_with_gradient)
    monkeypatch.setattr(ops, "layer", layer)
    for cls in (fastrnn.RNN, fastrnn.LSTM, fastrnn.GRU):
        monkeypatch.setattr(cls, "_layer", staticmethod(layer))
    return calls


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize("mode", MODES)
def test_equal_to_torch(mode, num_layers, bidirectional, batch_first, isa, kernel_calls, device):
    ours, theirs = pair(
        mode, 5, 9, num_layers, bidirectional=bidirectional, batch_first=batch_first
    )
    input = torch.randn(4, 3, 5)
    hx = make_states(theirs, 4 if batch_first else 3)
    assert_matches(evaluate(ours, input, hx), evaluate(theirs, input, hx))
    assert_matches(evaluate(ours, input), evaluate(theirs, input))
    assert len(kernel_calls) == 2 * num_layers * (1 + bidirectional)


@pytest.mark.parametrize("features", [5, 16])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("mode", MODES)
def test_strides_of_the_input(mode, style, batch, features, isa, device):
    ours, theirs = pair(mode, features, 6)
    input = STYLES[style](torch.randn(4, batch, features))
    assert_matches(evaluate(ours, input), evaluate(theirs, input))


@pytest.mark.parametrize("mode", MODES)
def test_strides_of_states_and_weights(mode):
    ours, theirs = pair(mode, 5, 6)
    for module in (ours, theirs):
        for name, weight in list(module.named_parameters()):
            if weight.dim() == 2:
                setattr(module, name, nn.Parameter(weight.detach().t().contiguous().t()))
    hx = make_states(ours, 1)
    hx = tuple(s.expand(1, 3, 6) for s in hx) if mode == "LSTM" else hx.expand(1, 3, 6)
    input = torch.randn(4, 3, 5)
    assert_matches(evaluate(ours, input, hx), evaluate(theirs, input, hx))


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("shape", [(4, 3, 5), (4, 5), (1, 1, 5)])
@pytest.mark.parametrize("mode", MODES)
def test_strides_of_the_results(mode, shape, batch_first, device):
    for bidirectional in (False, True):
        ours, theirs = pair(mode, 5, 6, 2, batch_first=batch_first, bidirectional=bidirectional)
        input = torch.randn(shape)
        (output, finals), (want_output, want_finals) = ours(input), theirs(input)
        assert output.stride() == want_output.stride()
        finals, want_finals = ([f] if mode != "LSTM" else f for f in (finals, want_finals))
        assert [f.stride() for f in finals] == [f.stride() for f in want_finals]


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("mode", MODES)
def test_results_share_no_memory(mode, num_layers, grad, device):
    module = build(fastrnn, mode, 5, 6, num_layers)
    input = torch.randn(1, 1, 5)
    hx = make_states(module, 1)
    with torch.set_grad_enabled(grad):
        output, finals = module(input, hx)
        finals, states = ([s] if mode != "LSTM" else list(s) for s in (finals, hx))
        kept = [t.detach().clone() for t in (output, *finals, *states)]
        for k, final in enumerate(finals):
            final[:] = 7.0
            kept[1 + k].fill_(7.0)
    assert_matches([t.detach() for t in (output, *finals, *states)], kept, fraction=0)


@pytest.mark.parametrize("mode", MODES)
def test_states_may_be_changed_in_place_before_backward(mode, device):
    module = build(fastrnn, mode, 5, 6)
    output, finals = module(torch.randn(4, 3, 5))
    for final in finals if mode == "LSTM" else [finals]:
        final[:, 0] = 0
    output.sum().backward()
    assert module.weight_hh_l0.grad.abs().sum() > 0


@pytest.mark.parametrize("mode", MODES)
def test_output_changed_in_place_is_found_in_backward(mode, device):
    """Backward needs the output, as in torch.nn.LSTM: an error, never a wrong gradient."""
    output, _ = build(fastrnn, mode, 5, 6)(torch.randn(4, 3, 5))
    output += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


@pytest.mark.parametrize("mode", MODES)
def test_dropout_draws_and_results_as_torch(mode):
    ours, theirs = pair(mode, 5, 6, 3, dropout=0.4, bidirectional=True)
    input = torch.randn(4, 3, 5)
    results = []
    for module in (ours, theirs):
        torch.manual_seed(3)
        results.append(evaluate(module, input))
    assert_matches(*results)
    assert_matches(evaluate(ours.eval(), input), evaluate(theirs.eval(), input))
    ours.train().dropout = 0.0
    assert_matches(evaluate(ours, input), evaluate(theirs, input))


@pytest.mark.parametrize("dropout", [0.25, 1.0])
def test_dropout_zeroes_its_share(dropout, device):
    """With identity weights, the second layer shows what dropout left of the first."""
    module = fastrnn.RNN(8, 8, 2, nonlinearity="relu", bias=False, dropout=dropout)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            weight.copy_(torch.eye(8) if "ih" in name else torch.zeros(8, 8))
        output, _ = module(torch.ones(100, 10, 8))
    zeros = (output == 0).double().mean().item()
    # 8000 draws: five standard deviations are 0.025 at most.
    assert zeros == pytest.approx(dropout, abs=0.025)
    assert torch.all((output == 0) | (output == 1 / max(1 - dropout, 1e-9)))


@pytest.mark.parametrize("mode", MODES)
def test_other_devices_run_as_torch(mode, kernel_calls):
    module = build(fastrnn, mode, 5, 6, device="meta", dtype=torch.bfloat16)
    output, _ = module(torch.empty(4, 3, 5, device="meta", dtype=torch.bfloat16))
    assert output.shape == (4, 3, 6)
    assert kernel_calls == []


CONSTRUCTIONS: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("RNN", (3, 4), {}),
    ("RNN", (3, 4, 2, "relu"), {}),
    ("RNN", (3, 4, 2, "relu", False, True, 0.5, True), {}),
    ("RNN", (3, 4), {"nonlinearity": "relu", "dtype": torch.float64}),
    ("LSTM", (3, 4), {}),
    ("LSTM", (3, 4, 2, False, True, 0.5, True), {}),
    ("LSTM", (3,), {"hidden_size": 4, "num_layers": 2, "dropout": 0.5}),
    ("GRU", (3, 4, 2, False, True, 0.5, True), {}),
    ("GRU", (), {"input_size": 3, "hidden_size": 4, "device": "meta"}),
]


@pytest.mark.parametrize(("name", "args", "kwargs"), CONSTRUCTIONS)
def test_construction(name, args, kwargs):
    modules = []
    for package in (fastrnn, nn):
        torch.manual_seed(5)
        modules.append(getattr(package, name)(*args, **kwargs))
    ours, theirs = modules
    assert repr(ours) == repr(theirs)
    assert type(ours).__name__ == name
    assert isinstance(ours, nn.RNNBase)
    own = {"_flat_weights", "_flat_weight_refs", "_parameters"}
    assert {k: v for k, v in vars(ours).items() if k not in own} == {
        k: v for k, v in vars(theirs).items() if k not in own
    }
    assert vars(ours).keys() == vars(theirs).keys()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    if ours.weight_ih_l0.device.type == "cpu":
        assert_matches(ours.state_dict(), dict(theirs.state_dict()), fraction=0)
        theirs.load_state_dict(ours.state_dict())
        ours.load_state_dict(theirs.state_dict())


@pytest.mark.parametrize("mode", MODES)
def test_copies_are_equal_and_apart(mode, device):
    module = build(fastrnn, mode, 5, 6, 2)
    input = torch.randn(4, 3, 5)
    expected = evaluate(module, input)
    module(input)
    for copied in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert_matches(evaluate(copied, input), expected, fraction=0)
        with torch.no_grad():
            copied.weight_hh_l0.zero_()
        assert_matches(evaluate(module, input), expected, fraction=0)
        module.flatten_parameters()


@pytest.mark.parametrize("mode", MODES)
def test_weights_are_read_at_every_call(mode, device):
    ours, theirs = pair(mode, 5, 6)
    input = torch.randn(4, 3, 5)
    fresh = torch.randn_like(ours.weight_hh_l0)

    def assert_equal():
        with torch.no_grad():
            assert_matches(ours(input), theirs(input))

    for module in (ours, theirs):
        module.weight_hh_l0.data = fresh.clone()
    assert_equal()
    for module in (ours, theirs):
        module.weight_hh_l0.data.mul_(0.5)
    assert_equal()
    for module in (ours, theirs):
        module._parameters["weight_hh_l0"] = nn.Parameter(2 * fresh)
    assert_equal()
    for module in (ours, theirs):
        module._flat_weights[1] = fresh
    assert_equal()
    for module in (ours, theirs):
        module.weight_hh_l0 = nn.Parameter(-fresh)
    assert_equal()
    for module in (ours, theirs):
        del module.weight_hh_l0
        module.weight_hh_l0 = fresh / 3
    assert_equal()


@pytest.mark.parametrize("mode", MODES)
def test_functional_call_and_parametrized_weights(mode, device):
    ours, theirs = pair(mode, 5, 6)
    input = torch.randn(4, 3, 5)
    swapped = {name: torch.randn_like(p) for name, p in ours.named_parameters()}
    assert_matches(
        torch.func.functional_call(ours, swapped, (input,)),
        torch.func.functional_call(theirs, swapped, (input,)),
    )
    assert_matches(evaluate(ours, input), evaluate(theirs, input))
    for module in (ours, theirs):
        parametrize.register_parametrization(module, "weight_hh_l0", Doubled())
    assert_matches(evaluate(ours, input), evaluate(theirs, input))


class Doubled(nn.Module):
    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return 2 * weight


def test_a_subclass_can_choose_the_reference():
    calls = []

    def layer(*args: Any) -> Any:
        calls.append(args[0])
        return fastrnn.reference.layer(*args)

    class Plain(fastrnn.GRU):
        _layer = staticmethod(layer)

    module = Plain(5, 6, bidirectional=True, dtype=torch.bfloat16)
    module(torch.randn(4, 3, 5, dtype=torch.bfloat16))
    assert calls == ["GRU", "GRU"]


def test_lstm_states_may_be_a_list(device):
    ours, theirs = pair("LSTM", 5, 6)
    input, hx = torch.randn(4, 3, 5), make_states(nn.LSTM(5, 6), 3)
    assert_matches(evaluate(ours, input, list(hx)), evaluate(theirs, input, list(hx)))


def test_keyword_arguments(device):
    ours, theirs = pair("GRU", 5, 6)
    input, hx = torch.randn(4, 3, 5), torch.randn(1, 3, 6)
    assert_matches(ours(input=input, hx=hx), theirs(input=input, hx=hx))


def test_a_trace_holds_torchs_functions(recwarn):
    module = fastrnn.LSTM(5, 6)
    input = torch.randn(4, 3, 5)
    traced = torch.jit.trace(module, input)
    assert "aten::lstm" in str(traced.inlined_graph)
    assert_matches(traced(input), module(input))
