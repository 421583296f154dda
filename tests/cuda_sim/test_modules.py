"""Modules as users call them, on the CUDA kernels in the simulator, against torch.nn."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases import MODES, evaluate, make_states, pair
from tolerances import assert_matches
from torch.nn.utils.rnn import pack_padded_sequence

from . import simulated

FAMILY = pytest.mark.parametrize("family", simulated.FAMILIES)
MODE = pytest.mark.parametrize("mode", MODES)


@FAMILY
@MODE
def test_layers_and_directions(mode, family, monkeypatch):
    ours, theirs = pair(mode, 4, 11, num_layers=2, bidirectional=True, batch_first=True)
    x, hx = torch.randn(5, 4, 4), make_states(theirs, 5)
    wanted = evaluate(theirs, x, hx)
    simulated.use(simulated.device(family, mode, 5, 11), monkeypatch)
    assert_matches(evaluate(ours, x, hx), wanted)


@FAMILY
@MODE
def test_packed_sequences(mode, family, monkeypatch):
    ours, theirs = pair(mode, 3, 9, bidirectional=True)
    x, lengths = torch.randn(6, 4, 3), torch.tensor([3, 6, 1, 4])

    def call(module: Any, input: Any) -> Any:
        packed, hidden = module(pack_padded_sequence(input, lengths, enforce_sorted=False))
        return packed.data, hidden

    wanted = evaluate(theirs, x, call=call)
    simulated.use(simulated.device(family, mode, 4, 9), monkeypatch)
    assert_matches(evaluate(ours, x, call=call), wanted)


@MODE
def test_lengths(mode, monkeypatch):
    ours, _ = pair(mode, 3, 9, bidirectional=True)
    x, lengths = torch.randn(6, 4, 3), torch.tensor([3, 6, 0, 4])

    def padded(module: Any, input: Any) -> Any:
        return module(input, lengths=lengths, padding="left")

    wanted = evaluate(ours.double(), x.double(), call=padded)
    simulated.use({}, monkeypatch)
    assert_matches(evaluate(ours.float(), x, call=padded), wanted, fraction=1e-5)


def test_inference_saves_nothing(monkeypatch):
    ours, theirs = pair("GRU", 4, 8)
    x = torch.randn(5, 3, 4)
    with torch.no_grad():
        wanted = theirs(x)
        simulated.use(simulated.device("grid", "GRU", 3, 8), monkeypatch)
        assert_matches(ours(x), wanted)


@MODE
def test_empty_batches(mode, monkeypatch):
    ours, theirs = pair(mode, 4, 8)
    x = torch.randn(5, 0, 4)
    simulated.use({}, monkeypatch)
    output, gradients = evaluate(ours, x)
    assert output[0].shape == (5, 0, 8)
    for name, parameter in theirs.named_parameters():
        assert torch.equal(gradients[name], torch.zeros_like(parameter))


@pytest.mark.parametrize("subset", range(1, 2**7, 9))
def test_gradients_of_subsets(subset, monkeypatch):
    """Only what requires a gradient is computed, and it is the same as among all."""
    simulated.use({}, monkeypatch)
    module, _ = pair("LSTM", 4, 8)
    x, hx = torch.randn(3, 2, 4), make_states(module, 2)
    names = ["input", "state 0", "state 1", *dict(module.named_parameters())]
    _, whole = evaluate(module, x, hx)
    frozen = [name for k, name in enumerate(names) if not subset >> k & 1]
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name not in frozen)
    _, some = evaluate(module, x, hx, frozen=frozen)
    assert some.keys() == whole.keys() - set(frozen)
    assert all(torch.equal(grad, whole[name]) for name, grad in some.items())


def test_strided_arrays(monkeypatch):
    """Inputs and gradients that are views with gaps, and rows that begin at odd addresses."""
    ours, theirs = pair("GRU", 5, 7, dtype=torch.float64)
    whole = torch.randn(3, 6, 12, dtype=torch.float64)

    def call(module: Any, input: Any) -> Any:
        output, hidden = module(input[:, ::2, 1:6])
        return output[..., ::2], hidden[..., 1:]

    wanted = evaluate(theirs, whole, call=call)
    simulated.use(simulated.device("launch", "GRU", 3, 7, torch.float64), monkeypatch)
    assert_matches(evaluate(ours, whole, call=call), wanted)


def test_results_are_the_same_in_every_schedule(monkeypatch):
    module, _ = pair("LSTM", 4, 20)
    x = torch.randn(4, 5, 4)
    simulator = simulated.use(simulated.device("grid", "LSTM", 5, 20), monkeypatch)
    first = evaluate(module, x)
    for name, seed in (("reverse", 1), ("random", 1), ("random", 2), ("unfair", 1), ("unfair", 2)):
        simulator.schedule(name, seed)
        assert_matches(evaluate(module, x), first, fraction=0.0)


def test_refuses_what_has_no_kernel(monkeypatch):
    simulator = simulated.use({}, monkeypatch)
    simulator.device(compute_capability=75)
    module, _ = pair("LSTM", 4, 8)
    with pytest.raises(RuntimeError, match=r"compute capability 8.0 .*this GPU has 7.5"):
        module(torch.randn(3, 2, 4))
    simulator.device(shared_per_block=512)
    with pytest.raises(RuntimeError, match="no plan fits 512 bytes of shared memory"):
        module(torch.randn(3, 2, 4))
