"""`torch.compile` with its default backend: one graph for any length and batch, eager's numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from cases import LAYOUTS, MODES, NIGHTLY, build, evaluate, make_states
from tolerances import assert_matches
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend

import fastrnn

# Compiling takes seconds: each cell and each layout once, all pairs in the nightly profile.
CASES = [
    (mode, layout)
    for mode in MODES
    for layout in LAYOUTS
    if NIGHTLY
    or (mode, layout)
    in [("LSTM", "both"), ("GRU", "plain"), ("RNN_TANH", "layers"), ("RNN_RELU", "plain")]
]
# (T, B) of the call that compiles, and of those that must find it compiled. torch.compile has
# a version of its own for a size of one, whatever the model.
FIRST, LATER = (5, 3), [(7, 2), (9, 4), (40, 16)]

pytestmark = [
    # Tracing an autograd.Function, dynamo makes an instance of it, against torch's own advice.
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
    # torch's own import of inductor.
    pytest.mark.filterwarnings("ignore:`torch.jit.script_method`:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`torch.jit.script`:DeprecationWarning"),
]


@pytest.fixture(autouse=True)
def compiler() -> Iterator[None]:
    """All modules share one `forward`, and dynamo limits the compiled versions of a function."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


class Counted:
    """A compiled module, and the number of graphs that were made for it."""

    def __init__(self, module: Any, **options: Any) -> None:
        self.backend = CompileCounterWithBackend("inductor")
        self.call = torch.compile(module, fullgraph=True, backend=self.backend, **options)

    @property
    def ops(self) -> list[str]:
        """The raw ops that are called in the last graph and inside of its functions."""
        return [
            node.target.name()
            for graph in self.backend.graphs[-1].modules()
            for node in getattr(graph, "graph", torch.fx.Graph()).nodes
            if getattr(node.target, "namespace", None) == "fastrnn"
        ]


def batch_of(module: nn.RNNBase, size: tuple[int, int]) -> tuple[Tensor, Any]:
    steps, batch = size
    shape = (batch, steps) if module.batch_first else (steps, batch)
    dtype = module.weight_ih_l0.dtype
    return torch.randn(*shape, module.input_size, dtype=dtype), make_states(module, batch)


def assert_equal_calls(compiled: Any, module: nn.RNNBase, input: Tensor, hx: Any) -> None:
    """Results and gradients; a compiled module names its parameters otherwise."""
    (results, gradients), (expected, expected_gradients) = (
        evaluate(call, input, hx) for call in (compiled, module)
    )
    assert_matches(results, expected)
    assert_matches(list(gradients.values()), list(expected_gradients.values()))


@pytest.mark.parametrize(("mode", "layout"), CASES)
def test_training(mode, layout):
    module = build(fastrnn, mode, 4, 6, **LAYOUTS[layout])
    counted = Counted(module, dynamic=True)
    assert_equal_calls(counted.call, module, *batch_of(module, FIRST))
    layers = module.num_layers * (2 if module.bidirectional else 1)
    assert counted.ops == ["fastrnn::_layer_forward", "fastrnn::_layer_backward"] * layers
    if module.num_layers == 1:  # else torch traces twice, for the float that `dropout` is
        assert counted.backend.frame_count == 1
    with torch.compiler.set_stance("fail_on_recompile"):
        for size in LATER:
            assert_equal_calls(counted.call, module, *batch_of(module, size))


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize(("mode", "layout"), CASES)
def test_inference(mode, layout, context):
    module = build(fastrnn, mode, 4, 6, **LAYOUTS[layout]).eval()
    counted = Counted(module, dynamic=True)
    with context():
        counted.call(*batch_of(module, FIRST))
        assert counted.ops == ["fastrnn::_inference"]
        assert counted.backend.frame_count == 1
        with torch.compiler.set_stance("fail_on_recompile"):
            for size in LATER:
                arguments = batch_of(module, size)
                actual, expected = counted.call(*arguments), module(*arguments)
                assert_matches(actual, expected, 0.0)
                assert actual[0].stride() == expected[0].stride()
        module.weight_hh_l0.mul_(0.5)  # what is kept of the weights must not be
        arguments = batch_of(module, FIRST)
        assert_matches(counted.call(*arguments), module(*arguments), 0.0)


