"""Every mistake that torch.nn reports is reported here with the same type and words."""

from __future__ import annotations

import decimal
import fractions
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence

import fastrnn

NAMES = ("RNN", "LSTM", "GRU")
X = torch.zeros(5, 2, 3)


def states(name: str, *shape: int, dtype: torch.dtype = torch.float32) -> Any:
    state = torch.zeros(shape, dtype=dtype)
    return (state, state) if name == "LSTM" else state


def packed(features: int = 3, dtype: torch.dtype = torch.float32) -> PackedSequence:
    rows = [torch.zeros(length, features, dtype=dtype) for length in (2, 5)]
    return pack_sequence(rows, enforce_sorted=False)


CALLS: dict[str, Callable[[Any, str], Any]] = {
    "all in order": lambda m, n: m(X, states(n, 1, 2, 4)),
    "all in order, unbatched": lambda m, n: m(X[:, 0], states(n, 1, 4)),
    "empty batch": lambda m, n: m(X[:, :0]) if not m.batch_first else m(X[:0]),
    "input is None": lambda m, _: m(None),
    "input is a list": lambda m, _: m([1.0, 2.0]),
    "input is a tuple": lambda m, _: m((X, X)),
    "input is text": lambda m, _: m("X"),
    "input is a number": lambda m, _: m(3),
    "input is an array": lambda m, _: m(X.numpy()),
    "input of no dimension": lambda m, _: m(torch.tensor(1.0)),
    "input of one dimension": lambda m, _: m(torch.zeros(3)),
    "input of four dimensions": lambda m, _: m(torch.zeros(2, 5, 2, 3)),
    "wrong number of features": lambda m, _: m(torch.zeros(5, 2, 7)),
    "wrong number of features, unbatched": lambda m, _: m(torch.zeros(5, 7)),
    "no features": lambda m, _: m(X[..., :0]),
    "no features, unbatched": lambda m, _: m(X[:, 0, :0]),
    "empty sequence": lambda m, _: m(torch.zeros(0, 2, 3)),
    "empty sequence, unbatched": lambda m, _: m(torch.zeros(0, 3)),
    "empty sequence and batch": lambda m, _: m(torch.zeros(0, 0, 3)),
    "float64 input": lambda m, _: m(X.double()),
    "float16 input": lambda m, _: m(X.half()),
    "integer input": lambda m, _: m(X.long()),
    "truth values as input": lambda m, _: m(X.bool()),
    "complex input": lambda m, _: m(X.cfloat()),
    "input on another device": lambda m, _: m(X.to("meta")),
    "states of two dimensions": lambda m, n: m(X, states(n, 2, 4)),
    "states of three dimensions, unbatched": lambda m, n: m(X[:, 0], states(n, 1, 1, 4)),
    "states of one dimension, unbatched": lambda m, n: m(X[:, 0], states(n, 4)),
    "states too wide": lambda m, n: m(X, states(n, 1, 2, 5)),
    "states too wide, unbatched": lambda m, n: m(X[:, 0], states(n, 1, 5)),
    "states of another batch": lambda m, n: m(X, states(n, 1, 1, 4)),
    "states of an empty batch": lambda m, n: m(X, states(n, 1, 0, 4)),
    "states of two layers": lambda m, n: m(X, states(n, 2, 2, 4)),
    "float64 states": lambda m, n: m(X, states(n, 1, 2, 4, dtype=torch.float64)),
    "float64 states, unbatched": lambda m, n: m(X[:, 0], states(n, 1, 4, dtype=torch.float64)),
    "integer states": lambda m, n: m(X, states(n, 1, 2, 4, dtype=torch.int64)),
    "states on another device": lambda m, _: m(X, torch.zeros(1, 2, 4, device="meta")),
    "pair of states on another device": lambda m, _: m(
        X, (torch.zeros(1, 2, 4), torch.zeros(1, 2, 4, device="meta"))
    ),
    "states of four dimensions": lambda m, n: m(X, states(n, 1, 1, 2, 4)),
    "states of no dimension": lambda m, n: m(X, states(n)),
    "states are a number": lambda m, _: m(X, 3),
    "states are text": lambda m, _: m(X, "hx"),
    "states are a truth value": lambda m, _: m(X, False),
    "states are a dict": lambda m, _: m(X, {"hx": torch.zeros(1, 2, 4)}),
    "states are an array": lambda m, _: m(X, np.zeros((1, 2, 4), np.float32)),
    "states in one tensor": lambda m, _: m(X, torch.zeros(2, 1, 2, 4)),
    "states are None in a pair": lambda m, _: m(X, (None, None)),
    "states of one None": lambda m, _: m(X, (torch.zeros(1, 2, 4), None)),
    "no states in a tuple": lambda m, _: m(X, ()),
    "no states in a list": lambda m, _: m(X, []),
    "pair in pair": lambda m, _: m(X, ((torch.zeros(1, 2, 4),) * 2,) * 2),
    "states of the other kind": lambda m, n: m(
        X, states("GRU" if n == "LSTM" else "LSTM", 1, 2, 4)
    ),
    "one state in a tuple": lambda m, _: m(X, (torch.zeros(1, 2, 4),)),
    "three states": lambda m, _: m(X, (torch.zeros(1, 2, 4),) * 3),
    "states of two sizes": lambda m, _: m(X, (torch.zeros(1, 2, 4), torch.zeros(1, 2, 5))),
    "states of two dtypes": lambda m, _: m(
        X, (torch.zeros(1, 2, 4), torch.zeros(1, 2, 4).double())
    ),
    "packed": lambda m, n: m(packed(), states(n, 1, 2, 4)),
    "packed, wrong number of features": lambda m, _: m(packed(7)),
    "packed, float64": lambda m, _: m(packed(dtype=torch.float64)),
    "packed, integers": lambda m, _: m(packed(dtype=torch.int64)),
    "packed, states too wide": lambda m, n: m(packed(), states(n, 1, 2, 5)),
    "packed, states of another batch": lambda m, n: m(packed(), states(n, 1, 3, 4)),
    "packed, states of a smaller batch": lambda m, n: m(packed(), states(n, 1, 1, 4)),
    "packed, states of two layers": lambda m, n: m(packed(), states(n, 2, 2, 4)),
    "packed, states of two dimensions": lambda m, n: m(packed(), states(n, 1, 4)),
    "packed, states of four dimensions": lambda m, n: m(packed(), states(n, 1, 2, 4, 1)),
    "packed, float64 states": lambda m, n: m(packed(), states(n, 1, 2, 4, dtype=torch.float64)),
    "packed, states are a number": lambda m, _: m(packed(), 3),
    "packed, one state in a tuple": lambda m, _: m(packed(), (torch.zeros(1, 2, 4),)),
    "packed, states of the other kind": lambda m, n: m(
        packed(), states("GRU" if n == "LSTM" else "LSTM", 1, 2, 4)
    ),
    "packed, data of three dimensions": lambda m, _: m(PackedSequence(X, torch.tensor([5]))),
    "packed, data of one dimension": lambda m, _: m(PackedSequence(X[0, 0], torch.tensor([3]))),
    "packed, on another device": lambda m, _: m(packed().to("meta")),
}

