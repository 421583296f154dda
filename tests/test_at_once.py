"""The shortest way through a module: which calls take it, and that it makes no difference."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases import MODES, build, evaluate, make_states
from tolerances import assert_matches
from torch.autograd import forward_ad
from torch.nn.utils import parametrizations
from torch.nn.utils.rnn import pack_sequence

import fastrnn
from fastrnn import at_once, recurrent, tokens

LAYOUTS: list[dict[str, Any]] = [
    {},
    {"num_layers": 2, "bidirectional": True, "batch_first": True},
    {"bias": False, "num_layers": 2},
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("states", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("mode", MODES)
def test_usual_calls_take_it_to_the_same_bits(mode, layout, states, dtype):
    module = build(fastrnn, mode, 5, 6, **layout).to(dtype)
    input = torch.randn(3, 4, 5, dtype=dtype)
    hx = make_states(module, 3 if module.batch_first else 4) if states else None
    for output in (True, False):
        with torch.no_grad():
            found = at_once.run(module, input, hx, output)
            long = recurrent.forward(
                module, input, hx, output=output, layer=module._layer, stock=module._stock.forward
            )
        assert found is not None
        assert_matches(found, long, 0.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("states", [False, True])
@pytest.mark.parametrize("layout", [{}, {"batch_first": True}, {"bias": False}], ids=str)
@pytest.mark.parametrize("mode", MODES)
def test_one_layer_with_gradients_has_the_same_bits(mode, layout, states, dtype):
    module = build(fastrnn, mode, 5, 6, **layout).to(dtype)
    input = torch.randn(3, 4, 5, dtype=dtype)
    hx = make_states(module, 3 if module.batch_first else 4) if states else None

    def long(module, *args):
        way = {"layer": module._layer, "stock": module._stock.forward}
        return recurrent.forward(module, *args, *([None] * (2 - len(args))), **way)

    def short(module, *args):
        found = at_once.run(module, *args, *([None] * (2 - len(args))), True)
        assert found is not None
        return found

    assert_matches(
        evaluate(module, input, hx, call=short), evaluate(module, input, hx, call=long), 0.0
    )
    assert at_once.run(module, input, hx, False)[0] is None


@pytest.mark.parametrize("accelerated", [False, True])
def test_modules_ask_for_it_first(accelerated, monkeypatch):
    module = fastrnn.accelerate(torch.nn.GRU(3, 4)) if accelerated else fastrnn.GRU(3, 4)
    monkeypatch.setattr(at_once, "run", lambda *_: ("its", "results"))
    assert module(torch.ones(2, 1, 3)) == ("its", "results")


USUAL = fastrnn.LSTM(3, 4)
STATE, ROWS = torch.zeros(1, 2, 4), torch.ones(5, 2, 3)
UNUSUAL = {
    "unbatched": (USUAL, ROWS[:, 0], None),
    "packed": (USUAL, pack_sequence([ROWS[:, 0]]), None),
    "ids of one row": (USUAL, torch.zeros(5, dtype=torch.long), None),
    "ids out of range": (USUAL, torch.full((5, 2), 3), None),
    "no ids": (USUAL, torch.zeros(0, 2, dtype=torch.long), None),
    "ids for halves": (fastrnn.LSTM(3, 4).bfloat16(), torch.zeros(5, 2, dtype=torch.long), None),
    "no steps": (USUAL, ROWS[:0], None),
    "other features": (USUAL, torch.ones(5, 2, 4), None),
    "other dtype": (USUAL, ROWS.double(), None),
    "integers": (USUAL, ROWS.long(), None),
    "one state": (USUAL, ROWS, STATE),
    "three states": (USUAL, ROWS, (STATE, STATE, STATE)),
    "states in a list": (USUAL, ROWS, [STATE, STATE]),
    "no states in a tuple": (USUAL, ROWS, ()),
    "ids for torch's": (torch.nn.LSTM(3, 4), torch.zeros(5, 2, dtype=torch.long), None),
    "other rows": (USUAL, ROWS, (STATE, STATE[:, :1])),
    "states of another dtype": (USUAL, ROWS, (STATE, STATE.double())),
    "no tensors": (USUAL, ROWS, (STATE, None)),
    "projection": (fastrnn.LSTM(3, 4, proj_size=2), ROWS, None),
    "dropout": (fastrnn.LSTM(3, 4, 2, dropout=0.5), ROWS, None),
    "dropout of halves": (
        fastrnn.LSTM(3, 4, recurrent_dropout=0.5).bfloat16(),
        ROWS.bfloat16(),
        None,
    ),
    "dropout of ids": (
        fastrnn.LSTM(3, 4, recurrent_dropout=0.5),
        torch.zeros(5, 2, dtype=torch.long),
        None,
    ),
    "computed weights": (
        parametrizations.weight_norm(fastrnn.LSTM(3, 4), "weight_hh_l0"),
        ROWS,
        None,
    ),
}


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("name", UNUSUAL)
def test_other_calls_do_not(name, gradients):
    with torch.set_grad_enabled(gradients):
        assert at_once.run(*UNUSUAL[name], True) is None


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("states", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_masks_are_the_same_draws(mode, states, batch_first):
    drops = {"recurrent_dropout": 0.3, "input_dropout": 0.4, "batch_first": batch_first}
    module, input = build(fastrnn, mode, 5, 6, **drops), torch.randn(3, 4, 5)
    hx = make_states(module, 3 if batch_first else 4) if states else None
    way = {"layer": module._layer, "stock": module._stock.forward}
    found = []
    for call in (
        lambda m, x, *hx: at_once.run(m, x, *(hx or (None,)), True),
        lambda m, x, *hx: recurrent.forward(m, x, *(hx or (None,)), **way),
    ):
        torch.manual_seed(3)
        found.append(evaluate(module, input, hx, call=call))
    assert_matches(found[0], found[1], 0.0)
    with torch.no_grad():
        assert at_once.run(module, input, hx, True) is None


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("embedded", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_ids_have_the_same_bits(mode, embedded, batch_first):
    module = build(fastrnn, mode, 5, 6, batch_first=batch_first)
    table = torch.randn(9, 5, requires_grad=True) if embedded else None
    ids = torch.randint(0, 5, (3, 4))
    way = {"layer": module._layer, "stock": module._stock.forward}
    with torch.no_grad():
        found = at_once.run(module, ids, None, True, table)
        assert_matches(found, tokens.forward(module, ids, None, embedding=table, **way), 0.0)
    short = at_once.run(module, ids, None, True, table)
    long = tokens.forward(module, ids, None, embedding=table, **way)
    by = [*module.parameters(), *([table] if embedded else [])]
    gradients = [torch.autograd.grad(results[0].square().sum(), by) for results in (short, long)]
    assert_matches((short, gradients[0]), (long, gradients[1]), 0.0)


@pytest.mark.parametrize(
    "table",
    ["no tensor", torch.zeros(4), torch.zeros(4, 2), torch.zeros(4, 3).double()],
    ids=["word", "vector", "features", "dtype"],
)
def test_embeddings_that_do_not_fit(table):
    assert at_once.run(USUAL, torch.zeros(5, 2, dtype=torch.long), None, True, table) is None
    assert at_once.run(USUAL, ROWS, None, True, torch.zeros(4, 3)) is None


def test_several_layers_frozen_weights_and_subclasses_do_not_with_gradients():
    frozen = fastrnn.GRU(3, 4)
    frozen.weight_hh_l0.requires_grad_(False)
    several = fastrnn.GRU(3, 4, 2), fastrnn.GRU(3, 4, bidirectional=True)
    for module in (*several, frozen, type("Own", (fastrnn.GRU,), {})(3, 4)):
        assert at_once.run(module, ROWS, None, True) is None


@pytest.mark.filterwarnings("ignore:`torch.jit.trace` is deprecated:DeprecationWarning")
def test_nor_do_they_where_somebody_looks_on():
    def asks(x):
        asked.append(at_once.run(USUAL, x, None, True))
        return x

    asked: list[Any] = []
    with torch.no_grad():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            asks(ROWS)
        torch.func.vmap(asks)(ROWS[None])
        with forward_ad.dual_level():
            asks(ROWS)
        torch.jit.trace(asks, (ROWS,), check_trace=False)
        torch.compile(lambda x: asks(x) + 1, backend="eager")(ROWS)
    assert asked == [None] * 5


def test_dropout_is_none_in_evaluation():
    for module in (fastrnn.LSTM(3, 4, 2, dropout=0.5), fastrnn.LSTM(3, 4, recurrent_dropout=0.5)):
        with torch.no_grad():
            assert at_once.run(module.eval(), ROWS, None, True) is not None


def test_a_weight_that_is_gone():
    module = fastrnn.GRU(3, 4)
    del module.weight_hh_l0
    with torch.no_grad():
        assert at_once.run(module, ROWS, None, True) is None
