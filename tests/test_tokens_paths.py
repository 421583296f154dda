"""Token ids under transforms, compilers and exports, and what is refused."""

from __future__ import annotations

import pytest
import torch
from cases import MODES, OpCalls, build
from test_errors import error_of
from test_fallback import NOT_BUILT, run
from token_cases import compare, draw
from tolerances import assert_matches
from torch import Tensor, nn
from torch.nn.functional import embedding as rows_of

import fastrnn
from fastrnn import ops, reference


def test_function_transforms():
    module = fastrnn.GRU(4, 6).double()
    rows, ids = torch.randn(9, 4).double(), torch.randint(0, 9, (5, 7, 2))

    def loss(rows: Tensor, ids: Tensor) -> Tensor:
        return module(ids, embedding=rows)[0].square().sum()

    each = torch.func.vmap(torch.func.grad(loss), (None, 0))(rows, ids)
    rows.requires_grad_()
    for k in range(5):
        assert_matches(each[k], torch.autograd.grad(loss(rows, ids[k]), rows)[0])


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("one_hot", [False, True])
def test_compiles_to_one_graph(one_hot):
    module, weight = fastrnn.LSTM(6, 5, 2), torch.randn(6, 6).requires_grad_()
    given = None if one_hot else weight

    def call(ids: Tensor) -> Tensor:
        return module(ids, embedding=given)[0]

    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    by = [*module.parameters()] if one_hot else [weight, *module.parameters()]
    ids = draw(4, 3, 6)
    grads = [torch.autograd.grad(f(ids).square().sum(), by) for f in (call, compiled)]
    assert_matches(grads[1], grads[0])
    with torch.no_grad():
        assert_matches(compiled(ids), call(ids))


@pytest.mark.filterwarnings("ignore:The tensor attributes .*_flat_weights:UserWarning")
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
def test_export_keeps_gradients():
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.lstm = nn.Embedding(9, 4), fastrnn.LSTM(4, 6)

        def forward(self, ids: Tensor) -> Tensor:
            output: Tensor = self.lstm(ids, embedding=self.words.weight)[0]
            return output

    model, ids = Model(), draw(5, 2, 9)
    program = torch.export.export(model, (ids,)).module()
    assert_matches(program(ids), model(ids))
    grads = [
        torch.autograd.grad(m(ids).square().sum(), list(m.parameters())) for m in (model, program)
    ]
    assert_matches(grads[1], grads[0])


@pytest.mark.parametrize("embedded", [False, True])
def test_library_checks(embedded):
    for mode in MODES:
        module = build(fastrnn, mode, 5, 6)
        ids, hx = draw(4, 3, 5), torch.randn(3, 6)
        cx = torch.randn(3, 6) if mode == "LSTM" else None
        weights = [w.detach() for w in module._flat_weights]
        options = {"embedding": torch.randn(5, 5)} if embedded else {}
        arguments = (ids, hx, cx, *weights, MODES.index(mode), False, True)
        forward = torch.ops.fastrnn._layer_forward.default
        torch.library.opcheck(forward, arguments, options)
        output, h_n, c_n, reserve = forward(*arguments, **options)
        saved = (ids, hx, cx, *weights[:2], output, reserve)
        wanted = 0b101111111 if mode == "LSTM" else 0b101111011
        torch.library.opcheck(
            torch.ops.fastrnn._layer_backward.default,
            (
                output,
                h_n,
                c_n if mode == "LSTM" else None,
                *saved,
                MODES.index(mode),
                False,
                wanted,
            ),
            options,
        )
        torch.library.opcheck(
            torch.ops.fastrnn._inference.default,
            (ids, [], weights, MODES.index(mode), 1, False, False),
            options,
        )


def test_autocast():
    module, weight = fastrnn.LSTM(5, 6), torch.randn(9, 5)
    ids = draw(4, 3, 9)
    with torch.autocast("cpu", torch.bfloat16):
        output, _ = module(ids, embedding=weight)
        assert output.dtype is torch.bfloat16
        assert_matches(output, module(rows_of(ids, weight))[0], fraction=1.2e-2)


@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_ids_out_of_range(dtype, gradients):
    module, weight = fastrnn.LSTM(4, 6, batch_first=True), torch.randn(9, 4)
    ids = torch.zeros(3, 5, dtype=dtype)
    with torch.set_grad_enabled(gradients):
        for wrong in (9, -1):
            ids[1, 4] = wrong
            with pytest.raises(ValueError, match=rf"0 to 8, .* got {wrong} at position \(1, 4\)"):
                module(ids, embedding=weight)
            with pytest.raises(ValueError, match=rf"got {wrong} at position \(1, 4\)"):
                module(ids, embedding=weight, lengths=torch.tensor([0, 5, 2]))
            with pytest.raises(ValueError, match=r"0 to 3, .* at position \(1, 4\)"):
                module(ids)
            with pytest.raises(ValueError, match=r"at position \(4, 1\)"):
                ops.embed(ids.t(), weight)
        module(ids, embedding=weight, lengths=torch.tensor([5, 4, 0]))


