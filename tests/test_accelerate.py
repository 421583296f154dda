"""`accelerate` and `restore`: which modules, by what way, and what they leave as it was."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import textwrap
from typing import Any

import pytest
import torch
from accelerated import CELLS, SEQUENCES, flat, gradients, kernel_calls, make_input, twins
from tolerances import assert_matches
from torch import nn
from torch.nn.utils import parametrize

import fastrnn

ALL = SEQUENCES + CELLS


class Tagger(nn.Module):
    """A model with a recurrent module in each place that a module can be in."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.LSTM(5, 6, batch_first=True)
        self.layers = nn.ModuleList([nn.GRU(6, 6, batch_first=True) for _ in range(2)])
        self.heads = nn.Sequential(nn.Linear(6, 6), nn.RNN(6, 6, batch_first=True))
        self.cell = nn.GRUCell(6, 6)
        self.same = self.encoder

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        output, _ = self.encoder(input)
        for layer in self.layers:
            output, _ = layer(output)
        output, h_n = self.heads(output)
        return output.sum(1) + self.cell(h_n[0])


@pytest.mark.parametrize("compile", [False, True])
def test_every_recurrent_module_of_a_model(compile):
    stock = Tagger()
    model = copy.deepcopy(stock)
    parts = dict(model.named_modules())
    parameters = dict(model.named_parameters())
    assert fastrnn.accelerate(model, compile=compile) is model
    input = torch.randn(3, 4, 5)
    with kernel_calls() as calls:
        actual = gradients(model, input)
    assert calls.count("fastrnn::_layer_forward") == 5
    assert_matches(actual, gradients(stock, input))
    now = dict(model.named_modules())
    assert now.keys() == parts.keys() and all(now[name] is parts[name] for name in parts)
    assert all(p is parameters[name] for name, p in model.named_parameters())
    assert list(model.state_dict()) == list(stock.state_dict())
    assert str(model) == str(stock)


@pytest.mark.parametrize("name", ALL)
def test_types_stay(name):
    module, stock = twins(name)
    cls = getattr(nn, name)
    assert isinstance(module, cls) and type(module) is cls
    assert str(type(module)) == f"<class 'torch.nn.modules.rnn.{name}'>"
    assert type(module).__name__ == type(module).forward.__qualname__.split(".")[0] == name
    assert repr(module) == repr(stock)


@pytest.mark.parametrize("name", ALL)
def test_a_root_module(name):
    module, stock = twins(name)
    input = make_input(stock)
    for grad in (False, True):
        with torch.set_grad_enabled(grad), kernel_calls() as calls:
            results = flat(module(input))
        assert len(calls) == (0 if grad and name == "RNNCell" else 1)
        assert_matches([r.detach() for r in results], [r.detach() for r in flat(stock(input))])


