"""PyTorch's own tools on accelerated models: scripts, traces, exports, quantisation, compilers."""

from __future__ import annotations

import copy
import io
import subprocess
import sys
from typing import Any

import pytest
import torch
from accelerated import CELLS, SEQUENCES, flat, gradients, kernel_calls, make_input
from tolerances import assert_matches
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import fastrnn

ALL = SEQUENCES + CELLS


class Around(nn.Module):
    """A model with code before and behind its recurrent module."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part
        self.linear = nn.Linear(6, 2)

    def forward(self, input: Tensor) -> Tensor:
        results = self.part(2 * input)
        return self.linear(results[0] if isinstance(results, tuple) else results)


def models(name: str) -> tuple[Around, Around, Tensor]:
    """An accelerated model, an equal one that is not, and an input."""
    stock = Around(getattr(nn, name)(5, 6))
    return fastrnn.accelerate(copy.deepcopy(stock)), stock, make_input(stock.part)


class Scripted(nn.Module):
    """As much as TorchScript takes: packed sequences, states, and a cell."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.rnn = getattr(nn, name)(5, 6)
        self.cell = getattr(nn, name + "Cell")(6, 6)

    def forward(self, input: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        packed = pack_padded_sequence(input, lengths, enforce_sorted=False)
        output = self.rnn(packed)[0]
        last = self.rnn(input)[0][-1]
        result = self.cell(last)
        return output.data, result[0] if isinstance(result, tuple) else result


def assert_loads_without_fastrnn(path: Any, arguments: Any, expected: Any) -> None:
    torch.save((arguments, expected), path.with_suffix(".expected"))
    program = """if True:
        import sys, torch
        sys.modules["fastrnn"] = None  # any import of it fails
        arguments, expected = torch.load(sys.argv[2])
        results = torch.jit.load(sys.argv[1])(*arguments)
        torch.testing.assert_close(results, expected, rtol=0, atol=1e-5)
    """
    command = [sys.executable, "-W", "ignore", "-c", program, path, path.with_suffix(".expected")]
    subprocess.run(command, check=True, timeout=120, cwd=path.parent)


DEPRECATED = pytest.mark.filterwarnings(
    "ignore:.torch.jit:DeprecationWarning", "ignore::torch.jit.TracerWarning"
)

# torch.export's, of torch.nn.LSTM as of ours.
FLAT_WEIGHTS = pytest.mark.filterwarnings("ignore:The tensor attributes .*_flat_weights")


@DEPRECATED
@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("name", SEQUENCES)
def test_scripts_hold_torchs_functions(name, compile, tmp_path):
    stock = Scripted(name)
    model = fastrnn.accelerate(copy.deepcopy(stock), compile=compile)
    arguments = torch.randn(4, 3, 5), torch.tensor([2, 4, 1])
    with torch.no_grad():
        expected = stock(*arguments)
    scripted = torch.jit.script(model)
    with kernel_calls() as calls:
        results = scripted(*arguments)
    assert calls == []
    assert_matches(tuple(r.detach() for r in results), expected)
    torch.jit.save(scripted, tmp_path / "model.pt")
    if name == "LSTM":  # a new process takes long
        assert_loads_without_fastrnn(tmp_path / "model.pt", arguments, expected)
    # torch.jit.script puts the module it compiled into the model: torch's, in the compile mode.
    fastrnn.accelerate(model, compile=compile)
    with torch.no_grad(), kernel_calls() as calls:
        assert_matches(model(*arguments), expected)
    assert len(calls) == (2 if name == "RNN" else 3)  # a small RNNCell is left to torch


@DEPRECATED
@pytest.mark.parametrize("name", ALL)
def test_gradients_of_scripts_are_there(name):
    model, stock, input = models(name)
    assert_matches(gradients(torch.jit.script(model), input), gradients(stock, input))


@DEPRECATED
@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("name", ALL)
def test_traces_hold_torchs_functions(name, compile, tmp_path):
    model, stock, input = models(name)
    fastrnn.accelerate(model, compile=compile)
    traced = torch.jit.trace(model, input)
    assert "fastrnn::" not in str(traced.inlined_graph)
    expected = stock(input).detach()
    assert_matches(traced(input).detach(), expected)
    torch.jit.save(traced, tmp_path / "model.pt")
    if name == "LSTM" and not compile:
        assert_loads_without_fastrnn(tmp_path / "model.pt", (input,), expected)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@FLAT_WEIGHTS
@pytest.mark.parametrize("name", [*SEQUENCES, "LSTMCell"])
def test_onnx_files_hold_standard_nodes(name):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    model, stock, input = models(name)
    exported = torch.onnx.export(model.eval(), (input,), dynamo=True, verbose=False)
    graph = exported.model_proto.graph
    assert {node.domain for node in graph.node} <= {"", "ai.onnx"}
    if name in SEQUENCES:
        assert [node.op_type for node in graph.node].count(name) == 1
    session = runtime.InferenceSession(exported.model_proto.SerializeToString())
    (result,) = session.run(None, {graph.input[0].name: input.numpy()})
    assert_matches(torch.from_numpy(result), stock(input).detach())


def test_fx_keeps_modules_whole():
    model, stock, input = models("LSTM")

    class First(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.part = model.part

        def forward(self, input: Tensor) -> Tensor:
            return self.part(2 * input)[0]

    traced = torch.fx.symbolic_trace(First())
    assert "call_module" in [node.op for node in traced.graph.nodes]
    with kernel_calls() as calls:
        result = traced(input)
    assert len(calls) == 1
    assert_matches(result.detach(), stock.part(2 * input)[0].detach())


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell"])
def test_dynamic_quantisation_converts(name, inplace):
    model, stock, input = models(name)
    quantize = torch.ao.quantization.quantize_dynamic
    kinds = {getattr(nn, name), nn.Linear}
    expected = quantize(stock, kinds, dtype=torch.qint8)(input)
    quantized = quantize(model, kinds, dtype=torch.qint8, inplace=inplace)
    assert "quantized" in type(quantized.part).__module__
    with kernel_calls() as calls:
        assert torch.equal(quantized(input), expected)
    assert calls == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_dynamic_quantisation_wants_restore_in_the_compile_mode():
    model, _, input = models("LSTM")
    fastrnn.accelerate(model, compile=True)
    quantize = torch.ao.quantization.quantize_dynamic
    assert type(quantize(model, {nn.LSTM}).part) is fastrnn.LSTM
    quantized = quantize(fastrnn.restore(model), {nn.LSTM})
    assert "quantized" in type(quantized.part).__module__
    assert quantized(input).shape == (4, 3, 2)


class Graphs:
    """A compiler that runs graphs as they are, and keeps them."""

    def __init__(self) -> None:
        self.graphs: list[torch.fx.GraphModule] = []

    def __call__(self, graph: torch.fx.GraphModule, inputs: Any) -> Any:
        self.graphs.append(graph)
        return graph


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


DYNAMO = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")


@DYNAMO
@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("name", SEQUENCES)
def test_kernels_run_between_the_graphs_of_a_compiled_model(name, grad):
    model, stock, input = models(name)
    backend = Graphs()
    compiled = torch.compile(model, backend=backend)
    with torch.set_grad_enabled(grad), kernel_calls() as calls:
        result = compiled(input)
    assert calls == ["fastrnn::_layer_forward" if grad else "fastrnn::_inference"]
    # What the compiler makes graphs of is the model's code, and none of ours.
    plain = Graphs()
    torch._dynamo.reset()
    torch.compile(stock, backend=plain)(input)
    assert len(backend.graphs) == len(plain.graphs)
    assert_matches(result.detach(), stock(input).detach())
    if grad:
        assert_matches(gradients(compiled, input), gradients(stock, input))


@DYNAMO
@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("allow_rnn", [False, True])
@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("name", SEQUENCES)
def test_full_graphs(name, compile, allow_rnn, grad):
    model, stock, input = models(name)
    fastrnn.accelerate(model, compile=compile)
    backend = Graphs()
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    with torch._dynamo.config.patch(allow_rnn=allow_rnn), torch.set_grad_enabled(grad):
        if not (compile or allow_rnn):
            with pytest.raises(torch._dynamo.exc.Unsupported):
                compiled(input)
            return
        with kernel_calls() as calls:
            result = compiled(input)
        assert "fastrnn" in "".join(calls)
        assert len(backend.graphs) == 1
        assert_matches(result.detach(), stock(input).detach())
        if grad:
            assert_matches(gradients(compiled, input), gradients(stock, input))


@pytest.mark.parametrize("name", CELLS)
def test_cells_compile_in_a_full_graph(name):
    model, stock, input = models(name)
    backend = Graphs()
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    assert_matches(gradients(compiled, input), gradients(stock, input))
    assert len(backend.graphs) == 1


@FLAT_WEIGHTS
@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("name", ALL)
def test_export(name, compile):
    model, stock, input = models(name)
    fastrnn.accelerate(model, compile=compile)
    exported = torch.export.export(model, (input,))
    assert_matches(exported.module()(input).detach(), stock(input).detach())


def test_a_packed_sequence_goes_through():
    model, stock, _ = models("GRU")
    packed = pack_padded_sequence(torch.randn(4, 3, 5), torch.tensor([2, 4, 1]), False, False)
    actual, expected = model.part(packed)[0], stock.part(packed)[0]
    assert isinstance(actual, PackedSequence)
    assert_matches(actual.data.detach(), expected.data.detach())


def test_shared_memory_and_saving():
    model, stock, input = models("LSTM")
    model.share_memory()
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    buffer.seek(0)
    stock.load_state_dict(torch.load(buffer))
    assert_matches(flat(model(input))[0].detach(), flat(stock(input))[0].detach())
