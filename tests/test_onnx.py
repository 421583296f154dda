"""`torch.onnx.export`: one operator of ONNX for each layer, and ONNX Runtime's numbers agree."""

from __future__ import annotations

import collections
from typing import Any

import pytest
import torch
from cases import LAYOUTS, MODES, NIGHTLY, build, make_states
from tolerances import assert_matches
from torch import Tensor, nn

import fastrnn

onnxruntime = pytest.importorskip("onnxruntime")
onnxscript = pytest.importorskip("onnxscript")

# Exporting takes seconds: all of these are in the nightly profile alone.
CASES = [
    (mode, layout, with_states)
    for mode in MODES
    for layout in LAYOUTS
    for with_states in (False, True)
    if NIGHTLY or (layout, with_states) in [("plain", False), ("both", True)]
] + [("LSTM", "layers", False)] * (not NIGHTLY)
OPERATORS = {"RNN_TANH": "RNN", "RNN_RELU": "RNN", "LSTM": "LSTM", "GRU": "GRU"}

pytestmark = [
    # An RNNBase re-reads weights that the exporter swapped: torch warns so for its own modules too.
    pytest.mark.filterwarnings("ignore:The tensor attributes .*_flat_weights:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),  # the exporter's copying
]


def export(model: nn.Module, arguments: tuple[Any, ...], shapes: Any) -> Any:
    """The file, as onnx's own structure."""
    program = torch.onnx.export(model, arguments, dynamo=True, dynamic_shapes=shapes, verbose=False)
    return program.model_proto


def operators(file: Any) -> collections.Counter[str]:
    counts = collections.Counter(node.op_type for node in file.graph.node)
    assert all(node.domain == "" for node in file.graph.node)
    assert not file.functions
    return counts


def run(file: Any, arguments: list[Tensor]) -> list[Tensor]:
    session = onnxruntime.InferenceSession(file.SerializeToString())
    names = [argument.name for argument in session.get_inputs()]
    assert len(names) == len(arguments)
    feeds = dict(zip(names, (argument.numpy() for argument in arguments), strict=True))
    return [torch.from_numpy(result) for result in session.run(None, feeds)]


def flat(results: Any) -> list[Tensor]:
    if isinstance(results, Tensor):
        return [results]
    return [tensor for result in results for tensor in flat(result)]


def shapes_of(module: nn.RNNBase, with_states: bool) -> tuple[Any, ...]:
    dynamic = torch.export.Dim.DYNAMIC
    state = {1: dynamic}
    states = (state, state) if module.mode == "LSTM" else state
    return ({0: dynamic, 1: dynamic}, *([states] if with_states else []))


def arguments_of(module: nn.RNNBase, size: tuple[int, int], with_states: bool) -> tuple[Any, ...]:
    steps, batch = size
    shape = (batch, steps) if module.batch_first else (steps, batch)
    input = torch.randn(*shape, module.input_size)
    return (input, make_states(module, batch)) if with_states else (input,)


@pytest.mark.parametrize(("mode", "layout", "with_states"), CASES)
def test_any_length_and_batch(mode, layout, with_states):
    module = build(fastrnn, mode, 4, 6, **LAYOUTS[layout]).eval()
    shapes = shapes_of(module, with_states)
    file = export(module, arguments_of(module, (5, 3), with_states), shapes)
    counts = operators(file)
    assert counts[OPERATORS[mode]] == module.num_layers
    # Nothing else but copies: no other arithmetic was left beside the layers.
    assert counts.keys() <= {
        OPERATORS[mode], "Concat", "Reshape", "Shape", "Slice", "Squeeze", "Transpose"
    }  # fmt: skip
    for size in ((5, 3), (9, 2), (1, 4), (30, 1)):
        arguments = arguments_of(module, size, with_states)
        assert_matches(run(file, flat(arguments)), flat(module(*arguments)))


@pytest.mark.parametrize(("mode", "padding"), [("LSTM", "left"), ("GRU", "right")])
def test_lengths(mode, padding):
    module = build(fastrnn, mode, 4, 6, 2, bidirectional=True)

    class Padded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = module

        def forward(self, input: Tensor, lengths: Tensor, hx: Any) -> Any:
            return self.rnn(input, hx, lengths=lengths, padding=padding)

    model = Padded().eval()
    dynamic = torch.export.Dim.DYNAMIC
    state = {1: dynamic}
    file = export(
        model,
        (torch.randn(5, 3, 4), torch.tensor([5, 2, 3]), make_states(module, 3)),
        ({0: dynamic, 1: dynamic}, {0: dynamic}, (state, state) if mode == "LSTM" else state),
    )
    assert operators(file)[mode] == 2
    # A row without steps keeps its states.
    arguments = torch.randn(7, 4, 4), torch.tensor([3, 7, 0, 6]), make_states(module, 4)
    assert_matches(run(file, flat(arguments)), flat(model(*arguments)))


def test_an_accelerated_module_of_torch():
    """torch's own module gives a file for one length, which fails or errs with another."""
    module = fastrnn.accelerate(nn.LSTM(4, 6, batch_first=True)).eval()
    file = export(module, arguments_of(module, (5, 3), False), shapes_of(module, False))
    assert operators(file)["LSTM"] == 1
    for size in ((5, 3), (9, 2)):
        arguments = arguments_of(module, size, False)
        assert_matches(run(file, flat(arguments)), flat(module(*arguments)))


def test_weights_become_constants_when_optimized():
    """What the documentation of `fastrnn.onnx` says to tools that want so."""
    module = fastrnn.GRU(16, 128).eval()
    program = torch.onnx.export(module, (torch.randn(5, 3, 16),), dynamo=True, verbose=False)
    limit = 1 + max(4 * weight.numel() for weight in module.parameters())
    onnxscript.optimizer.optimize(program.model, input_size_limit=limit, output_size_limit=limit)
    file = program.model_proto
    (layer,) = (node for node in file.graph.node if node.op_type == "GRU")
    constants = {constant.name for constant in file.graph.initializer}
    assert set(layer.input[1:4]) <= constants