def test_dimensions_marked_dynamic():
    module = fastrnn.GRU(4, 6)
    counted = Counted(module)
    input, hx = batch_of(module, FIRST)
    for tensor, dimensions in ((input, (0, 1)), (hx, 1)):
        torch._dynamo.mark_dynamic(tensor, dimensions)
    counted.call(input, hx)
    assert counted.backend.frame_count == 1
    with torch.compiler.set_stance("fail_on_recompile"):
        for size in LATER:
            arguments = batch_of(module, size)
            assert_matches(counted.call(*arguments), module(*arguments))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_dtypes(dtype):
    module = fastrnn.LSTM(4, 6, dtype=dtype)
    counted = Counted(module, dynamic=True)
    assert_equal_calls(counted.call, module, *batch_of(module, FIRST))
    with torch.no_grad():
        arguments = batch_of(module, FIRST)
        assert_matches(counted.call(*arguments), module(*arguments), 0.0)


@pytest.mark.parametrize("mode", MODES if NIGHTLY else ["GRU"])
def test_autocast(mode):
    module = build(fastrnn, mode, 4, 6)
    counted = Counted(module, dynamic=True)
    with torch.autocast("cpu", torch.bfloat16):
        assert_equal_calls(counted.call, module, *batch_of(module, FIRST))
        assert counted.ops == ["fastrnn::_layer_forward", "fastrnn::_layer_backward"]
        assert counted.call(*batch_of(module, FIRST))[0].dtype is torch.bfloat16


@pytest.mark.parametrize("padding", ["right", "left"])
def test_lengths(padding):
    module = fastrnn.GRU(4, 6, bidirectional=True)

    def call(input: Tensor, lengths: Tensor) -> Any:
        return module(input, lengths=lengths, padding=padding)

    counted = Counted(call, dynamic=True)
    counted.call(torch.randn(5, 3, 4), torch.tensor([5, 0, 2]))
    assert "fastrnn::_pack" in counted.ops
    with torch.compiler.set_stance("fail_on_recompile"):
        for steps, lengths in ((7, [3, 7]), (9, [9, 9, 1, 0]), (40, [2] * 16)):
            arguments = torch.randn(steps, len(lengths), 4), torch.tensor(lengths)
            results = [run(*arguments)[0] for run in (counted.call, call)]
            assert_matches(*results)
            gradients = [
                torch.autograd.grad(result.square().sum(), list(module.parameters()))
                for result in results
            ]
            assert_matches(*gradients)


def test_projections():
    # Not of the first batch's size: torch.compile would take the two for one.
    module = fastrnn.LSTM(4, 6, proj_size=2)
    counted = Counted(module, dynamic=True)
    assert_equal_calls(counted.call, module, *batch_of(module, FIRST))
    with torch.compiler.set_stance("fail_on_recompile"):
        for size in LATER:
            assert_equal_calls(counted.call, module, *batch_of(module, size))
    with torch.no_grad():
        arguments = batch_of(module, FIRST)
        assert_matches(counted.call(*arguments), module(*arguments), 0.0)


class Tagger(nn.Module):
    """A model as people write them: what surrounds the recurrent layer is compiled with it."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 4)
        self.rnn = fastrnn.GRU(4, 6, batch_first=True)
        self.head = nn.Linear(6, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        output, _ = self.rnn(self.embedding(tokens))
        return self.head(torch.relu(output))


def train(model: Any, parameters: Any) -> list[float]:
    """Losses of steps on batches of different sizes, then of a call without gradients."""
    optimizer = torch.optim.Adam(parameters, lr=0.05)
    generator = torch.Generator().manual_seed(1)
    losses = []
    for size in ((4, 7), (4, 7), (5, 9), (3, 12)):
        tokens = torch.randint(11, size, generator=generator)
        loss = nn.functional.cross_entropy(model(tokens).flatten(0, 1), (tokens % 3).flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    with torch.no_grad():
        return [*losses, model(tokens).sum().item()]


def test_a_model_trains_to_the_same_losses():
    """The compiled graph sees the weights that the optimizer has changed."""
    torch.manual_seed(0)
    eager = Tagger()
    model = Tagger()
    model.load_state_dict(eager.state_dict())
    compiled = torch.compile(model, fullgraph=True, dynamic=True)
    expected = train(eager, eager.parameters())
    assert len(set(expected)) == 5
    assert train(compiled, model.parameters()) == pytest.approx(expected, rel=1e-5)
