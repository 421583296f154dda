"""The cells against those of torch.nn: results, gradients, and all that is not maths."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from cell_cases import CELLS, as_list, evaluate, make_states, pair
from hypothesis import given
from hypothesis import strategies as st
from tolerances import assert_matches
from torch import nn
from torch.nn.utils import parametrize, prune

import fastrnn
from fastrnn import cells

HALVES = (torch.bfloat16, torch.float16)

# Wider than the table, as in test_modules.py. Half types are compared with float64, not with torch.
SPACE_FRACTIONS = {torch.float32: 1e-2, torch.float64: 1e-9}


@pytest.fixture
def kernel_calls(monkeypatch) -> list[str]:
    """The modes of the calls that kernels ran, rather than torch's own code."""
    calls: list[str] = []
    original = cells.step

    def step(mode: str, *args: Any) -> Any:
        calls.append(mode)
        return original(mode, *args)

    monkeypatch.setattr(cells, "step", step)
    return calls


@given(data=st.data())
def test_equal_to_torch_over_the_whole_space(data):
    torch.manual_seed(0)
    draw = data.draw
    name = draw(st.sampled_from(CELLS))
    kwargs = {"nonlinearity": draw(st.sampled_from(["tanh", "relu"]))} if name == "RNNCell" else {}
    ours, theirs = pair(
        name,
        draw(st.integers(1, 20)),
        draw(st.integers(1, 40) | st.integers(256, 262)),
        bias=draw(st.booleans()),
        dtype=draw(st.sampled_from([torch.float32, torch.float64])),
        **kwargs,
    )
    shape = [draw(st.integers(0, 12))] if draw(st.booleans()) else []
    input = torch.randn(*shape, ours.input_size, dtype=ours.weight_ih.dtype)
    if draw(st.booleans()):
        input = input.repeat_interleave(2, -1)[..., ::2]
    hx = make_states(ours, *shape) if draw(st.booleans()) else None
    fraction = SPACE_FRACTIONS[input.dtype]
    assert_matches(evaluate(ours, input, hx), evaluate(theirs, input, hx), fraction)
    with torch.no_grad():
        actual, expected = as_list(ours(input, hx)), as_list(theirs(input, hx))
    assert_matches(actual, expected, fraction)
    if 0 not in input.shape:
        assert [a.stride() for a in actual] == [e.stride() for e in expected]


@pytest.mark.parametrize("batch", [1, 7])
@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("name", CELLS)
def test_kernels_run(name, grad, batch, isa, kernel_calls):
    ours, theirs = pair(name, 5, 261 if name == "RNNCell" else 37)
    input, hx = torch.randn(batch, 5), make_states(ours, batch)
    with torch.set_grad_enabled(grad):
        assert_matches(
            [s.detach() for s in as_list(ours(input, hx))],
            [s.detach() for s in as_list(theirs(input, hx))],
        )
    # Small Elman cells, and their gradients, are left to torch, which is faster there.
    assert len(kernel_calls) == (0 if grad and name == "RNNCell" else 1)


@pytest.mark.parametrize("name", CELLS)
def test_what_torch_does_faster_is_torchs(name, kernel_calls):
    cell, elman = getattr(fastrnn, name)(512, 512), name == "RNNCell"
    with torch.no_grad():
        cell(torch.randn(8, 512))
        assert len(kernel_calls) == 1
        cell(torch.randn(64, 512))
        assert len(kernel_calls) == (1 if elman else 2)
        getattr(fastrnn, name)(5, 6)(torch.randn(8, 5))
    assert len(kernel_calls) == (1 if elman else 3)
    cell(torch.randn(64, 512))
    assert len(kernel_calls) == (1 if elman else 3)
    cell(torch.randn(8, 512))
    assert len(kernel_calls) == (1 if elman else 4)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("name", CELLS)