CONSTRUCTIONS: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((), {}),
    ((3,), {}),
    ((3, 4), {"hidden": 5}),
    ((3, 4), {"input_size": 3}),
    ((0, 4), {}),
    ((3, 0), {}),
    ((3, -1), {}),
    ((3.0, 4), {}),
    ((3, 4.0), {}),
    ((3, "4"), {}),
    ((3, 4, 0), {}),
    ((3, 4, -1), {}),
    ((3, 4, 2.0), {}),
    ((3, 4, "2"), {}),
    ((3, 4, None), {}),
    ((3, 4, True), {}),
    ((3, 4, np.int64(2)), {}),
    ((np.int64(3), 4), {}),
    ((3, np.int32(4)), {}),
    ((True, 4), {}),
    ((3, True), {}),
    ((None, 4), {}),
    ((3, None), {}),
    ((torch.tensor(3), 4), {}),
    ((3, 4, 2, True, True, False, 0.5, True, 0, "cpu", torch.float64), {}),
    ((3, 4, 2, "relu", True, False, 0.5, True, "cpu", torch.float64), {}),
    ((3, 4, 1, "tanh", True, False, 0.0, False, None, None, None, None), {}),
    ((3, 4, 1), {"num_layers": 1}),
    ((3, 4), {"mode": "GRU"}),
    ((3, 4), {"bias": 1}),
    ((3, 4), {"bias": None}),
    ((3, 4), {"bias": np.bool_(True)}),
    ((3, 4), {"bidirectional": 1}),
    ((3, 4), {"bidirectional": "no"}),
    ((3, 4), {"bidirectional": None}),
    ((3, 4), {"batch_first": 1}),
    ((3, 4), {"dropout": 1.5}),
    ((3, 4), {"dropout": -0.1}),
    ((3, 4), {"dropout": True}),
    ((3, 4), {"dropout": "much"}),
    ((3, 4), {"dropout": "0.5"}),
    ((3, 4), {"dropout": None}),
    ((3, 4), {"dropout": 0.5}),
    ((3, 4), {"dropout": 1}),
    ((3, 4), {"dropout": float("nan")}),
    ((3, 4, 2), {"dropout": 1}),
    ((3, 4, 2), {"dropout": np.float32(0.5)}),
    ((3, 4, 2), {"dropout": torch.tensor(0.5)}),
    ((3, 4, 2), {"dropout": fractions.Fraction(1, 2)}),
    ((3, 4, 2), {"dropout": decimal.Decimal("0.5")}),
    ((3, 4, 2), {"dropout": 0.5j}),
    ((3, 4), {"dtype": torch.int64}),
    ((3, 4), {"dtype": torch.complex64}),
    ((3, 4), {"dtype": torch.bfloat16}),
    ((3, 4), {"dtype": torch.float8_e4m3fn}),
    ((3, 4), {"dtype": "float32"}),
    ((3, 4), {"dtype": float}),
    ((3, 4), {"device": "nowhere"}),
    ((3, 4), {"device": "cuda"}),
    ((3, 4), {"device": torch.device("meta")}),
    ((3, 4), {"device": 1.5}),
    ((3, 4), {"proj_size": -1}),
    ((3, 4), {"proj_size": 4}),
    ((3, 4), {"nonlinearity": "sigmoid"}),
    ((3, 4), {"nonlinearity": None}),
    ((3, 4), {"nonlinearity": "relu"}),
    ((3, 4, 1, "sigmoid"), {}),
    ((3, 4, 1, "relu"), {"nonlinearity": "tanh"}),
]

