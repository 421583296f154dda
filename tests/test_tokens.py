"""Token ids in place of input: against the vectors they stand for, in float64 and in torch.nn."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases import LAYOUTS, MODES, OpCalls, build, evaluate, make_states, pair
from test_errors import error_of
from test_fallback import NOT_BUILT, run
from tolerances import assert_matches
from torch import Tensor, nn
from torch.nn.functional import embedding as rows_of
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import fastrnn
from fastrnn import ops, reference

# T, B, V, I, H: fewer tokens than places and more, single steps and rows, sizes of no vector.
SHAPES = [
    (7, 5, 6, 3, 8),
    (5, 3, 40, 9, 13),
    (1, 4, 9, 5, 8),
    (6, 1, 20, 4, 33),
    (9, 20, 50, 17, 8),
]


def draw(steps: int, batch: int, vocabulary: int, dtype: torch.dtype = torch.int64) -> Tensor:
    return torch.randint(0, vocabulary, (steps, batch)).to(dtype)


def with_ids(module: Any, ids: Tensor, weight: Tensor | None, **options: Any) -> Any:
    """A call for `evaluate`, whose input is the embedding; nothing where there is none."""

    def call(module: Any, input: Tensor, *hx: Any) -> Any:
        return module(ids, *hx, embedding=None if weight is None else input, **options)

    return call


def with_vectors(ids: Tensor, one_hot: int = 0) -> Any:
    """The same for a module that takes the vectors that ids stand for."""

    def call(module: Any, input: Tensor, *hx: Any) -> Any:
        if one_hot:
            return module(nn.functional.one_hot(ids.long(), one_hot).to(input.dtype), *hx)
        return module(rows_of(ids, input), *hx)

    return call


def compare(ours: Any, theirs: Any, ids: Tensor, weight: Tensor | None, hx: Any = None) -> Any:
    """Results and gradients by everything; those without gradients have the same bits."""
    dtype = theirs.weight_ih_l0.dtype
    wide = (
        None
        if hx is None
        else hx.to(dtype)
        if isinstance(hx, Tensor)
        else [*map(dtype_to(dtype), hx)]
    )
    frozen = {"input"} if weight is None else set()
    given = torch.zeros(1, dtype=ours.weight_ih_l0.dtype) if weight is None else weight
    one_hot = ours.input_size if weight is None else 0
    actual = evaluate(ours, given, hx, frozen=frozen, call=with_ids(ours, ids, weight))
    expected = evaluate(
        theirs, given.to(dtype), wide, frozen=frozen, call=with_vectors(ids, one_hot)
    )
    assert_matches(actual, expected)
    with torch.no_grad():
        output, finals = ours(ids, hx, embedding=weight)
    finals = list(finals) if isinstance(finals, tuple) else [finals]
    assert_matches([output, *finals], list(actual[0]), fraction=0)
    return actual


def dtype_to(dtype: torch.dtype) -> Any:
    return lambda tensor: tensor.to(dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("mode", MODES)
def test_equal_to_torch(mode, layout, isa):
    options = LAYOUTS[layout]
    ours, theirs = pair(mode, 6, 9, **options)
    ids = draw(7, 4, 11)
    batch = 7 if options.get("batch_first") else 4
    with OpCalls() as calls:
        compare(ours, theirs, ids, torch.randn(11, 6), make_states(ours, batch))
    assert "_embed" not in calls.names() and "_layer_backward" in calls.names()
    compare(ours, theirs, draw(7, 4, 6, torch.int32), None)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("mode", MODES)
def test_sizes_and_dtypes_against_float64(mode, dtype, shape, isa):
    steps, batch, vocabulary, inputs, hidden = shape
    ours, theirs = pair(mode, inputs, hidden)
    ours, theirs = ours.to(dtype), theirs.double()
    theirs.load_state_dict(ours.state_dict())
    compare(ours, theirs, draw(steps, batch, vocabulary), torch.randn(vocabulary, inputs).to(dtype))
    ours, theirs = pair(mode, vocabulary, hidden)
    ours, theirs = ours.to(dtype), theirs.double()
    theirs.load_state_dict(ours.state_dict())
    compare(ours, theirs, draw(steps, batch, vocabulary), None)


@pytest.mark.parametrize("mode", MODES)
def test_bits_of_vectors_and_of_any_number_of_threads(mode):
    module = build(fastrnn, mode, 30, 64, bidirectional=True)
    ids, weight = draw(40, 32, 200), torch.randn(200, 30)
    hot = build(fastrnn, mode, 200, 64)
    seen, seen_hot = [], []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        seen.append(evaluate(module, weight, call=with_ids(module, ids, weight)))
        seen_hot.append(evaluate(hot, weight, frozen={"input"}, call=with_ids(hot, ids, None)))
    assert_matches(seen_hot[1], seen_hot[0], fraction=0)
    assert_matches(seen[1], seen[0], fraction=0)
    # With as many steps backward goes in more than one chunk.
    assert_matches(seen[0], evaluate(module, weight, call=with_vectors(ids)))
    assert_matches(module(rows_of(ids, weight))[0], seen[0][0][0], fraction=0)
    # Nor does it matter in which rows tokens stand beside each other.
    order = torch.randperm(32)
    output, _ = module(ids[:, order], embedding=weight)
    assert_matches(output, seen[0][0][0][:, order], fraction=0)


@pytest.mark.parametrize("mode", MODES)
def test_repeated_and_rare_tokens(mode):
    ours, theirs = pair(mode, 5, 8)
    theirs = theirs.double()
    many = torch.zeros(300, 9, dtype=torch.int64)  # one token, summed in more than one block
    many[150, 3] = 399
    _, gradients = compare(ours, theirs, many, torch.randn(400, 5))
    by_embedding = gradients["input"]
    assert by_embedding[1:399].count_nonzero() == 0
    assert by_embedding[0].count_nonzero() == 5 and by_embedding[399].count_nonzero() == 5


@pytest.mark.parametrize("padding", ["right", "left"])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_lengths(mode, batch_first, padding):
    module = build(fastrnn, mode, 4, 6, 2, bidirectional=True, batch_first=batch_first)
    lengths, weight = torch.tensor([3, 0, 5, 1]), torch.randn(9, 4)
    ids = draw(5, 4, 9)
    for b, length in enumerate(lengths.tolist()):  # what is beside the rows is not looked at
        (ids[length:] if padding == "right" else ids[: 5 - length])[:, b] = 77
    ids = ids.t() if batch_first else ids
    options = {"lengths": lengths, "padding": padding}
    actual = evaluate(module, weight, call=with_ids(module, ids, weight, **options))
    vectors = evaluate(
        module, weight, call=lambda m, w, *hx: m(rows_of(ids.clamp(max=8), w), *hx, **options)
    )
    assert_matches(actual, vectors)
    with torch.no_grad():
        assert_matches(module(ids, embedding=weight, **options)[0], actual[0][0], fraction=0)
        assert module(ids, embedding=weight, output=False, **options)[0] is None
        hot = build(fastrnn, mode, 9, 6, batch_first=batch_first)
        one_hot = nn.functional.one_hot(ids.clamp(max=8), 9).float()
        assert_matches(hot(ids, **options), hot(one_hot, **options))


@pytest.mark.parametrize("mode", MODES)
def test_packed_sequences_and_single_rows(mode):
    ours, theirs = pair(mode, 4, 6)
    ids, weight, lengths = draw(5, 3, 9), torch.randn(9, 4), torch.tensor([2, 5, 1])
    packed = pack_padded_sequence(ids, lengths, enforce_sorted=False)
    floats = packed._replace(data=rows_of(packed.data, weight))
    for gradients in (True, False):
        with torch.set_grad_enabled(gradients):
            output, finals = ours(packed, embedding=weight)
            assert isinstance(output, PackedSequence)
            expected, expected_finals = theirs(floats)
            assert_matches(pad_packed_sequence(output)[0], pad_packed_sequence(expected)[0])
            assert_matches(finals, expected_finals)
            hx = make_states(ours, None)
            assert_matches(
                ours(ids[:, 0], hx, embedding=weight), theirs(rows_of(ids[:, 0], weight), hx)
            )
    hot, dense = pair(mode, 9, 6)
    one_hot = nn.functional.one_hot(packed.data, 9).float()
    assert_matches(hot(packed)[1], dense(packed._replace(data=one_hot))[1])


# torch says once that it has no fast path for projections.
@pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_projections(dtype):
    ours, theirs = pair("LSTM", 5, 12, 2, proj_size=7, bidirectional=True)
    ours, theirs = ours.to(dtype), theirs.double()
    theirs.load_state_dict(ours.state_dict())
    compare(ours, theirs, draw(6, 4, 9), torch.randn(9, 5).to(dtype), None)


@pytest.mark.parametrize("one_hot", [False, True])
def test_changes_in_place_are_seen(one_hot):
    """The kept table is known by the bytes that it was made of."""
    module, weight = fastrnn.GRU(6, 8), torch.randn(6, 6)
    ids, given = draw(9, 4, 6), None if one_hot else weight
    with torch.no_grad():
        module(ids, embedding=given)
        for change in (
            weight,
            module.weight_ih_l0.data,
            module.weight_hh_l0.data,
            module.bias_ih_l0.data,
        ):
            change[0] += 0.5
            vectors = nn.functional.one_hot(ids, 6).float() if one_hot else rows_of(ids, weight)
            assert_matches(module(ids, embedding=given), module(vectors))


@pytest.mark.parametrize("mode", MODES)
def test_only_what_is_wanted_is_computed(mode):
    module, weight = build(fastrnn, mode, 5, 6), torch.randn(7, 5)
    ids = draw(4, 3, 7)
    wanted = []
    for train_weights, train_rows in ((True, True), (True, False), (False, True)):
        module.requires_grad_(train_weights)
        with OpCalls() as calls:
            module(ids, embedding=weight.requires_grad_(train_rows))[0].sum().backward()
        wanted += [args[12] for name, args in calls.calls if name == "_layer_backward"]
    weights = 0b1111000
    assert wanted == [weights | 1 << 8, weights, 1 << 8]


@pytest.mark.parametrize("mode", MODES)
def test_derivatives(mode):
    module = build(fastrnn, mode, 3, 4, bidirectional=True).double()
    ids, lengths = draw(3, 3, 5), torch.tensor([3, 0, 2])
    weight = torch.randn(5, 3).double().requires_grad_()
    hot = build(fastrnn, mode, 5, 4).double()

    def with_embedding(weight: Tensor, *_: Tensor) -> Tensor:
        return module(ids, embedding=weight)[0]

    def of_lengths(weight: Tensor) -> Tensor:
        return module(ids, embedding=weight, lengths=lengths)[0]

    def of_weights(weight_ih: Tensor) -> Any:
        return torch.func.functional_call(hot, {"weight_ih_l0": weight_ih}, (ids,))[0]

    for function, by in (
        (with_embedding, weight),
        (of_lengths, weight),
        (of_weights, hot.weight_ih_l0.detach().clone().requires_grad_()),
    ):
        assert torch.autograd.gradcheck(function, (by,))
        assert torch.autograd.gradgradcheck(function, (by,))


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
