"""Every mistake that torch.nn reports is reported here with the same type and words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import fastrnn

NAMES = ("RNN", "LSTM", "GRU")
X = torch.zeros(5, 2, 3)


def states(name: str, *shape: int, dtype: torch.dtype = torch.float32) -> Any:
    state = torch.zeros(shape, dtype=dtype)
    return (state, state) if name == "LSTM" else state


CALLS: dict[str, Callable[[Any, str], Any]] = {
    "input is None": lambda m, _: m(None),
    "input is a list": lambda m, _: m([1.0, 2.0]),
    "input of one dimension": lambda m, _: m(torch.zeros(3)),
    "input of four dimensions": lambda m, _: m(torch.zeros(2, 5, 2, 3)),
    "wrong number of features": lambda m, _: m(torch.zeros(5, 2, 7)),
    "wrong number of features, unbatched": lambda m, _: m(torch.zeros(5, 7)),
    "empty sequence": lambda m, _: m(torch.zeros(0, 2, 3)),
    "empty sequence, unbatched": lambda m, _: m(torch.zeros(0, 3)),
    "empty sequence and batch": lambda m, _: m(torch.zeros(0, 0, 3)),
    "float64 input": lambda m, _: m(X.double()),
    "float16 input": lambda m, _: m(X.half()),
    "integer input": lambda m, _: m(X.long()),
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
    "states are a number": lambda m, _: m(X, 3),
    "states of the other kind": lambda m, n: m(
        X, states("GRU" if n == "LSTM" else "LSTM", 1, 2, 4)
    ),
    "one state in a tuple": lambda m, _: m(X, (torch.zeros(1, 2, 4),)),
    "three states": lambda m, _: m(X, (torch.zeros(1, 2, 4),) * 3),
    "states of two sizes": lambda m, _: m(X, (torch.zeros(1, 2, 4), torch.zeros(1, 2, 5))),
    "states of two dtypes": lambda m, _: m(
        X, (torch.zeros(1, 2, 4), torch.zeros(1, 2, 4).double())
    ),
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
    ((3, 4), {"bias": 1}),
    ((3, 4), {"batch_first": 1}),
    ((3, 4), {"dropout": 1.5}),
    ((3, 4), {"dropout": -0.1}),
    ((3, 4), {"dropout": True}),
    ((3, 4), {"dropout": "much"}),
    ((3, 4), {"dtype": torch.int64}),
    ((3, 4), {"device": "nowhere"}),
    ((3, 4), {"proj_size": -1}),
    ((3, 4), {"proj_size": 4}),
    ((3, 4), {"nonlinearity": "sigmoid"}),
    ((3, 4, 1, "sigmoid"), {}),
]


def error_of(call: Callable[[], Any]) -> tuple[type[Exception], str]:
    with pytest.raises(Exception) as caught:
        call()
    return caught.type, str(caught.value)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("what", CALLS)
@pytest.mark.parametrize("name", NAMES)
def test_calls(name, what, batch_first):
    given = CALLS[what]
    ours, theirs = (getattr(p, name)(3, 4, batch_first=batch_first) for p in (fastrnn, nn))
    try:
        given(theirs, name)
    except Exception:
        assert error_of(lambda: given(ours, name)) == error_of(lambda: given(theirs, name))
    else:
        given(ours, name)


@pytest.mark.parametrize("name", NAMES)
def test_calls_that_python_refuses(name):
    """Python's own words name the function, and so differ."""
    module = getattr(fastrnn, name)(3, 4)
    with pytest.raises(TypeError, match="required positional argument: 'input'"):
        module()
    with pytest.raises(TypeError, match="unexpected keyword argument 'lengths'"):
        module(X, lengths=3)


@pytest.mark.parametrize(("args", "kwargs"), CONSTRUCTIONS)
@pytest.mark.parametrize("name", NAMES)
def test_constructions(name, args, kwargs):
    ours, theirs = (lambda p=p: getattr(p, name)(*args, **kwargs) for p in (fastrnn, nn))
    try:
        theirs()
    except Exception:
        assert error_of(ours) == error_of(theirs)
    else:
        ours()


@pytest.mark.parametrize("name", NAMES)
def test_useless_dropout_is_warned_of(name):
    messages = []
    for package in (fastrnn, nn):
        with pytest.warns(UserWarning, match="dropout option") as caught:
            getattr(package, name)(3, 4, dropout=0.5)
        messages.append([str(w.message) for w in caught])
    assert messages[0] == messages[1]
    assert len(messages[0]) == 1


@pytest.mark.parametrize("elsewhere", [{"dtype": torch.float64}, {"device": "meta"}])
@pytest.mark.parametrize("name", NAMES)
def test_weights_of_another_dtype_or_device(name, elsewhere):
    errors = []
    for package in (fastrnn, nn):
        module = getattr(package, name)(3, 4, **elsewhere)
        errors.append(error_of(lambda module=module: module(X)))
    assert errors[0] == errors[1]