CHANGES: dict[str, Callable[[Any], Any]] = {
    "fewer layers": lambda m: setattr(m, "num_layers", 1),
    "more layers": lambda m: setattr(m, "num_layers", 3),
    "one direction": lambda m: setattr(m, "bidirectional", False),
    "no bias": lambda m: setattr(m, "bias", False),
    "projection": lambda m: setattr(m, "proj_size", 2),
    "other input_size": lambda m: setattr(m, "input_size", 5),
    "dropout too large": lambda m: setattr(m, "dropout", 1.5),
    "dropout negative": lambda m: setattr(m, "dropout", -0.5),
    "a bias is None": lambda m: setattr(m, "bias_hh_l0", None),
    "a weight is None": lambda m: setattr(m, "weight_ih_l1", None),
    "a weight is no parameter": lambda m: setattr(m, "weight_hh_l0", m.weight_hh_l1),
    "float64 input weight": lambda m: convert(m, "weight_ih_l0", dtype=torch.float64),
    "float64 hidden weight": lambda m: convert(m, "weight_hh_l0", dtype=torch.float64),
    "float64 bias of the second layer": lambda m: convert(m, "bias_ih_l1", dtype=torch.float64),
    "float16 hidden weight": lambda m: convert(m, "weight_hh_l0", dtype=torch.float16),
    "bias on another device": lambda m: convert(m, "bias_hh_l0", device="meta"),
    "weight of the second layer on another device": lambda m: convert(
        m, "weight_ih_l1", device="meta"
    ),
    "weight deleted": lambda m: delattr(m, "weight_hh_l0"),
}


