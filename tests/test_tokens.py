"""Token ids in place of input: against the vectors they stand for, in float64 and in torch.nn."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases import LAYOUTS, MODES, OpCalls, build, evaluate, make_states, pair
from token_cases import SHAPES, compare, draw, with_ids, with_vectors
from tolerances import assert_matches
from torch import Tensor, nn
from torch.nn.functional import embedding as rows_of
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import fastrnn


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
