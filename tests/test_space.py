"""Any constructor arguments, any kind of input, in training and without gradients: as torch.nn.

200 examples here; `pytest tests/test_space.py --hypothesis-profile=nightly` takes 5000.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from cases import MODES, evaluate, make_states, pair
from hypothesis import given
from hypothesis import strategies as st
from test_modules import STYLES
from tolerances import assert_matches
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

# Wider than the table: among thousands of cases some gradient is a sum that cancels to almost
# nothing. A wrong index or stride is off by far more; test_accuracy.py measures the digits.
FRACTIONS = {torch.float32: 1e-2, torch.float64: 1e-9}

Draw = Callable[..., Any]


@dataclass(frozen=True)
class Given:
    """An input and how each module takes it: `call(module, input)` or `call(module, input, hx)`.

    Attributes:
        input: the tensor by which a gradient is taken.
        batch: rows of the states; None: the states have no batch dimension.
        ours: how fastrnn's module is called.
        theirs: how torch's is called, for the same results.
    """

    input: Tensor
    batch: int | None
    ours: Callable[..., Any] = nn.Module.__call__
    theirs: Callable[..., Any] = nn.Module.__call__


def batched(draw: Draw, module: Any) -> Given:
    steps, batch = draw(st.integers(1, 6)), draw(st.integers(0, 10))
    shape = (batch, steps) if module.batch_first else (steps, batch)
    return Given(styled(draw, module, *shape), batch)


def unbatched(draw: Draw, module: Any) -> Given:
    return Given(styled(draw, module, draw(st.integers(1, 6))), None)


def packed(draw: Draw, module: Any) -> Given:
    lengths = draw(st.lists(st.integers(1, 6), min_size=1, max_size=10))
    sort = draw(st.booleans())
    if sort:
        lengths.sort(reverse=True)
    shape = (len(lengths), max(lengths)) if module.batch_first else (max(lengths), len(lengths))

    def call(module: Any, input: Tensor, *hx: Any) -> Any:
        output, finals = module(pack_padded_sequence(input, lengths, module.batch_first, sort), *hx)
        return output.data, finals

    return Given(styled(draw, module, *shape), len(lengths), call, call)


def with_lengths(draw: Draw, module: Any) -> Given:
    steps = draw(st.integers(1, 6))
    lengths = torch.tensor(draw(st.lists(st.integers(1, steps), min_size=1, max_size=10)))
    batch_first, batch = module.batch_first, len(lengths)
    shape = (batch, steps) if batch_first else (steps, batch)

    def ours(module: Any, input: Tensor, hx: Any = None) -> Any:
        return module(input, hx, lengths=lengths)

    def theirs(module: Any, input: Tensor, *hx: Any) -> Any:
        packed = pack_padded_sequence(input, lengths, batch_first, enforce_sorted=False)
        output, finals = module(packed, *hx)
        output, _ = pad_packed_sequence(output, total_length=steps)
        return output.transpose(0, 1) if batch_first else output, finals

    return Given(styled(draw, module, *shape), batch, ours, theirs)


KINDS = (batched, unbatched, packed, with_lengths)


def styled(draw: Draw, module: Any, *shape: int) -> Tensor:
    input = torch.randn(*shape, module.input_size, dtype=module.weight_ih_l0.dtype)
    return STYLES[draw(st.sampled_from(list(STYLES)))](input) if input.numel() else input


def modules(draw: Draw) -> tuple[Any, Any]:
    mode = draw(st.sampled_from(MODES))
    hidden, layers = draw(st.integers(1, 20)), draw(st.integers(1, 3))
    more = {}
    if mode == "LSTM" and draw(st.integers(0, 4)) == 0:
        more["proj_size"] = draw(st.integers(0, hidden - 1))
    if layers > 1:
        more["dropout"] = draw(st.sampled_from([0.0, 0.5]))
    return pair(
        mode,
        draw(st.integers(1, 9)),
        hidden,
        layers,
        bias=draw(st.booleans()),
        batch_first=draw(st.booleans()),
        bidirectional=draw(st.booleans()),
        dtype=draw(st.sampled_from([torch.float32, torch.float64])),
        **more,
    )


def states(draw: Draw, module: Any, batch: int | None) -> Any:
    """None, or states in one of the ways in which callers have them."""
    kind = draw(st.sampled_from(["none", "given", "one for all", "transposed", "list"]))
    if kind == "none":
        return None
    hx = make_states(module, batch)
    each = hx if isinstance(hx, tuple) else (hx,)
    if kind == "one for all":
        each = tuple(s[:1, :1].expand_as(s) for s in each)
    elif kind == "transposed":
        each = tuple(s.mT.contiguous().mT for s in each)
    if module.mode != "LSTM":
        return each[0]
    return list(each) if kind == "list" else each


def frozen_names(draw: Draw, module: Any) -> set[str]:
    names = [*(name for name, _ in module.named_parameters()), "input", "state 0", "state 1"]
    return draw(st.sampled_from([set(), set(names)]) | st.sets(st.sampled_from(names)))


@pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")
@given(data=st.data())
def test_equal_to_torch(data):
    torch.manual_seed(0)  # of each example, so that it can be run again by itself
    draw = data.draw
    ours, theirs = modules(draw)
    given_input = draw(st.sampled_from(KINDS))(draw, ours)
    input, hx = given_input.input, states(draw, ours, given_input.batch)
    frozen, training, seed = frozen_names(draw, ours), draw(st.booleans()), draw(st.integers(0, 9))
    results = []
    for module, call in ((ours, given_input.ours), (theirs, given_input.theirs)):
        module.train(training)
        for name, weight in module.named_parameters():
            weight.requires_grad_(name not in frozen)
        torch.manual_seed(seed)
        with_gradients = evaluate(module, input, hx, frozen=frozen, call=call)
        with torch.no_grad():
            output, finals = call(module, input, *([] if hx is None else [hx]))
        results.append((with_gradients, (output, finals)))
    actual, expected = results
    assert_matches(actual, expected, FRACTIONS[input.dtype])
    for (result, *_), (wanted, *_) in ((actual[0][0], expected[0][0]), (actual[1], expected[1])):
        assert result.stride() == wanted.stride() or result.numel() == 0
        assert result.requires_grad == wanted.requires_grad