def convert(module: Any, name: str, **kwargs: Any) -> None:
    setattr(module, name, nn.Parameter(getattr(module, name).detach().to(**kwargs)))


def error_of(call: Callable[[], Any]) -> tuple[type[Exception], str]:
    with pytest.raises(Exception) as caught:
        call()
    return caught.type, str(caught.value)


def outcome(call: Callable[[], Any]) -> Any:
    """What a call gives, in a form that can be compared: error or result, and the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.set_warn_always(True)  # some warnings come once a process otherwise
        try:
            result: Any = shown(call())
        except Exception as error:
            result = (type(error), str(error))
        finally:
            torch.set_warn_always(False)
    return result, [(w.category, str(w.message)) for w in caught]


def shown(result: Any) -> Any:
    """The result without the numbers: what must be equal in every rounding."""
    if isinstance(result, torch.Tensor):
        return (result.shape, result.dtype, result.device)
    if isinstance(result, nn.RNNBase):
        weights = [shown(weight) for weight in result.parameters()]
        own = {k: (type(v), v) for k, v in vars(result).items() if k in nn.RNNBase.__constants__}
        return (repr(result), weights, own)
    return (type(result), [shown(item) for item in result]) if result is not None else None


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("what", CALLS)
@pytest.mark.parametrize("name", NAMES)
def test_calls(name, what, batch_first):
    given = CALLS[what]
    ours, theirs = (getattr(p, name)(3, 4, batch_first=batch_first) for p in (fastrnn, nn))
    assert outcome(lambda: given(ours, name)) == outcome(lambda: given(theirs, name))
    with torch.no_grad():
        assert outcome(lambda: given(ours, name)) == outcome(lambda: given(theirs, name))


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("what", CHANGES)
@pytest.mark.parametrize("name", NAMES)
def test_calls_after_changes(name, what, grad):
    """Attributes and weights that do not fit each other any more."""
    outcomes = []
    for package in (fastrnn, nn):
        module = getattr(package, name)(3, 4, 2, bidirectional=True)
        changed = outcome(lambda module=module: CHANGES[what](module))
        with torch.set_grad_enabled(grad):
            outcomes.append((changed, outcome(lambda module=module: module(X))))
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("name", NAMES)
def test_calls_that_python_refuses(name):
    """Python's own words name the function, and so differ."""
    module = getattr(fastrnn, name)(3, 4)
    with pytest.raises(TypeError, match="required positional argument: 'input'"):
        module()
    with pytest.raises(TypeError, match="unexpected keyword argument 'mask'"):
        module(X, mask=3)


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("weight", ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"])
@pytest.mark.parametrize("name", NAMES)
def test_weights_of_wrong_shapes_are_named(name, weight, grad):
    """Other words than torch's, whose LSTM computes something with most of these."""
    module = getattr(fastrnn, name)(3, 4)
    setattr(module, weight, nn.Parameter(torch.zeros_like(getattr(module, weight)[1:])))
    with torch.set_grad_enabled(grad), pytest.raises(RuntimeError, match="must have shape"):
        module(X)


@pytest.mark.parametrize(("args", "kwargs"), CONSTRUCTIONS)
@pytest.mark.parametrize("name", NAMES)
def test_constructions(name, args, kwargs):
    ours, theirs = (outcome(lambda p=p: getattr(p, name)(*args, **kwargs)) for p in (fastrnn, nn))
    assert repr(ours) == repr(theirs)  # nan, for one, is not equal to itself


@pytest.mark.parametrize("name", NAMES)
def test_useless_dropout_is_warned_of(name):
    with pytest.warns(UserWarning, match="dropout option") as caught:
        getattr(fastrnn, name)(3, 4, dropout=0.5)
    assert len(caught) == 1


@pytest.mark.parametrize("elsewhere", [{"dtype": torch.float64}, {"device": "meta"}])
@pytest.mark.parametrize("name", NAMES)
def test_weights_of_another_dtype_or_device(name, elsewhere):
    errors = []
    for package in (fastrnn, nn):
        module = getattr(package, name)(3, 4, **elsewhere)
        errors.append(error_of(lambda module=module: module(X)))
    assert errors[0] == errors[1]