def test_modules_in_python_lists():
    class Hidden(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = [nn.GRU(5, 6), nn.GRU(5, 6)]

    model = Hidden()
    fastrnn.accelerate(model)
    with kernel_calls() as calls:
        model.parts[0](torch.randn(4, 3, 5))
    assert calls == []
    assert fastrnn.accelerate(model.parts) is model.parts
    with kernel_calls() as calls:
        for part in model.parts:
            part(torch.randn(4, 3, 5))
    assert len(calls) == 2
    fastrnn.restore(model.parts)
    assert all("_fastrnn" not in vars(part) for part in model.parts)


@pytest.mark.parametrize("wrong", [None, 3, "LSTM", [nn.GRU(2, 3), 4]])
@pytest.mark.parametrize("function", [fastrnn.accelerate, fastrnn.restore])
def test_wrong_arguments(function, wrong):
    before = copy.deepcopy(vars(wrong[0])) if isinstance(wrong, list) else {}
    with pytest.raises(
        TypeError, match=rf"^{function.__name__}: model must be a torch\.nn\.Module"
    ):
        function(wrong)
    assert not before or vars(wrong[0]).keys() == before.keys()


class Residual(nn.LSTM):
    def forward(self, input: Any, hx: Any = None) -> Any:
        output, states = super().forward(2 * input, hx=hx)
        return output + 1, states


class Explicit(nn.GRU):
    def forward(self, input: Any, hx: Any = None) -> Any:
        return nn.GRU.forward(self, input, hx)


class Mixin(nn.RNNBase):
    def encode(self, input: Any) -> Any:
        return self.forward(input)


class Mixed(Mixin, nn.LSTM):
    pass


class OtherCell(nn.LSTMCell):
    def forward(self, input: Any, hx: Any = None) -> Any:
        h, c = super().forward(input, hx)
        return h, c.clamp(-1, 1)


class Own(nn.GRU):
    def forward(self, input: Any, hx: Any = None) -> Any:
        return input.cumsum(0), hx


@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("cls", [Residual, Explicit, Mixed, OtherCell])
def test_subclasses_that_call_torchs_forward(cls, compile):
    stock = cls(5, 6)
    module = fastrnn.accelerate(copy.deepcopy(stock), compile=compile)
    assert type(module) is cls
    input = make_input(stock)
    with kernel_calls() as calls:
        actual = gradients(module, input)
    assert "fastrnn::_layer_forward" in calls
    assert_matches(actual, gradients(stock, input))


def test_a_subclass_that_calls_nothing_of_torch():
    module = fastrnn.accelerate(Own(5, 6))
    with kernel_calls() as calls:
        module(torch.randn(4, 3, 5))
    assert calls == []


def test_what_torchs_forward_calls_on_a_subclass_is_called():
    class Strict(nn.LSTM):
        def check_forward_args(self, input: Any, hidden: Any, batch_sizes: Any) -> None:
            raise ValueError("not today")

    module = fastrnn.accelerate(nn.Sequential(Strict(5, 6)))
    with torch.no_grad(), pytest.raises(ValueError, match="not today"):
        module(torch.randn(4, 3, 5))
    assert "has a check_forward_args of its own" in str(fastrnn.explain(module))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("compile", [False, True])
def test_twice_is_once_and_restore_is_back(name, compile):
    module, _ = twins(name)
    fastrnn.restore(module)
    attributes, forward = vars(module).copy(), type(module).forward
    for _ in range(2):
        fastrnn.accelerate(module, compile=compile)
        marked, cls = vars(module).copy(), type(module)
    fastrnn.accelerate(module)
    assert vars(module) == marked and type(module) is cls
    for _ in range(2):
        assert fastrnn.restore(module) is module
        assert vars(module) == attributes
        assert type(module) is getattr(nn, name)
        assert type(module).forward is forward
    with kernel_calls() as calls:
        module(make_input(module))
    assert calls == []


def test_restore_leaves_modules_of_fastrnn_alone():
    model = nn.Sequential(fastrnn.GRU(5, 6))
    fastrnn.restore(fastrnn.accelerate(model, compile=True))
    assert type(model[0]) is fastrnn.GRU


def test_other_instances_run_torchs_code():
    twins("GRU")
    other = nn.GRU(5, 6)
    with kernel_calls() as calls:
        other(torch.randn(4, 3, 5))
    assert calls == []


def test_a_forward_that_others_replace_meanwhile(monkeypatch):
    """Before us, after us, and taking ours away again."""
    seen = []
    plain = nn.GRU.forward
    while hasattr(plain, "__wrapped__"):
        plain = plain.__wrapped__

    def theirs(self: Any, input: Any, hx: Any = None) -> Any:
        seen.append(type(self))
        return plain(self, input, hx)

    monkeypatch.setattr(nn.GRU, "forward", theirs)
    module, stock = twins("GRU")
    input = torch.randn(4, 3, 5)
    with kernel_calls() as calls:
        module(input)
        stock(input)
    assert len(calls) == 1 and seen == [nn.GRU]
    nn.GRU.forward = theirs  # as one does who kept it to put it back
    fastrnn.accelerate(module)
    with kernel_calls() as calls:
        module(input)
    assert len(calls) == 1


class Doubled(nn.Module):
    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return 2 * weight


@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("name", ALL)
def test_parametrized_modules(name, when, compile):
    module, stock = twins(name)
    fastrnn.restore(module)
    weight = "weight_hh" if name in CELLS else "weight_hh_l0"
    if when == "after":
        fastrnn.accelerate(module, compile=compile)
    for m in (module, stock):
        parametrize.register_parametrization(m, weight, Doubled())
    fastrnn.accelerate(module, compile=compile)
    swapped = compile and name in SEQUENCES
    assert isinstance(module, getattr(nn, name)) != swapped
    assert type(module).__name__ == f"Parametrized{name}"
    input = make_input(stock)
    with torch.no_grad(), kernel_calls() as calls:
        module(input)
    assert len(calls) == 1
    assert_matches(gradients(module, input), gradients(stock, input))
    if when == "before":
        parametrize.remove_parametrizations(module, weight)
        fastrnn.restore(module)
    else:
        fastrnn.restore(module)
        parametrize.remove_parametrizations(module, weight)
    parametrize.remove_parametrizations(stock, weight)
    assert type(module) is getattr(nn, name)
    assert_matches(gradients(module, input), gradients(stock, input), fraction=0)


def test_restore_says_what_it_cannot_undo():
    module = fastrnn.accelerate(nn.GRU(5, 6), compile=True)
    module.__class__ = type("Sharded", (Mixin, fastrnn.GRU), {})
    with pytest.raises(RuntimeError, match="restore: the class of a Sharded was changed after"):
        fastrnn.restore(module)


@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_projections():
    module, stock = twins("LSTM", 5, 6, proj_size=3)
    input = torch.randn(4, 3, 5)
    for compile in (False, True):
        fastrnn.accelerate(module, compile=compile)
        with torch.no_grad():
            assert_matches(flat(module(input)), flat(stock(input)))
        assert_matches(gradients(module, input), gradients(stock, input))


def test_optimizers_keep_working():
    stock = Tagger()
    model = copy.deepcopy(stock)
    input, target = torch.randn(8, 4, 5), torch.randn(8, 6)
    losses = []
    for m in (stock, model):
        optimizer = torch.optim.Adam(m.parameters(), lr=0.01)
        if m is model:
            fastrnn.accelerate(m)
        losses.append([])
        for _ in range(20):
            loss = nn.functional.mse_loss(m(input), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses[-1].append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize("compile", [False, True])
def test_hooks_and_modes_stay(compile):
    module, _ = twins("GRU", 5, 6, 2, dropout=0.5)
    fastrnn.restore(module)
    seen = []
    module.register_forward_hook(lambda m, args, result: seen.append(result[0].shape))
    module.eval()
    fastrnn.accelerate(module, compile=compile)
    module(torch.randn(4, 3, 5))
    assert seen == [(4, 3, 6)]
    assert not module.training


@pytest.mark.parametrize("name", ALL)
def test_copies_are_accelerated_and_apart(name):
    module, stock = twins(name)
    input = make_input(stock)
    with torch.no_grad():
        module(input)  # weights are packed and kept
        for copied in (
            copy.deepcopy(module),
            copy.copy(module),
            pickle.loads(pickle.dumps(module)),
        ):
            with kernel_calls() as calls:
                results = flat(copied(input))
            assert len(calls) == 1
            assert_matches(results, flat(stock(input)))
        deep = copy.deepcopy(module)
        list(deep.parameters())[1].zero_()
        assert_matches(flat(module(input)), flat(stock(input)))


def test_a_pickle_loads_without_fastrnn(tmp_path):
    model = fastrnn.accelerate(nn.ModuleList([nn.LSTM(5, 6), nn.GRUCell(6, 6)]))
    input = torch.randn(4, 3, 5)
    expected = model[1](model[0](input)[0][-1]).detach()
    torch.save((model, input, expected), tmp_path / "model.pt")
    program = """
        import sys, torch
        sys.modules["fastrnn"] = None  # any import of it fails
        (lstm, cell), input, expected = torch.load("model.pt", weights_only=False)
        assert type(lstm) is torch.nn.LSTM
        torch.testing.assert_close(cell(lstm(input)[0][-1]), expected, rtol=0, atol=1e-5)
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    subprocess.run(command, check=True, timeout=120, cwd=tmp_path)
