"""The way of a CUDA call to the kernels, on tensors that say they are on a GPU.

They are on the CPU, and so are the kernels that run them. What is tested is all that is above the
kernels: which calls reach them, in which pieces, and what happens to the others.
"""

from __future__ import annotations

from typing import Any

import cell_cases
import gpus
import pytest
import torch
from cases import MODES, OpCalls, build, evaluate, make_states, pair
from tolerances import TOLERANCES, assert_matches
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import fastrnn
from fastrnn import devices, ops
from fastrnn import lengths as ragged

DTYPES = list(TOLERANCES)
LAYOUTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "layers without bias": {"num_layers": 3, "bias": False},
    "both directions, batch first": {"bidirectional": True, "batch_first": True},
    "dropout": {"num_layers": 2, "dropout": 0.5, "bidirectional": True},
}
LENGTHS = torch.tensor([3, 0, 4, 1, 4])


@pytest.fixture
def on_gpu(monkeypatch) -> pytest.MonkeyPatch:
    """Tensors are on a GPU from here on, which the kernels are compiled for."""
    gpus.say_there_is(monkeypatch)
    gpus.say_tensors_are_there(monkeypatch)
    for name, op in {"_pack": ragged.pack_by_index, "_unpack": ragged.unpack_by_index}.items():
        monkeypatch.setattr(getattr(torch.ops.fastrnn, name), "default", op)
    return monkeypatch


def layers_of(module: nn.RNNBase) -> int:
    return module.num_layers * (1 + module.bidirectional)


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", MODES)
def test_training(mode, dtype, layout, given, on_gpu):
    module = build(fastrnn, mode, 5, 6, dtype=dtype, **LAYOUTS[layout])
    input = torch.randn(4, 3, 5, dtype=dtype)
    hx = make_states(module, input.shape[0 if module.batch_first else 1]) if given else None
    with OpCalls() as calls:
        torch.manual_seed(7)
        actual = evaluate(module, input, hx)
    assert calls.names() == [
        *["_layer_forward"] * layers_of(module),
        *["_layer_backward"] * layers_of(module),
    ]
    on_gpu.undo()
    torch.manual_seed(7)
    assert_matches(actual, evaluate(module, input, hx), fraction=0.0)