def test_half_types(name, dtype, kernel_calls):
    hidden = 261 if name == "RNNCell" else 20
    ours, wide = (
        package(9, hidden, dtype=t)
        for package, t in ((getattr(fastrnn, name), dtype), (getattr(nn, name), torch.float64))
    )
    wide.load_state_dict(ours.state_dict())
    input, hx = torch.randn(6, 9, dtype=dtype), make_states(ours, 6)
    wide_hx = tuple(s.double() for s in hx) if name == "LSTMCell" else hx.double()
    results, gradients = evaluate(ours, input, hx)
    want_results, want_gradients = evaluate(wide, input.double(), wide_hx)
    assert all(t.dtype is dtype for t in (*results, *gradients))
    assert_matches(results, want_results)
    # Elman cells' gradients are torch's, which rounds between its products.
    assert_matches(gradients, want_gradients, 0.05 if name == "RNNCell" else None)
    with torch.no_grad():
        assert_matches(as_list(ours(input, hx)), want_results)
    assert len(kernel_calls) == (1 if name == "RNNCell" else 2)


@pytest.mark.parametrize("name", CELLS)
def test_second_derivatives(name):
    cell = getattr(fastrnn, name)(3, 4, dtype=torch.float64)
    input = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    states = [s.requires_grad_() for s in as_list(make_states(cell, 2))]

    def call(input, *states):
        return as_list(cell(input, states if len(states) == 2 else states[0]))[0]

    assert torch.autograd.gradcheck(call, (input, *states))
    assert torch.autograd.gradgradcheck(call, (input, *states))


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("shape", [(), (1,), (3,)])
@pytest.mark.parametrize("name", CELLS)
def test_no_result_shares_memory(name, shape, grad):
    """Callers zero states in place where an episode ends."""
    cell = getattr(fastrnn, name)(5, 256)
    input, hx = torch.randn(*shape, 5), make_states(cell, *shape)
    with torch.set_grad_enabled(grad):
        results = [s.detach() for s in as_list(cell(input, hx))]
    tensors = [*results, *as_list(hx), input]
    kept = [t.clone() for t in tensors]
    for k, result in enumerate(results):
        result.fill_(7.0)
        kept[k].fill_(7.0)
        assert_matches(tensors, kept, fraction=0)


@pytest.mark.parametrize("name", ["LSTMCell", "GRUCell"])
def test_states_may_be_changed_in_place_before_backward(name):
    ours, theirs = pair(name, 5, 6)
    input, grads = torch.randn(4, 5), []
    for cell in (ours, theirs):
        states = None
        for _ in range(3):
            states = cell(input, states)
            for state in as_list(states):
                state[1] = 0
        as_list(states)[0].sum().backward()
        grads.append([p.grad for p in cell.parameters()])
    assert_matches(*grads)


WRONG_CALLS: dict[str, tuple[Any, Any]] = {
    "input of three dimensions": (torch.zeros(1, 2, 3), None),
    "input of no dimension": (torch.zeros(()), None),
    "state of three dimensions": (torch.zeros(2, 3), torch.zeros(1, 2, 4)),
    "wrong features": (torch.zeros(2, 5), None),
    "wrong hidden units": (torch.zeros(2, 3), torch.zeros(2, 5)),
    "wrong rows": (torch.zeros(2, 3), torch.zeros(3, 4)),
    "unbatched state": (torch.zeros(2, 3), torch.zeros(4)),
    "unbatched input": (torch.zeros(3), torch.zeros(2, 4)),
    "wrong dtype": (torch.zeros(2, 3, dtype=torch.float64), None),
    "wrong dtype of the state": (torch.zeros(2, 3), torch.zeros(2, 4).double()),
    "integers": (torch.zeros(2, 3, dtype=torch.int64), None),
    "no tensor": ([1.0, 2.0, 3.0], None),
    "a string for a state": (torch.zeros(2, 3), "state"),
    "no state": (torch.zeros(2, 3), ()),
}


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("case", WRONG_CALLS)
@pytest.mark.parametrize("name", CELLS)
def test_errors_are_torchs(name, case, grad):
    input, hx = WRONG_CALLS[case]
    errors = []
    for cell in pair(name, 3, 4):
        given_hx = (hx, hx) if name == "LSTMCell" and isinstance(hx, torch.Tensor) else hx
        with torch.set_grad_enabled(grad):
            try:
                errors.append(("no error", [s.shape for s in as_list(cell(input, given_hx))]))
            except Exception as error:
                errors.append((type(error), str(error)))
    assert errors[0] == errors[1]


