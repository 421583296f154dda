"""The modules on fake CUDA tensors: where everything is that a call makes, and which ops run it.

`tests/test_fake_cuda.py` runs this file in a process of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gpus
import pytest
import torch
from cases import LAYOUTS, MODES, OpCalls, build
from tolerances import TOLERANCES
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.nn.utils.rnn import PackedSequence

import fastrnn
from fastrnn import lengths as ragged
from fastrnn import recurrent

GPU = torch.device("cuda:0")
STEPS, BATCH = 4, 3

# A torch that does not know CUDA, about the weights of RNNBase.
pytestmark = pytest.mark.filterwarnings("ignore:PyTorch was compiled without cuDNN:UserWarning")


@pytest.fixture(autouse=True)
def fake(monkeypatch) -> Iterator[FakeTensorMode]:
    gpus.say_there_is(monkeypatch)
    with FakeTensorMode(shape_env=ShapeEnv()) as mode:
        yield mode


def make(mode: str, **options: Any) -> Any:
    return build(fastrnn, mode, 5, 6, device="cuda", **options)


def make_input(module: nn.RNNBase) -> Tensor:
    shape = (BATCH, STEPS, 5) if module.batch_first else (STEPS, BATCH, 5)
    dtype = module.weight_ih_l0.dtype
    return torch.randn(shape, device="cuda", dtype=dtype, requires_grad=True)


def make_states(module: nn.RNNBase) -> Any:
    count = module.num_layers * (1 + module.bidirectional)
    dtype = module.weight_ih_l0.dtype
    states = [
        torch.randn(count, BATCH, size, device="cuda", dtype=dtype, requires_grad=True)
        for size in (module.proj_size or 6, 6)
    ]
    return tuple(states) if module.mode == "LSTM" else states[0]


def flat(results: Any) -> list[Tensor]:
    if isinstance(results, PackedSequence):
        assert results.batch_sizes.device.type == "cpu"
        return [results.data]
    return [results] if isinstance(results, Tensor) else [t for r in results for t in flat(r)]


def assert_all_on_gpu(module: nn.RNNBase, input: Any, hx: Any, **options: Any) -> list[str]:
    """Of a call with gradients and one without; returns the ops that they called."""
    by = [*flat(input), *([] if hx is None else flat(hx)), *module.parameters()]
    with OpCalls() as calls:
        results = flat(module(input, hx, **options))
        loss = sum(result.float().sum() for result in results)
        gradients = torch.autograd.grad(loss, by)
        with torch.no_grad():
            inferred = flat(module(input, hx, **options))
    assert {t.device for t in (*results, *gradients, *inferred)} == {GPU}
    assert [g.shape for g in gradients] == [t.shape for t in by]
    assert [g.dtype for g in gradients] == [t.dtype for t in by]
    assert [r.shape[1:] for r in inferred] == [r.shape[1:] for r in results]
    return calls.names()


def kernel_ops(module: nn.RNNBase) -> list[str]:
    count = module.num_layers * (1 + module.bidirectional)
    forward, backward = ["_layer_forward"] * count, ["_layer_backward"] * count
    return [*forward, *backward, *forward]


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("mode", MODES)
def test_calls(mode, layout, dtype, given):
    module = make(mode, dtype=dtype, **LAYOUTS[layout])
    hx = make_states(module) if given else None
    assert assert_all_on_gpu(module, make_input(module), hx) == kernel_ops(module)


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("padding", ["right", "left"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("mode", MODES)
def test_lengths(mode, layout, padding, given, monkeypatch):
    # A fake tensor has no values to check.
    monkeypatch.setattr(ragged, "check", lambda lengths, *_: lengths)
    module = make(mode, **LAYOUTS[layout])
    hx = make_states(module) if given else None
    lengths = torch.tensor([4, 0, 2])
    options = {"lengths": lengths, "padding": padding}
    found = assert_all_on_gpu(module, make_input(module), hx, **options)
    assert [name for name in found if "layer" in name] == kernel_ops(module)
    assert [name for name in found if "pack" in name] == [
        *("_pack", "_unpack", "_pack", "_unpack"), *("_pack", "_unpack")
    ]  # fmt: skip


@pytest.mark.parametrize("indices", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_packed_sequences(mode, indices, monkeypatch):
    # A fake tensor has no values to check.
    monkeypatch.setattr(recurrent, "_fits", lambda *_: True)
    module = make(mode, num_layers=2, bidirectional=True)
    rows = torch.randn(8, 5, device="cuda", requires_grad=True)
    order = [torch.randperm(3, device="cuda")] * 2 if indices else [None] * 2
    packed = PackedSequence(rows, torch.tensor([3, 2, 2, 1]), *order)
    assert assert_all_on_gpu(module, packed, make_states(module)) == kernel_ops(module)


@pytest.mark.parametrize("left", [False, True])
def test_packing_by_index(left):
    order = ragged.sort(torch.tensor([4, 0, 2]), STEPS, GPU)
    assert [t.device.type for t in order] == ["cuda", "cuda", "cpu"]
    arguments = (order.sorted_indices, order.batch_sizes, left)
    padded = torch.randn(STEPS, BATCH, 5, device=GPU)
    packed = ragged.pack_by_index(padded, *arguments, trim=True)
    assert packed.device == GPU
    assert ragged.unpack_by_index(packed, *arguments).device == GPU


@pytest.mark.parametrize("mode", MODES)
def test_second_derivatives(mode):
    module = make(mode, **LAYOUTS["both"])
    input = make_input(module)
    output, _ = module(input)
    (grad,) = torch.autograd.grad(output.square().sum(), input, create_graph=True)
    (second,) = torch.autograd.grad(grad.square().sum(), module.weight_hh_l0)
    assert (grad.device, second.device) == (GPU, GPU)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("mode", MODES)
def test_autocast(mode, dtype, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    module = make(mode, **LAYOUTS["both"])
    with torch.autocast("cuda", dtype=dtype):
        assert assert_all_on_gpu(module, make_input(module), make_states(module)) == kernel_ops(
            module
        )
        assert module(make_input(module))[0].dtype is dtype
        name = str(dtype).removeprefix("torch.")
        assert fastrnn.explain(module, make_input(module)).reason == f"they run {name} on CUDA"
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert module(make_input(module))[0].dtype is torch.float32


@pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")
def test_projections_are_torchs():
    module = make("LSTM", num_layers=2, proj_size=3)
    assert assert_all_on_gpu(module, make_input(module), make_states(module)) == []


@pytest.mark.parametrize("archs", [(), ("100",)])
@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "GRU"])  # torch fakes no GRU
def test_without_kernels(mode, archs, monkeypatch):
    gpus.say_there_is(monkeypatch, archs=archs)
    module = make(mode, **LAYOUTS["both"])
    assert assert_all_on_gpu(module, make_input(module), make_states(module)) == []


@pytest.mark.parametrize("name", ["RNNCell", "LSTMCell"])
def test_cells(name):
    cell = getattr(fastrnn, name)(5, 300, device="cuda")
    with OpCalls() as calls:
        results = flat(cell(torch.randn(2, 5, device="cuda")))
    assert {result.device for result in results} == {GPU}
    assert calls.names() == []


def error_of(call: Any) -> tuple[Any, str]:
    with pytest.raises(Exception) as caught:
        call()
    return type(caught.value), str(caught.value)


@pytest.mark.parametrize("wrong", ["input", "hx", "weights", "input and hx"])
@pytest.mark.parametrize("mode", MODES)
def test_tensors_of_different_devices_are_refused_as_by_torch(mode, wrong):
    errors = []
    for package in (fastrnn, nn):
        module = build(package, mode, 5, 6, device="cpu" if wrong == "weights" else "cuda")
        input = torch.randn(STEPS, BATCH, 5, device="cpu" if "input" in wrong else "cuda")
        hx = torch.randn(1, BATCH, 6, device="cpu" if "hx" in wrong else "cuda")
        states = (hx, hx) if mode == "LSTM" else hx
        with OpCalls() as calls:
            errors.append(error_of(lambda m=module, i=input, s=states: m(i, s)))
        assert calls.names() == []
    assert errors[0] == errors[1]


# An RNNBase re-reads weights that the exporter swapped: torch warns so for its own modules too.
@pytest.mark.filterwarnings("ignore:The tensor attributes .*_flat_weights:UserWarning")
@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_export(mode, grad):
    module = make(mode, **LAYOUTS["both"])
    input, hx = make_input(module), make_states(module)
    with torch.set_grad_enabled(grad):
        program = torch.export.export(module, (input, hx))
    ops = [
        node.target._opname
        for node in program.graph.nodes
        if getattr(node.target, "namespace", None) == "fastrnn"
    ]
    assert ops == ["layer" if grad else "_layer_forward"] * 4


# Tracing an autograd.Function, dynamo makes an instance of it, against torch's own advice.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
# torch's own import of inductor.
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method`:DeprecationWarning")
@pytest.mark.parametrize("with_lengths", [False, True])
@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("mode", ["LSTM", "GRU"])
def test_compile_makes_one_graph(mode, grad, with_lengths, monkeypatch):
    # The compiler asks the GPU for its streams and random numbers.
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
    monkeypatch.setattr(torch.accelerator, "current_device_index", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda *_: None)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda *_: None)
    torch.compiler.reset()
    backend = CompileCounterWithBackend("eager")
    module = make(mode, **LAYOUTS["both"])
    options = {"lengths": torch.tensor([4, 0, 2])} if with_lengths else {}
    with torch.set_grad_enabled(grad):
        compiled = torch.compile(module, fullgraph=True, backend=backend)
        output, _ = compiled(make_input(module), **options)
    assert output.device == GPU
    (graph,) = backend.graphs
    found = [
        node.target._opname
        for part in graph.modules()
        for node in getattr(part, "graph", torch.fx.Graph()).nodes
        if getattr(node.target, "namespace", None) == "fastrnn"
    ]
    layers = ["_layer_forward", "_layer_backward"] if grad else ["_layer_forward"]
    assert [name for name in found if "layer" in name] == layers * 4
    assert ("_pack" in found) == with_lengths
