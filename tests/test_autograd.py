"""What autograd lets users do with a graph: checkpoint it, keep it elsewhere, watch it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases import MODES, build, evaluate, make_states
from tolerances import assert_matches
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import fastrnn

LAYOUT = {"num_layers": 2, "bidirectional": True}


class Stack(nn.Module):
    """Two modules, the second of which runs again in backward."""

    def __init__(self, mode: str, reentrant: bool | None) -> None:
        super().__init__()
        self.first = build(fastrnn, mode, 4, 6)
        self.second = build(fastrnn, mode, 6, 5, 2, bidirectional=True, dropout=0.5)
        self.reentrant = reentrant

    def forward(self, input: Tensor) -> Any:
        hidden, _ = self.first(input)
        if self.reentrant is None:
            return self.second(hidden)
        return checkpoint(self.second, hidden, use_reentrant=self.reentrant)


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_checkpointing(mode, reentrant, device):
    """Dropout falls on the same elements the second time."""
    plain, checkpointed = Stack(mode, None), Stack(mode, reentrant)
    checkpointed.load_state_dict(plain.state_dict())
    input = torch.randn(5, 3, 4)
    gradients = []
    for model in (plain, checkpointed):
        torch.manual_seed(7)
        point = input.clone().requires_grad_()
        model(point)[0].square().sum().backward()  # not autograd.grad: reentrant refuses it
        gradients.append([point.grad, *(p.grad for p in model.parameters())])
    assert_matches(*gradients, fraction=0.0)


def on_cpu() -> Any:
    return torch.autograd.graph.save_on_cpu()


def as_bytes() -> Any:
    """Hooks that keep other tensors than were saved."""

    def pack(tensor: Tensor) -> Any:
        return tensor.numpy(force=True).tobytes(), tensor.dtype, tensor.shape

    def unpack(packed: Any) -> Tensor:
        data, dtype, shape = packed
        tensor = torch.empty(shape, dtype=dtype)
        if tensor.numel():
            tensor = torch.frombuffer(bytearray(data), dtype=dtype).view(shape)
        return tensor

    return torch.autograd.graph.saved_tensors_hooks(pack, unpack)


@pytest.mark.parametrize("hooks", [on_cpu, as_bytes])
@pytest.mark.parametrize("mode", MODES)
def test_hooks_on_what_is_saved(mode, hooks):
    module = build(fastrnn, mode, 4, 6, **LAYOUT)
    arguments = (torch.randn(5, 3, 4), make_states(module, 3))
    expected = evaluate(module, *arguments)
    with hooks():
        assert_matches(evaluate(module, *arguments), expected, 0.0)


@pytest.mark.parametrize("mode", MODES)
def test_all_that_is_saved_can_be_seen(mode):
    """Hooks see all memory that is kept for backward: nothing is hidden in the node."""
    module = build(fastrnn, mode, 4, 6)
    sizes: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        module(torch.randn(50, 3, 4))
    reserve = {"LSTM": 5, "GRU": 4}.get(mode, 0)
    assert sum(sizes) >= 50 * 3 * 6 * (reserve + 1)


@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled:UserWarning")
@pytest.mark.parametrize("mode", MODES)
def test_anomaly_mode(mode, device):
    module = build(fastrnn, mode, 4, 6, **LAYOUT)
    arguments = (torch.randn(5, 3, 4), make_states(module, 3))
    expected = evaluate(module, *arguments)
    with torch.autograd.detect_anomaly():
        assert_matches(evaluate(module, *arguments), expected, 0.0)


@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled:UserWarning")
@pytest.mark.filterwarnings("ignore:Error detected in:UserWarning")
def test_anomaly_mode_names_the_layer_that_made_a_nan(device):
    module = fastrnn.GRU(4, 6)
    input = torch.randn(5, 3, 4)
    input[2, 1, 0] = float("nan")
    with (
        torch.autograd.detect_anomaly(),
        pytest.raises(RuntimeError, match="_LayerBackward' returned nan values"),
    ):
        module(input)[0].sum().backward()


def test_a_graph_is_used_twice(device):
    module = fastrnn.LSTM(4, 6, **LAYOUT)
    input = torch.randn(5, 3, 4, requires_grad=True)
    loss = module(input)[0].square().sum()
    loss.backward(retain_graph=True)
    once = [p.grad.clone() for p in (input, *module.parameters())]
    loss.backward(retain_graph=True)
    assert_matches([p.grad for p in (input, *module.parameters())], [2 * g for g in once])
    loss.backward()
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


def test_a_changed_weight_is_refused_by_backward(device):
    module = fastrnn.GRU(4, 6)
    output, _ = module(torch.randn(5, 3, 4))
    with torch.no_grad():
        module.weight_hh_l0.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


def test_deterministic_mode():
    module = fastrnn.LSTM(4, 6, **LAYOUT)
    arguments = (torch.randn(5, 3, 4), make_states(module, 3))
    expected = evaluate(module, *arguments)
    torch.use_deterministic_algorithms(True)
    try:
        # Fills new memory with NaN, so that an element which nobody writes would be seen.
        assert torch.utils.deterministic.fill_uninitialized_memory
        assert_matches(evaluate(module, *arguments), expected, 0.0)
        with torch.no_grad():
            assert_matches(module(*arguments)[0], expected[0][0], 0.0)
    finally:
        torch.use_deterministic_algorithms(False)