@pytest.mark.parametrize(
    ("error", "text", "input", "embedding"),
    [
        (TypeError, "must hold token ids.*float32", torch.zeros(4, 3, 4), torch.zeros(9, 4)),
        (TypeError, "must hold token ids.*int16", torch.zeros(4, 3).short(), torch.zeros(9, 4)),
        (TypeError, "must hold token ids.*list", [0, 1], torch.zeros(9, 4)),
        (TypeError, "be a tensor.*Embedding", torch.zeros(4, 3).int(), nn.Embedding(9, 4)),
        (TypeError, "got torch.float64", torch.zeros(4, 3).int(), torch.zeros(9, 4).double()),
        (ValueError, r"\(V, 4\), V > 0, got \(9, 5\)", torch.zeros(4, 3).int(), torch.zeros(9, 5)),
        (ValueError, r"got \(0, 4\)", torch.zeros(4, 3).int(), torch.zeros(0, 4)),
        (ValueError, r"got \(4,\)", torch.zeros(4, 3).int(), torch.zeros(4)),
    ],
)  # fmt: skip
def test_wrong_arguments(error, text, input, embedding):
    with pytest.raises(error, match=text):
        fastrnn.GRU(4, 6)(input, embedding=embedding)


def test_wrong_states_and_steps():
    module, theirs, weight = fastrnn.LSTM(4, 6), nn.LSTM(4, 6), torch.randn(9, 4)
    ids = draw(5, 3, 9)
    for hx in (
        (torch.zeros(1, 2, 6), torch.zeros(1, 2, 6)),
        (torch.zeros(1, 3, 5), torch.zeros(1, 3, 6)),
        torch.zeros(1, 3, 6),
    ):
        for gradients in (True, False):
            with torch.set_grad_enabled(gradients):
                assert error_of(lambda hx=hx: module(ids, hx, embedding=weight)) == error_of(
                    lambda hx=hx: theirs(rows_of(ids, weight), hx)
                )
    with pytest.raises(RuntimeError, match="length to be larger than 0"):
        module(ids[:0])
    assert module(ids[:, :0], embedding=weight)[0].shape == (5, 0, 6)
    with pytest.raises(RuntimeError, match="one dimension more"):
        module(ids, (torch.zeros(1, 6), torch.zeros(1, 6)), embedding=weight)


def test_modules_of_torch_stay_torchs():
    model = fastrnn.accelerate(nn.LSTM(4, 6))
    assert error_of(lambda: model(draw(5, 3, 4))) == error_of(lambda: nn.LSTM(4, 6)(draw(5, 3, 4)))


@pytest.mark.parametrize("mode", MODES)
def test_the_reference_takes_ids(mode):
    class Referenced(build(fastrnn, mode, 1, 1).__class__):  # type: ignore[misc]
        _layer = staticmethod(reference.layer)

    options = {"nonlinearity": mode[4:].lower()} if mode.startswith("RNN") else {}
    module, theirs = Referenced(5, 6, **options), build(nn, mode, 5, 6)
    theirs.load_state_dict(module.state_dict())
    ids = draw(4, 3, 5)
    with OpCalls() as calls:
        compare(module, theirs, ids, None)
        compare(module, theirs, ids, torch.randn(5, 5))
    assert not calls.calls


def test_without_the_extension():
    program = """
        import torch, fastrnn
        torch.manual_seed(0)
        ids, rows = torch.randint(0, 5, (4, 2)), torch.randn(5, 5)
        ours, theirs = fastrnn.LSTM(5, 6), torch.nn.LSTM(5, 6)
        ours.load_state_dict(theirs.state_dict())
        torch.testing.assert_close(ours(ids, embedding=rows)[0], theirs(rows[ids])[0])
        torch.testing.assert_close(ours(ids)[0], theirs(torch.eye(5)[ids])[0])
        lengths = torch.tensor([1, 3])
        torch.testing.assert_close(
            ours(ids, lengths=lengths)[0], ours(torch.eye(5)[ids], lengths=lengths)[0])
        packed = torch.nn.utils.rnn.pack_padded_sequence(ids, lengths, enforce_sorted=False)
        torch.testing.assert_close(ours(packed)[1], ours(ids, lengths=lengths)[1])
        torch.testing.assert_close(fastrnn.ops.embed(ids, rows), rows[ids])
    """
    result = run(NOT_BUILT, program, "-W", "ignore")
    assert result.returncode == 0, result.stderr


def test_explain():
    module, ids = fastrnn.LSTM(5, 6, 2), draw(40, 3, 5)
    first, second = fastrnn.explain(module, ids).layers
    assert "distinct tokens" in str(first.reasons) and "table" not in str(second.reasons)
    with torch.no_grad():
        assert "all 5 tokens is kept" in str(fastrnn.explain(module, ids))
        weight = torch.zeros(500, 5)
        assert "distinct tokens" in str(fastrnn.explain(module, ids, embedding=weight))
    assert fastrnn.explain(nn.LSTM(5, 6), ids).path == "torch"


@pytest.mark.filterwarnings(
    "ignore:.*torch.jit.trace.*is deprecated:DeprecationWarning", "ignore::torch.jit.TracerWarning"
)
def test_a_trace_and_onnx_take_rows_of_an_embedding():
    module, ids = fastrnn.GRU(5, 6).requires_grad_(False), draw(4, 3, 9)
    weight = torch.randn(9, 5)
    traced = torch.jit.trace(lambda ids: module(ids, embedding=weight)[0], ids)
    assert_matches(traced(ids), module(ids, embedding=weight)[0])
    with pytest.raises(ValueError, match=r"torch.eye\(5\)"):
        torch.jit.trace(lambda ids: module(ids)[0], ids.clamp(max=4))