@pytest.mark.parametrize("shape", [(4, 3, 5), (4, 5), (1, 1, 5)])
@pytest.mark.parametrize("output", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("mode", MODES)
def test_inference_runs_layer_by_layer(mode, layout, output, shape, on_gpu):
    module = build(fastrnn, mode, 5, 6, **LAYOUTS[layout]).eval()
    input = torch.randn(shape)
    batch = shape[0 if module.batch_first else 1] if len(shape) == 3 else None
    for hx in (None, make_states(module, batch)):
        with torch.no_grad(), OpCalls() as calls:
            actual = module(input, hx, output=output)
        assert calls.names() == ["_layer_forward"] * layers_of(module)
        assert actual[0] is None or output
        with pytest.MonkeyPatch.context() as patch, torch.no_grad():
            patch.setattr(torch.Tensor, "is_cpu", True)
            patch.setattr(torch.Tensor, "is_cuda", False)
            assert_matches(actual, module(input, hx, output=output))


@pytest.mark.parametrize("padding", ragged.PADDINGS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("mode", MODES)
def test_lengths(mode, layout, padding, on_gpu):
    module = build(fastrnn, mode, 5, 6, **LAYOUTS[layout]).eval()
    shape = (5, 4, 5) if module.batch_first else (4, 5, 5)
    input, hx = torch.randn(shape), make_states(module, 5)

    def call(module: Any, input: Tensor, hx: Any) -> Any:
        return module(input, hx, lengths=LENGTHS, padding=padding)

    with OpCalls() as calls:
        actual = evaluate(module, input, hx, call=call)
        with torch.no_grad():
            inferred = call(module, input, hx)
    once = ["_layer_forward"] * layers_of(module)
    backward = ["_layer_backward"] * layers_of(module)
    assert calls.names() == ["_sort_lengths", *once, *backward, "_sort_lengths", *once]
    on_gpu.undo()
    assert_matches(actual, evaluate(module, input, hx, call=call), fraction=0.0)
    with torch.no_grad():
        assert_matches(inferred, call(module, input, hx))


@pytest.mark.parametrize("enforce_sorted", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_packed_sequences(mode, enforce_sorted, on_gpu):
    module = build(fastrnn, mode, 5, 6, 2, bidirectional=True)
    lengths = torch.tensor([4, 3, 1] if enforce_sorted else [3, 4, 1])
    packed = pack_padded_sequence(torch.randn(4, 3, 5), lengths, enforce_sorted=enforce_sorted)
    hx = make_states(module, 3)

    def call(module: Any, input: Tensor, *hx: Any) -> Any:
        output, finals = module(packed._replace(data=input), *hx)
        return output.data, finals

    with OpCalls() as calls:
        actual = evaluate(module, packed.data, hx, call=call)
        with torch.no_grad():
            inferred = call(module, packed.data, hx)
    assert calls.names() == [*["_layer_forward"] * 4, *["_layer_backward"] * 4,
                             *["_layer_forward"] * 4]  # fmt: skip
    on_gpu.undo()
    assert_matches(actual, evaluate(module, packed.data, hx, call=call), fraction=0.0)
    assert_matches(inferred, call(module, packed.data, hx))


def test_products_are_not_rounded_as_the_cpus_setting_allows(on_gpu):
    module, input = fastrnn.LSTM(64, 64), torch.randn(20, 1, 64)
    on_gpu.setattr(ops, "rounds_products", lambda: True)
    with torch.no_grad(), OpCalls() as calls:
        module(input)
    ((_, arguments),) = calls.calls
    assert True not in arguments[10:]  # `bfloat16_weights` stays at its default


# torch says once that it has no fast path for projections.
@pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")
def test_projections_are_torchs(on_gpu):
    ours, theirs = pair("LSTM", 5, 6, 2, proj_size=3)
    input, hx = torch.randn(4, 3, 5), make_states(theirs, 3)
    packed = pack_padded_sequence(input, torch.tensor([4, 3, 1]))
    with OpCalls() as calls:
        assert_matches(evaluate(ours, input, hx), evaluate(theirs, input, hx))
        assert_matches(ours(packed, hx)[0].data, theirs(packed, hx)[0].data)
        with torch.no_grad():
            assert_matches(ours(input), theirs(input))
        ragged_output, _ = ours(input, lengths=torch.tensor([4, 3, 1]))
    assert_matches(ragged_output, pad_packed_sequence(theirs(packed)[0])[0])
    assert calls.names() == []
    explanation = fastrnn.explain(ours, input)
    assert (explanation.path, explanation.layers) == ("torch", ())
    assert explanation.reason == "the kernels for CUDA have no projections"


@pytest.mark.parametrize("given", [None, torch.tensor([4, 0, 2])])
def test_recurrent_dropout_is_the_references(given, on_gpu):
    module = fastrnn.GRU(5, 6, 2, recurrent_dropout=0.5)
    input = torch.randn(4, 3, 5)
    packed = pack_padded_sequence(input, torch.tensor([4, 3, 1]))
    with OpCalls() as calls:
        torch.manual_seed(7)
        output, h_n = module(input, lengths=given)
        assert module(packed)[0].data.shape == (8, 6)
    assert calls.names() == []
    explanation = fastrnn.explain(module, input)
    assert (explanation.path, explanation.layers) == ("reference", ())
    assert explanation.reason == "the kernels for CUDA have no recurrent dropout"
    assert fastrnn.explain(module.eval(), input).path == "kernels"
    on_gpu.undo()
    torch.manual_seed(7)
    assert_matches((output, h_n), module.train()(input, lengths=given))


REFUSALS = {
    "not built": ({"archs": ()}, "the kernels are built without CUDA"),
    "old": (
        {"capability": (7, 5)},
        "the kernels are compiled for compute capability 8.0 and newer, this GPU is 7.5",
    ),
    "older than the oldest": (
        {"capability": (8, 6), "archs": ("120", "90", "100")},
        "the kernels are compiled for compute capability 9.0 and newer, this GPU is 8.6",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
@pytest.mark.parametrize("mode", MODES)
def test_a_gpu_without_kernels_runs_torchs_code(mode, case, on_gpu):
    facts, reason = REFUSALS[case]
    gpus.say_there_is(on_gpu, **facts)
    ours, theirs = pair(mode, 5, 6, 2, bidirectional=True)
    input = torch.randn(4, 3, 5)
    packed = pack_padded_sequence(input, torch.tensor([4, 3, 1]))
    with OpCalls() as calls:
        assert_matches(evaluate(ours, input), evaluate(theirs, input), fraction=0.0)
        assert_matches(ours(packed)[0].data, theirs(packed)[0].data, fraction=0.0)
        by_lengths, _ = ours(input, lengths=torch.tensor([4, 3, 1]))
    assert calls.names() == []
    assert_matches(by_lengths, pad_packed_sequence(theirs(packed)[0])[0])
    assert (fastrnn.explain(ours, input).path, fastrnn.explain(ours, input).reason) == (
        "torch",
        reason,
    )


@pytest.mark.parametrize("capability", [(8, 0), (8, 9), (9, 0), (10, 0), (12, 1)])
def test_newer_gpus_run_the_kernels(capability, monkeypatch):
    gpus.say_there_is(monkeypatch, capability, ("80", "90", "100"))
    assert devices.cuda_refusal(0) is None


def test_other_makers_gpus_have_no_kernels(monkeypatch):
    gpus.say_there_is(monkeypatch)
    monkeypatch.setattr(torch.version, "hip", "6.3")
    assert "this torch is for AMD's" in devices.cuda_refusal(0)


@pytest.mark.parametrize("mode", MODES)
def test_second_derivatives_are_the_references(mode, on_gpu):
    module = build(fastrnn, mode, 2, 3, bidirectional=True).double()
    input = torch.randn(2, 3, 2, dtype=torch.float64, requires_grad=True)
    for options in ({}, {"lengths": torch.tensor([1, 0, 2])}):
        assert torch.autograd.gradgradcheck(lambda x, o=options: module(x, **o)[0], (input,))


# torch's forward-mode differentiation scripts its decompositions when first used.
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("mode", MODES)
def test_function_transforms_run_the_reference(mode, on_gpu):
    module = build(fastrnn, mode, 3, 4)
    input = torch.randn(6, 5, 2, 3)
    with OpCalls() as calls:
        many = torch.func.vmap(lambda x: module(x)[0])(input)
        _, tangent = torch.func.jvp(lambda x: module(x)[0], (input[0],), (input[1],))
    assert calls.names() == []
    assert tangent.shape == many[0].shape
    assert_matches(many[0], module(input[0])[0].detach())


@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_accelerate_and_restore(name, compile, on_gpu):
    module, input = getattr(nn, name)(5, 6, 2, bidirectional=True), torch.randn(4, 3, 5)
    expected = evaluate(module, input)
    with OpCalls() as calls:
        assert_matches(evaluate(fastrnn.accelerate(module, compile=compile), input), expected)
    assert calls.names() == ["_layer_forward"] * 4 + ["_layer_backward"] * 4
    assert fastrnn.explain(module, input).path == "kernels"
    with OpCalls() as calls:
        assert_matches(evaluate(fastrnn.restore(module), input), expected, fraction=0.0)
    assert calls.names() == []


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("name", cell_cases.CELLS)
def test_cells_are_torchs(name, grad, on_gpu):
    ours, theirs = cell_cases.pair(name, 5, 300)
    for cell in (ours, fastrnn.accelerate(theirs)):
        input = torch.randn(1, 5)
        with torch.set_grad_enabled(grad), OpCalls() as calls:
            cell(input)
        assert calls.names() == []
        (use,) = fastrnn.explain(nn.Sequential(cell), input).uses
        assert (use.path, use.reason) == ("torch", "its own cells run single steps on CUDA")


@pytest.mark.parametrize(
    ("hidden", "regime"),
    [
        (16, "blocks of rows run through all steps"),
        (512, "blocks share the hidden units in one launch"),
        (8192, "a launch for each step"),
    ],
)
def test_explain_tells_the_plan_of_each_layer(hidden, regime, on_gpu):
    with torch.device("meta"):  # for their shapes alone
        module = fastrnn.GRU(5, hidden, 2, bidirectional=True)
    input = torch.randn(7, 64, 5, device="meta")
    explanation = fastrnn.explain(module, input)
    assert explanation.path == "kernels"
    assert [layer.shape for layer in explanation.layers] == [
        (7, 64, 5, hidden), (7, 64, 2 * hidden, hidden)
    ]  # fmt: skip
    for layer in explanation.layers:
        assert layer.regime == regime
        assert [reason.split(": ")[0] for reason in layer.reasons[1:]] == ["forward", "backward"]
    assert regime in str(explanation) and "modelled" in str(explanation)
    with torch.no_grad():
        assert "backward" not in str(fastrnn.explain(module, input))
