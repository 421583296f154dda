"""Layers of a stack that run at the same time, each some steps behind the one below."""

from __future__ import annotations

import concurrent.futures

import pytest
import torch
from cases import MODES, pair
from tolerances import assert_matches

import fastrnn
from fastrnn import _C

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


def on_threads(threads, call):
    torch.set_num_threads(threads)
    with torch.no_grad():
        return call()


def at_once(mode="LSTM", threads=2, **sizes):
    sizes = {"T": 100, "B": 1, "H": 64, "layers": 2, "element_bytes": 4} | sizes
    machine = {"vector_bytes": 64, "l2_bytes": 1 << 20, "threads": threads}
    return _C.layers_at_once(MODES.index(mode), **sizes, **machine)


# (T, B, I, H): one row, whose input product is taken ahead; widths without a panel for that; few
# rows; longer than what is projected at once, and not a multiple of it.
SIZES = [(100, 1, 40, 64), (83, 1, 7, 37), (90, 2, 16, 48), (131, 3, 5, 40)]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layers", [2, 3, 5])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("mode", MODES)
def test_the_same_bits_as_one_after_the_other(mode, size, layers, dtype, isa):
    T, B, features, H = size
    module, _ = pair(mode, features, H, num_layers=layers, dtype=dtype)
    states = tuple(torch.randn(layers, B, H, dtype=dtype) for _ in range(1 + (mode == "LSTM")))
    input = torch.randn(T, B, features, dtype=dtype)
    for hx in (None, states if mode == "LSTM" else states[0]):
        alone = on_threads(1, lambda: module(input, hx))  # noqa: B023
        for threads in (2, 4):
            # What a layer would read too early is of another input then.
            on_threads(threads, lambda: module(-input, hx))  # noqa: B023
            together = on_threads(threads, lambda: module(input, hx))  # noqa: B023
            assert_matches(together, alone, 0.0)


@pytest.mark.parametrize("mode", MODES)
def test_as_torch(mode):
    ours, theirs = pair(mode, 20, 64, num_layers=3, batch_first=True)
    input = torch.randn(2, 150, 20)
    assert_matches(on_threads(2, lambda: ours(input)), theirs(input))


@pytest.mark.parametrize("mode", MODES)
def test_without_output_and_with_ids(mode):
    module, _ = pair(mode, 9, 64, num_layers=2)
    ids = torch.randint(9, (120, 1))
    for input in (torch.randn(120, 1, 9), ids):
        whole = on_threads(1, lambda: module(input))  # noqa: B023
        assert_matches(on_threads(2, lambda: module(input)), whole, 0.0)  # noqa: B023
        output, states = on_threads(2, lambda: module(input, output=False))  # noqa: B023
        assert output is None
        assert_matches(states, whole[1], 0.0)


def test_where_it_is_chosen():
    assert at_once() == at_once("GRU") == at_once(B=3) == 2
    assert at_once("RNN_TANH", H=128) == 2
    assert at_once(layers=4, threads=3) == 3
    assert at_once(layers=3, threads=8) == 3
    others = {"layers": 1}, {"threads": 1}, {"B": 4}, {"B": 0}, {"T": 40}, {"H": 16}, {"T": 1}
    assert all(at_once(**other) == 1 for other in others)
    # Units are shared, or weights leave the cache.
    assert at_once(H=128) == at_once("RNN_TANH", H=300) == 1
    with pytest.raises(ValueError, match="mode"):
        _C.layers_at_once(4, 100, 1, 64, 2, 4, 64, 1 << 20, 2)


def test_explain_names_it_where_it_is_chosen():
    def explained(*, gradients=False, **options):
        torch.set_num_threads(2)
        with torch.set_grad_enabled(gradients):
            return str(fastrnn.explain(fastrnn.LSTM(64, 64, **options), torch.randn(100, 1, 64)))

    named = "2 threads run the layers at the same time"
    assert explained(num_layers=2).count(named) == 2
    assert named not in explained(num_layers=1)
    assert named not in explained(num_layers=2, bidirectional=True)
    assert named not in explained(num_layers=2, gradients=True)


def test_calls_from_several_threads_end():
    """More threads than cores wait for each other, in calls that know nothing of each other."""
    module = fastrnn.GRU(64, 64, num_layers=4).requires_grad_(False)
    input = torch.randn(200, 1, 64)
    expected = on_threads(1, lambda: module(input))

    def call(_):
        return on_threads(4, lambda: module(input))

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for result in pool.map(call, range(40), timeout=60):
            assert_matches(result, expected, 0.0)
