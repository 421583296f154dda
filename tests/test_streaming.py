"""Single steps with carried states, through accelerated modules and cells, as streams call them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from accelerated import CELLS, SEQUENCES, flat, kernel_calls, twins
from tolerances import assert_matches
from torch import Tensor, nn

ALL = SEQUENCES + CELLS
WIDE = 260  # more than a few vectors, and not their multiple; smaller Elman cells are torch's


def step(module: Any, input: Tensor, states: Any) -> tuple[Tensor, Any]:
    """One step of one row: what it gives, and the next states."""
    if isinstance(module, nn.RNNCellBase):
        states = module(input, states)
        return flat(states)[0], states
    output, states = module(input.unsqueeze(0), states)
    return output[0], states


def stream(
    module: Any, inputs: Tensor, between: Callable[[Any, int], None] = lambda m, t: None
) -> list[Tensor]:
    """The outputs of all steps; `between` may change the module before each."""
    states, outputs = None, []
    for t, input in enumerate(inputs):
        between(module, t)
        output, states = step(module, input, states)
        outputs.append(output)
    return outputs


def in_place(module: Any, name: str, fresh: Tensor) -> None:
    getattr(module, name).copy_(fresh)


def through_data(module: Any, name: str, fresh: Tensor) -> None:
    getattr(module, name).data.copy_(fresh)


def new_storage(module: Any, name: str, fresh: Tensor) -> None:
    getattr(module, name).data = fresh.clone()


def new_parameter(module: Any, name: str, fresh: Tensor) -> None:
    setattr(module, name, nn.Parameter(fresh.clone()))


@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("change", [in_place, through_data, new_storage, new_parameter])
@pytest.mark.parametrize("name", ALL)
def test_weights_that_change_between_steps(name, change, rows):
    module, stock = twins(name, 5, WIDE)
    inputs = torch.randn(12, rows, 5)
    # The third change makes the weights again what they were at first.
    first = {name: p.detach().clone() for name, p in stock.named_parameters()}
    values = [{name: torch.randn_like(p) / 8 for name, p in first.items()} for _ in range(2)]
    values.append(first)

    def between(m: Any, t: int) -> None:
        if t % 3 == 0 and t:
            for weight, fresh in values[t // 3 - 1].items():
                change(m, weight, fresh)

    with torch.no_grad():
        expected = stream(stock, inputs, between)
        with kernel_calls() as calls:
            actual = stream(module, inputs, between)
    assert len(calls) == len(inputs)
    assert_matches(actual, expected)


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("name", ALL)
def test_load_state_dict_between_steps(name, assign):
    module, stock = twins(name, 5, WIDE)
    inputs = torch.randn(6, 1, 5)
    fresh = {key: value / 2 for key, value in stock.state_dict().items()}

    def between(m: Any, t: int) -> None:
        if t == 3:
            m.load_state_dict(fresh, assign=assign)

    with torch.no_grad():
        assert_matches(stream(module, inputs, between), stream(stock, inputs, between))


@pytest.mark.parametrize("name", ALL)
def test_training_between_streams(name):
    """What reinforcement learning does: step without gradients, then train, then step."""
    module, stock = twins(name, 5, WIDE)
    inputs, results = torch.randn(6, 2, 5), []
    for m in (module, stock):
        optimizer = torch.optim.SGD(m.parameters(), lr=0.1)
        outputs = []
        for _ in range(3):
            with torch.no_grad():
                outputs += stream(m, inputs)
            loss = torch.stack(stream(m, inputs)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        results.append(outputs)
    assert_matches(*results, fraction=1e-4)
    assert not torch.equal(results[0][0], results[0][-6])


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("name", ALL)
def test_states_zeroed_in_place_where_an_episode_ends(name, grad):
    """Outputs that were kept stay as they are, and so does the state of another stream."""
    module, stock = twins(name, 5, WIDE)
    inputs, done = torch.randn(6, 3, 5), torch.rand(6, 3) < 0.4
    results = []
    for m in (module, stock):
        states, other, kept = None, None, []
        with torch.set_grad_enabled(grad):
            for input, ends in zip(inputs, done, strict=True):
                output, states = step(m, input, states)
                _, other = step(m, input, other)
                kept += [output.detach(), output.detach().clone()]
                states, other = ([s.detach() for s in flat(each)] for each in (states, other))
                for state in states:
                    state[..., ends, :] = 0
                states, other = (
                    tuple(each) if len(each) == 2 else each[0] for each in (states, other)
                )
        results.append([*kept, *flat(states), *flat(other)])
    assert_matches(*results)
    for output, copied in zip(results[0][:12:2], results[0][1:12:2], strict=True):
        # The next state of a cell is its output, in torch as here.
        assert name in CELLS or torch.equal(output, copied)


@pytest.mark.parametrize("name", SEQUENCES)
def test_a_stream_equals_the_whole_sequence(name):
    module, stock = twins(name, 5, WIDE, 2)
    inputs = torch.randn(20, 1, 5)
    with torch.no_grad():
        outputs = torch.stack(stream(module, inputs))
        assert_matches(outputs, stock(inputs)[0])
        assert_matches(outputs, module(inputs)[0])


def test_two_modules_with_equal_weights_in_turn():
    """Kept weights are known by their values, so neither may give the other's results."""
    first, _ = twins("LSTM", 5, WIDE)
    second, stock = twins("LSTM", 5, WIDE)
    second.load_state_dict(first.state_dict())
    stock.load_state_dict(first.state_dict())
    inputs = torch.randn(8, 1, 5)
    with torch.no_grad():
        expected = stream(stock, inputs)
        for t in range(3):
            assert_matches(stream(first, inputs), expected)
            second.weight_hh_l0.mul_(1 + t)
            stock.weight_hh_l0.mul_(1 + t)
            assert_matches(stream(second, inputs), stream(stock, inputs))