def test_an_lstm_cell_wants_two_states():
    """A tensor of two states, and three of them: as torch answers."""
    for hx in (torch.zeros(2, 2, 4), [torch.zeros(2, 4)] * 2, [torch.zeros(2, 4)] * 3):
        outcomes = []
        for cell in pair("LSTMCell", 3, 4):
            try:
                outcomes.append(str(cell(torch.ones(2, 3), hx)[0].shape))
            except Exception as error:
                outcomes.append(f"{type(error)} {error}")
        assert outcomes[0] == outcomes[1]


def test_unknown_nonlinearity():
    for cell in pair("RNNCell", 3, 4, nonlinearity="sine"):
        with torch.no_grad(), pytest.raises(RuntimeError, match="Unknown nonlinearity: sine"):
            cell(torch.zeros(2, 3))


CONSTRUCTIONS: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("RNNCell", (3, 4), {}),
    ("RNNCell", (3, 4, False, "relu"), {}),
    ("RNNCell", (3, 4), {"nonlinearity": "relu", "dtype": torch.float64}),
    ("LSTMCell", (3, 4), {}),
    ("LSTMCell", (3, 4, False, "cpu", torch.float64), {}),
    ("GRUCell", (), {"input_size": 3, "hidden_size": 4, "device": "meta"}),
    ("GRUCell", (3, 4, False), {}),
]


@pytest.mark.parametrize(("name", "args", "kwargs"), CONSTRUCTIONS)
def test_construction(name, args, kwargs):
    cells = []
    for package in (fastrnn, nn):
        torch.manual_seed(5)
        cells.append(getattr(package, name)(*args, **kwargs))
    ours, theirs = cells
    assert repr(ours) == repr(theirs)
    assert type(ours).__name__ == name
    assert isinstance(ours, nn.RNNCellBase)
    assert ours.__constants__ == theirs.__constants__
    parameters = "_parameters"
    assert {k: v for k, v in vars(ours).items() if k != parameters} == {
        k: v for k, v in vars(theirs).items() if k != parameters
    }
    assert list(ours.state_dict()) == list(theirs.state_dict())
    if ours.weight_ih.device.type == "cpu":
        assert_matches(ours.state_dict(), dict(theirs.state_dict()), fraction=0)
        theirs.load_state_dict(ours.state_dict())


@pytest.mark.parametrize("name", CELLS)
def test_copies_are_equal_and_apart(name):
    cell = getattr(fastrnn, name)(5, 6)
    input = torch.randn(3, 5)
    expected = evaluate(cell, input)
    for copied in (copy.deepcopy(cell), pickle.loads(pickle.dumps(cell))):
        assert type(copied) is type(cell)
        assert_matches(evaluate(copied, input), expected, fraction=0)
        with torch.no_grad():
            copied.weight_hh.zero_()
        assert_matches(evaluate(cell, input), expected, fraction=0)


class Doubled(nn.Module):
    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return 2 * weight


@pytest.mark.parametrize("name", CELLS)
def test_weights_are_read_at_every_call(name):
    ours, theirs = pair(name, 5, 6)
    input = torch.randn(3, 5)
    fresh = torch.randn_like(ours.weight_hh)

    def assert_equal():
        with torch.no_grad():
            assert_matches(as_list(ours(input)), as_list(theirs(input)))
        assert_matches(evaluate(ours, input)[0], evaluate(theirs, input)[0])

    for cell in (ours, theirs):
        cell.weight_hh.data = fresh.clone()
    assert_equal()
    for cell in (ours, theirs):
        cell.weight_hh.data.mul_(0.5)
    assert_equal()
    for cell in (ours, theirs):
        cell._parameters["weight_hh"] = nn.Parameter(2 * fresh)
    assert_equal()
    for cell in (ours, theirs):
        parametrize.register_parametrization(cell, "weight_hh", Doubled())
    assert_equal()
    for cell in (ours, theirs):
        prune.random_unstructured(cell, "weight_ih", 0.5)
    ours.weight_ih_mask.copy_(theirs.weight_ih_mask)
    assert_equal()
    swapped = {name: torch.randn_like(p) for name, p in ours.named_parameters()}
    assert_matches(
        as_list(torch.func.functional_call(ours, swapped, (input,))),
        as_list(torch.func.functional_call(theirs, swapped, (input,))),
    )


