"""Accelerated modules read their weights at every call, however these came to be what they are."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from accelerated import (
    CELLS,
    SEQUENCES,
    flat,
    gradients,
    hidden_weight,
    kernel_calls,
    make_input,
    make_states,
    twins,
)
from tolerances import assert_matches
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

import fastrnn

ALL = SEQUENCES + CELLS


class Doubled(nn.Module):
    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return 2 * weight


def new_data(module: Any, name: str, fresh: torch.Tensor) -> None:
    getattr(module, name).data = fresh.clone()


def data_in_place(module: Any, name: str, fresh: torch.Tensor) -> None:
    getattr(module, name).data.copy_(fresh)


def one_element(module: Any, name: str, fresh: torch.Tensor) -> None:
    with torch.no_grad():
        getattr(module, name)[0, 0] += 1


def in_the_dict(module: Any, name: str, fresh: torch.Tensor) -> None:
    module._parameters[name] = nn.Parameter(fresh.clone())


def new_parameter(module: Any, name: str, fresh: torch.Tensor) -> None:
    setattr(module, name, nn.Parameter(fresh.clone()))


def plain_tensor_each_step(module: Any, name: str, fresh: torch.Tensor) -> None:
    """As weight dropout does."""
    delattr(module, name)
    setattr(module, name, 0.5 * nn.Parameter(fresh.clone()))


def load(module: Any, name: str, fresh: torch.Tensor) -> None:
    module.load_state_dict(module.state_dict() | {name: fresh})


def assign(module: Any, name: str, fresh: torch.Tensor) -> None:
    module.load_state_dict(module.state_dict() | {name: fresh}, assign=True)


def parametrized(module: Any, name: str, fresh: torch.Tensor) -> None:
    parametrize.register_parametrization(module, name, Doubled())


def weight_norm(module: Any, name: str, fresh: torch.Tensor) -> None:
    parametrizations.weight_norm(module, name)
    with torch.no_grad():
        module.parametrizations[name].original0.mul_(2)


def old_weight_norm(module: Any, name: str, fresh: torch.Tensor) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        nn.utils.weight_norm(module, name)
    with torch.no_grad():
        getattr(module, name + "_g").mul_(2)


def pruned(module: Any, name: str, fresh: torch.Tensor) -> None:
    prune.l1_unstructured(module, name, 0.5)


def there_and_back(module: Any, name: str, fresh: torch.Tensor) -> None:
    module.double()
    module.float()


def emptied(module: Any, name: str, fresh: torch.Tensor) -> None:
    module.to("meta")
    module.to_empty(device="cpu")
    with torch.no_grad():
        for k, parameter in enumerate(module.parameters()):
            parameter.copy_(torch.linspace(-1, 1, parameter.numel()).view_as(parameter) + k / 9)


CHANGES = [
    new_data,
    data_in_place,
    one_element,
    in_the_dict,
    new_parameter,
    plain_tensor_each_step,
    load,
    assign,
    parametrized,
    weight_norm,
    old_weight_norm,
    pruned,
    there_and_back,
    emptied,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("name", ALL)
def test_weights_are_read_at_every_call(name, change):
    module, stock = twins(name)
    weight = hidden_weight(stock)
    fresh = torch.randn_like(getattr(stock, weight).detach())
    arguments = make_input(stock), make_states(stock)
    with torch.no_grad():
        before = flat(module(*arguments))  # the weights are packed and kept
    for m in (module, stock):
        change(m, weight, fresh)
    with torch.no_grad(), kernel_calls() as calls:
        actual = flat(module(*arguments))
    assert len(calls) == 1
    with torch.no_grad():
        assert_matches(actual, flat(stock(*arguments)))
    assert torch.equal(actual[-1], before[-1]) == (change is there_and_back)
    assert_matches(gradients(module, *arguments), gradients(stock, *arguments))


@pytest.mark.parametrize("name", SEQUENCES)
def test_weights_set_where_torch_keeps_them(name):
    module, stock = twins(name)
    input, fresh = make_input(stock), torch.randn_like(stock.weight_hh_l0)
    for m in (module, stock):
        m._flat_weights[1] = fresh
    with torch.no_grad():
        assert_matches(flat(module(input)), flat(stock(input)))


@pytest.mark.parametrize("name", ALL)
def test_functional_call_and_tied_weights(name):
    module, stock = twins(name, 6, 6)
    input = make_input(stock)
    swapped = {key: torch.randn_like(p) for key, p in stock.named_parameters()}
    results = [flat(torch.func.functional_call(m, swapped, (input,))) for m in (module, stock)]
    assert_matches([r.detach() for r in results[0]], [r.detach() for r in results[1]])
    for m in (module, stock):
        setattr(m, hidden_weight(m).replace("hh", "ih"), getattr(m, hidden_weight(m)))
    assert len(list(module.parameters())) == 3
    assert_matches(gradients(module, input), gradients(stock, input))


class LowRank(nn.LSTM):
    """Weights with a low-rank part, by the hook that torch calls when weights have changed."""

    def reset_parameters(self) -> None:
        super().reset_parameters()
        self.was_reset = True

    def _init_flat_weights(self) -> None:
        super()._init_flat_weights()
        if hasattr(self, "low"):
            self._flat_weights[0] = self._flat_weights[0] + self.low @ self.low[:5].T


def test_hooks_of_subclasses_are_called():
    stock = LowRank(5, 6)
    assert stock.was_reset
    stock.low = nn.Parameter(torch.randn(24, 2))
    module = fastrnn.accelerate(copy.deepcopy(stock))
    input = make_input(stock)
    for m in (module, stock):
        m._init_flat_weights()
    with torch.no_grad(), kernel_calls() as calls:
        actual = flat(module(input))
    assert len(calls) == 1
    with torch.no_grad():
        assert_matches(actual, flat(stock(input)))


@pytest.mark.parametrize("name", SEQUENCES)
def test_states_of_old_pickles(name):
    module, stock = twins(name)
    state = module.__getstate__() | {"all_weights": module.all_weights}
    for key in ("_all_weights", "_flat_weights", "_flat_weights_names", "proj_size"):
        del state[key]
    old = type(module).__new__(type(module))
    old.__setstate__(state)
    input = make_input(stock)
    with torch.no_grad(), kernel_calls() as calls:
        actual = flat(old(input))
    assert len(calls) == 1
    assert_matches(actual, [r.detach() for r in flat(stock(input))])
    assert old._all_weights == stock._all_weights
    assert_matches(old.all_weights, stock.all_weights, fraction=0)
