"""Calls without gradients: one op for a whole module, on packed weights kept from call to call."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os

import pytest
import torch
from cases import MODES, build, pair
from tolerances import assert_matches
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import fastrnn

LAYOUTS = [
    {},
    {"num_layers": 3},
    {"bidirectional": True},
    {"num_layers": 2, "bidirectional": True, "batch_first": True},
    {"bias": False, "batch_first": True},
]
# (T, B): many rows, one row, one step of several rows, one step of one.
SIZES = [(7, 5), (7, 1), (1, 5), (1, 1), (40, 1)]


def states_like(module, batch):
    layers = module.num_layers * (2 if module.bidirectional else 1)
    shape = (layers, batch, module.hidden_size)
    count = 2 if module.mode == "LSTM" else 1
    states = tuple(torch.randn(shape) for _ in range(count))
    return states if count == 2 else states[0]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("mode", MODES)
def test_a_whole_module_matches_torch(mode, layout, size, isa):
    ours, theirs = pair(mode, 6, 37, **layout)
    steps, batch = size
    input = torch.randn((batch, steps, 6) if ours.batch_first else (steps, batch, 6))
    for hx in (None, states_like(ours, batch)):
        with torch.no_grad():
            actual, expected = ours(input, hx), theirs(input, hx)
        assert_matches(actual, expected)
        assert actual[0].stride() == expected[0].stride()


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("mode", MODES)
def test_the_same_bits_with_gradients_and_without(mode, size):
    module, _ = pair(mode, 6, 37, num_layers=2, bidirectional=True)
    input = torch.randn(*size, 6)
    with_gradients = module(input)
    with torch.no_grad():
        without = module(input)
    assert_matches(without, with_gradients, 0.0)


def test_results_share_no_memory():
    module = fastrnn.GRU(4, 4)
    hx = torch.randn(1, 1, 4)
    with torch.no_grad():
        output, h_n = module(torch.randn(1, 1, 4), hx)
    kept = h_n.clone()
    output.zero_()
    hx.zero_()
    assert torch.equal(h_n, kept)


def test_dropout_is_not_left_out():
    module = fastrnn.LSTM(3, 4, num_layers=2, dropout=0.9)
    input = torch.randn(5, 2, 3)
    with torch.no_grad():
        assert not torch.equal(module(input)[0], module(input)[0])
        module.eval()
        assert torch.equal(module(input)[0], module(input)[0])


def in_place(module):
    with torch.no_grad():
        module.weight_hh_l0.mul_(1.5)


def one_element(module):
    module.weight_ih_l0.data[3, 2] += 0.5


def through_data(module):
    module.weight_hh_l0.data.mul_(1.5)


def new_data(module):
    module.weight_ih_l0.data = module.weight_ih_l0.data * 1.5


def a_bias(module):
    module.bias_ih_l0.data.add_(1.0)


def swapped(module):
    module.weight_hh_l0 = nn.Parameter(torch.randn_like(module.weight_hh_l0))


def loaded(module):
    module.load_state_dict({k: v * 1.5 for k, v in module.state_dict().items()})


def assigned(module):
    module.load_state_dict({k: v * 1.5 for k, v in module.state_dict().items()}, assign=True)


def optimised(module):
    for parameter in module.parameters():
        parameter.grad = torch.ones_like(parameter)
    torch.optim.SGD(module.parameters(), lr=0.1).step()


CHANGES = [
    in_place, one_element, through_data, new_data, a_bias, swapped, loaded, assigned, optimised
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("size", [(9, 4), (9, 1), (1, 1)], ids=str)
def test_a_change_of_the_weights_is_seen(change, dtype, size):
    module = fastrnn.GRU(6, 11, dtype=dtype)
    input, hx = torch.randn(*size, 6).to(dtype), torch.randn(1, size[1], 11).to(dtype)
    with torch.no_grad():
        before, _ = module(input, hx)
        assert torch.equal(module(input, hx)[0], before)
    change(module)
    with torch.no_grad():
        after, _ = module(input, hx)
    expected, _ = module(input, hx)  # packs anew
    assert not torch.equal(after, before)
    assert torch.equal(after, expected)


def test_more_weights_than_are_kept():
    # 5 * 2 * 4 MiB of packed weights and 64 MiB kept: every one of three rounds drops some.
    modules = [fastrnn.LSTM(512, 1024) for _ in range(5)]
    input = torch.randn(2, 1, 512)
    with torch.no_grad():
        first = [module(input)[0] for module in modules]
        for _ in range(2):
            for module, expected in zip(modules, first, strict=True):
                assert torch.equal(module(input)[0], expected)


def test_many_threads_of_python_at_once():
    modules = [fastrnn.LSTM(8, hidden) for hidden in (8, 40, 64)]
    input = torch.randn(30, 2, 8)

    def run(k):
        with torch.no_grad():
            return modules[k % 3](input)[0]

    expected = [run(k) for k in range(3)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for k, output in enumerate(pool.map(run, range(200))):
            assert torch.equal(output, expected[k % 3])


def _in_child(module, input, queue):
    torch.set_num_threads(1)  # a forked child has not the threads of its parent's pool
    with torch.no_grad():
        queue.put(module(input)[0].tolist())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*")
def test_a_forked_child_can_use_what_its_parent_kept():
    module, input = fastrnn.GRU(5, 20), torch.randn(6, 3, 5)
    with torch.no_grad():
        expected = module(input)[0].tolist()
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=_in_child, args=(module, input, queue))
    child.start()
    assert queue.get() == expected
    child.join(30)
    assert child.exitcode == 0


WRONG = {
    "no batch": ({"input": torch.zeros(2, 3)}, "3 dimensions"),
    "no steps": ({"input": torch.zeros(0, 3, 4)}, "must have T > 0"),
    "short integers": ({"input": torch.zeros(2, 3, 4, dtype=torch.int16)}, "float32"),
    "ids of features": ({"input": torch.zeros(2, 3, 4, dtype=torch.int64)}, "2 dimensions"),
    "a weight too few": ({"weights": [torch.zeros(5, 4)]}, "2 or 4 for each"),
    "a wrong weight": ({"weights": [torch.zeros(5, 3), torch.zeros(5, 5)]}, "weight_ih must have"),
    "a wrong bias": (
        {"weights": [torch.zeros(5, 4), torch.zeros(5, 5), torch.zeros(4), torch.zeros(5)]},
        "a bias must have",
    ),
    "mixed dtypes": (
        {"weights": [torch.zeros(5, 4), torch.zeros(5, 5).double()]},
        "must have the input's dtype",
    ),
    "a state too many": ({"states": [torch.zeros(1, 3, 5)] * 2}, "none or 1"),
    "a wrong state": ({"states": [torch.zeros(1, 2, 5)]}, "a state must have"),
    "no layers": ({"num_layers": 0}, "weights must be"),
    "a wrong mode": ({"mode": 9}, "mode must be 0 to 3"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_does_not_fit_is_refused_before_memory_is_touched(what):
    arguments = {
        "input": torch.zeros(2, 3, 4),
        "states": [],
        "weights": [torch.zeros(5, 4), torch.zeros(5, 5)],
        "mode": 0,
        "num_layers": 1,
        "bidirectional": False,
        "batch_first": False,
    }
    change, message = WRONG[what]
    with pytest.raises(RuntimeError, match=message):
        torch.ops.fastrnn._inference(*(arguments | change).values())


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_opcheck(mode, batch_first):
    module = pair(mode, 4, 5, num_layers=2, bidirectional=True)[0]
    hx = states_like(module, 2)
    states = list(hx) if isinstance(hx, tuple) else [hx]
    weights = [weight.detach() for weight in module._flat_weights]
    input = torch.randn(2, 2, 4)
    arguments = (input, states, weights, MODES.index(mode), 2, True, batch_first)
    torch.library.opcheck(torch.ops.fastrnn._inference.default, arguments)


def test_compiles_in_one_graph_for_any_length_and_batch():
    torch.compiler.reset()
    module = fastrnn.LSTM(4, 6, num_layers=2, batch_first=True)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager", dynamic=True)
    with torch.no_grad():
        for batch, steps in ((2, 5), (3, 7), (9, 11)):
            input = torch.randn(batch, steps, 4)
            assert_matches(compiled(input), module(input), 0.0)


def test_transforms_go_through_the_reference():
    module, input = fastrnn.GRU(3, 4), torch.randn(6, 5, 2, 3)
    with torch.no_grad():
        mapped = torch.func.vmap(lambda x: module(x)[0])(input)
        for x, output in zip(input, mapped, strict=True):
            assert_matches(output, module(x)[0])


@pytest.mark.parametrize("size", [(40, 30, 8, 70), (1, 3, 4, 5), (600, 1, 8, 70), (7, 300, 5, 40)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("mode", MODES)
def test_last_states_alone(mode, dtype, size):
    """The same bits without the output, which is not even written."""
    steps, batch, inputs, hidden = size
    module = build(fastrnn, mode, inputs, hidden, 2, bidirectional=True, batch_first=True).to(dtype)
    input = torch.randn(batch, steps, inputs).to(dtype)
    lengths = torch.randint(0, steps + 1, (batch,))
    packed = pack_padded_sequence(input, lengths.clamp(1), True, enforce_sorted=False)
    calls = [(input, {}), (input, {"lengths": lengths}), (input, {"lengths": 0 * lengths})]
    calls += [(packed, {}), (input[0], {})]
    for gradients in (False, True):
        for x, options in calls:
            with torch.set_grad_enabled(gradients):
                _, expected = module(x, **options)
                output, finals = module(x, **options, output=False)
            assert output is None
            pairs = [(finals, expected)] if mode != "LSTM" else zip(finals, expected, strict=True)
            assert all(torch.equal(actual, wanted) for actual, wanted in pairs)