@pytest.mark.parametrize("name", CELLS)
def test_one_bias_alone(name):
    ours, theirs = pair(name, 5, 6)
    ours.bias_hh = theirs.bias_hh = None
    input = torch.randn(3, 5)
    with torch.no_grad():
        assert_matches(as_list(ours(input)), as_list(theirs(input)))


@pytest.mark.parametrize("name", CELLS)
def test_a_loop_of_cells_trains_as_torchs(name):
    torch.manual_seed(1)
    input, target = torch.randn(10, 8, 5), torch.randn(8, 12)
    losses = []
    for cell in pair(name, 5, 12):
        optimizer = torch.optim.Adam(cell.parameters(), lr=1e-2)
        losses.append([])
        for _ in range(30):
            states = None
            for step in input:
                states = cell(step, states)
            loss = nn.functional.mse_loss(as_list(states)[0], target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses[-1].append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert losses[0][-1] < 0.9 * losses[0][0]


@pytest.mark.parametrize("name", CELLS)
def test_cells_and_sequence_agree(name):
    cell = getattr(fastrnn, name)(5, 6)
    module = getattr(fastrnn, name.removesuffix("Cell"))(5, 6)
    module.load_state_dict({f"{k}_l0": v for k, v in cell.state_dict().items()})
    input, states = torch.randn(7, 3, 5), None
    with torch.no_grad():
        for step in input:
            states = cell(step, states)
        _, finals = module(input)
    assert_matches(as_list(states), [final[0] for final in as_list(finals)])


@pytest.mark.filterwarnings("ignore:Complex modules")
@pytest.mark.parametrize("name", CELLS)
def test_what_torch_runs(name, kernel_calls):
    """Autocast, compilation, other devices and complex numbers."""
    ours, theirs = pair(name, 5, 6)
    input = torch.randn(3, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual, expected = as_list(ours(input)), as_list(theirs(input))
    assert [a.dtype for a in actual] == [e.dtype for e in expected]
    assert_matches(actual, expected, fraction=0)
    compiled = torch.compile(ours, fullgraph=True, backend="eager")
    assert_matches(as_list(compiled(input)), as_list(theirs(input)), fraction=0)
    meta = copy.deepcopy(ours).to("meta")
    assert as_list(meta(input.to("meta")))[0].shape == (3, 6)
    wide = torch.randn(3, 5, dtype=torch.complex64)
    pairs = [copy.deepcopy(cell).to(torch.complex64) for cell in (ours, theirs)]
    assert torch.equal(*(as_list(cell(wide))[0] for cell in pairs))
    assert kernel_calls == []


# torch itself scripts decompositions at the first jvp.
@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")
@pytest.mark.parametrize("name", CELLS)
def test_function_transforms(name):
    """Torch's own LSTMCell has no batching rule."""
    ours, theirs = pair(name, 5, 6)
    input = torch.randn(3, 5)
    expected = as_list(theirs(input))
    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            assert_matches(as_list(torch.func.vmap(ours)(input)), expected)
    with torch.no_grad():
        values, tangents = torch.func.jvp(ours, (input,), (input,))
    assert_matches(as_list(values), expected)
    _, want = torch.autograd.functional.jvp(lambda x: tuple(as_list(theirs(x))), (input,), (input,))
    assert_matches(as_list(tangents), as_list(want))


@pytest.mark.parametrize("name", CELLS)
def test_scripts_and_traces_hold_torchs_cells(name):
    cell = getattr(fastrnn, name)(5, 6)
    input, hx = torch.randn(3, 5), make_states(cell, 3)
    holder = nn.Sequential(cell)
    expected = as_list(cell(input))
    with pytest.warns(DeprecationWarning):
        scripted = torch.jit.script(holder)
    assert_matches(as_list(scripted(input)), expected)
    assert "fastrnn::" not in str(scripted.inlined_graph)
    with pytest.warns(DeprecationWarning), torch.no_grad():
        traced = torch.jit.trace(cell, (input, hx))
    assert "fastrnn::" not in str(traced.inlined_graph)
    assert_matches(as_list(traced(input, hx)), as_list(cell(input, hx)))
