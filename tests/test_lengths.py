"""Rows of different lengths: `lengths=` and packed sequences, against torch.nn and row by row."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from cases import MODES, build, make_states, pair
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tolerances import assert_matches, distance
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import fastrnn
from fastrnn import _C, reference
from fastrnn import lengths as ragged

STEPS, BATCH = 9, 7
LENGTHS = torch.tensor([4, 9, 1, 0, 6, 6, 2])


def results(call: Any, tensors: list[Tensor], module: Any) -> list[Tensor]:
    """Output, last states, and the gradients of a weighted sum of them by tensors and weights."""
    tensors = [tensor.detach().requires_grad_() for tensor in tensors]
    output, finals = call(*tensors)
    found = [output, *(finals if isinstance(finals, tuple) else (finals,))]
    generator = torch.Generator("cpu").manual_seed(1)
    draw = functools.partial(torch.randn, generator=generator, dtype=torch.float64, device="cpu")
    loss = sum((r * draw(r.shape).to(r)).sum() for r in found)
    by = [*tensors, *module.parameters()]
    gradients = torch.autograd.grad(loss, by, materialize_grads=True)
    return [r.detach() for r in (*found, *gradients)]


def flat(hx: Any) -> list[Tensor]:
    return list(hx) if isinstance(hx, tuple) else [hx]


def hidden(module: Any, states: Any) -> Any:
    return tuple(states) if module.mode == "LSTM" else states[0]


def with_lengths(module: Any, lengths: Tensor, **options: Any) -> Any:
    return lambda input, *states: module(input, hidden(module, states), lengths=lengths, **options)


def row_by_row(module: Any, lengths: Tensor, padding: str = "right") -> Any:
    """What `lengths` means: each row alone, as long as it is, by a module of torch.nn."""

    def call(input: Tensor, *states: Tensor) -> Any:
        x = input.transpose(0, 1) if module.batch_first else input
        outputs, finals = [], []
        for b, n in enumerate(lengths.tolist()):
            first = len(x) - n if padding == "left" else 0
            last = [state[:, b : b + 1] for state in states]
            width = (module.proj_size or module.hidden_size) * (1 + module.bidirectional)
            output = x.new_zeros(0, width)
            if n > 0:
                row = x[first : first + n, b : b + 1]
                row = row.transpose(0, 1) if module.batch_first else row
                output, h = module(row, hidden(module, last))
                output, last = output.reshape(n, -1), flat(h)
            behind = len(x) - first - n
            outputs.append(nn.functional.pad(output, (0, 0, first, behind)))
            finals.append(last)
        stacked = torch.stack(outputs, 0 if module.batch_first else 1)
        return stacked, tuple(torch.cat(s, 1) for s in zip(*finals, strict=True))

    return call


# One setting of the device is as good for all examples as a new one for each.
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_each_row_is_computed_as_if_it_were_alone(device, data):
    torch.manual_seed(0)
    draw = data.draw
    ours, theirs = pair(
        draw(st.sampled_from(MODES)),
        draw(st.integers(1, 9)),
        draw(st.integers(1, 20)),
        draw(st.integers(1, 2)),
        bias=draw(st.booleans()),
        batch_first=draw(st.booleans()),
        bidirectional=draw(st.booleans()),
    )
    ours, theirs = ours.double(), theirs.double()
    steps, batch = draw(st.integers(1, 12)), draw(st.integers(1, 14))
    lengths = torch.tensor(draw(st.lists(st.integers(0, steps), min_size=batch, max_size=batch)))
    padding = draw(st.sampled_from(ragged.PADDINGS))
    shape = (batch, steps) if ours.batch_first else (steps, batch)
    tensors = [torch.randn(*shape, ours.input_size).double(), *flat(make_states(theirs, batch))]
    torch.set_num_threads(draw(st.integers(1, 3)))
    expected = results(row_by_row(theirs, lengths, padding), tensors, theirs)
    actual = results(with_lengths(ours, lengths, padding=padding), tensors, ours)
    assert_matches(actual, expected, 1e-9)
    with torch.no_grad():
        output, finals = with_lengths(ours, lengths, padding=padding)(*tensors)
    assert_matches([output, *flat(finals)], expected[: 1 + len(flat(finals))], 1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [(8, 6), (40, 33), (5, 64)])
@pytest.mark.parametrize("mode", MODES)
def test_dtypes_and_instruction_sets(mode, size, dtype, isa, device):
    ours, theirs = pair(mode, *size, bidirectional=True)
    ours, theirs = ours.to(dtype), theirs.double()
    theirs.load_state_dict(ours.state_dict())
    tensors = [torch.randn(STEPS, BATCH, size[0]), *flat(make_states(theirs.float(), BATCH))]
    tensors = [tensor.to(dtype) for tensor in tensors]
    exact, exact_tensors = theirs.double(), [t.double() for t in tensors]
    if mode == "RNN_RELU" and dtype is torch.bfloat16 and _C.multiplies_bfloat16():
        # Where states are rounded, sums may cross the kink: compared with rows rounded alike.
        exact, exact_tensors = ours, tensors
    expected = results(row_by_row(exact, LENGTHS), exact_tensors, exact)
    actual = results(with_lengths(ours, LENGTHS), tensors, ours)
    allowed = {torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 3e-2}[dtype]
    assert_matches(actual, expected, allowed)


@pytest.mark.parametrize("enforce_sorted", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("mode", MODES)
def test_packed_sequence_equals_torch(
    mode, num_layers, batch_first, enforce_sorted, monkeypatch, device
):
    ours, theirs = pair(mode, 5, 6, num_layers, batch_first=batch_first, bidirectional=True)
    monkeypatch.setattr(type(ours)._stock, "forward", None)  # ours must do without
    lengths = LENGTHS[LENGTHS > 0]
    lengths = lengths.sort(descending=True).values if enforce_sorted else lengths
    packed = pack_padded_sequence(
        torch.randn(STEPS, len(lengths), 5), lengths, enforce_sorted=enforce_sorted
    )
    tensors = [packed.data, *flat(make_states(theirs, len(lengths)))]

    def call(module: Any) -> Any:
        def run(data: Tensor, *states: Tensor) -> Any:
            output, finals = module(packed._replace(data=data), hidden(module, states))
            assert isinstance(output, PackedSequence)
            assert output[1:] == packed[1:]
            return output.data, finals

        return run

    actual = results(call(ours), tensors, ours)
    with torch.no_grad():
        at_once = ours(packed, hidden(ours, tensors[1:]))
        without_states = ours(packed)
    monkeypatch.undo()
    assert_matches(actual, results(call(theirs), tensors, theirs))
    assert_matches([at_once[0].data, *flat(at_once[1])], actual[: 1 + len(flat(at_once[1]))])
    expected = theirs(packed)
    assert_matches(without_states[0].data, expected[0].data.detach())


def test_lengths_equal_a_packed_sequence_bit_for_bit(device):
    module = fastrnn.LSTM(5, 6, 2, bidirectional=True)
    input, lengths = torch.randn(STEPS, BATCH, 5), LENGTHS.clamp(1)
    output, finals = module(input, lengths=lengths)
    packed, packed_finals = module(pack_padded_sequence(input, lengths, enforce_sorted=False))
    assert torch.equal(output, pad_packed_sequence(packed, total_length=STEPS)[0])
    assert all(map(torch.equal, finals, packed_finals))


@pytest.mark.parametrize(("inputs", "size"), [(16, 40), (12_000, 8)])
@pytest.mark.parametrize("mode", MODES)
def test_bits_depend_on_neither_threads_nor_the_rest_of_the_batch(mode, inputs, size):
    module = build(fastrnn, mode, inputs, size, bidirectional=True)
    input, lengths = torch.randn(30, 50, inputs), torch.randint(0, 31, (50,))
    output, finals = module(input, lengths=lengths)
    torch.set_num_threads(2)
    assert torch.equal(module(input, lengths=lengths)[0], output)
    torch.set_num_threads(1)
    some = torch.arange(50) % 3 > 0
    subset, subset_finals = module(input[:, some], lengths=lengths[some])
    assert torch.equal(subset, output[:, some])
    for ours, of_all in zip(flat(subset_finals), flat(finals), strict=True):
        assert torch.equal(ours, of_all[:, some])


@pytest.mark.parametrize("mode", MODES)
def test_threads_that_share_the_units_of_few_rows(mode):
    module = build(fastrnn, mode, 16, 600, bidirectional=True)
    input, lengths = torch.randn(9, 5, 16, requires_grad=True), torch.tensor([3, 9, 0, 5, 1])

    def run(threads):
        torch.set_num_threads(threads)
        output, finals = module(input, lengths=lengths)
        leaves = [input, *module.parameters()]
        return [output, *flat(finals), *torch.autograd.grad(output.square().sum(), leaves)]

    assert all(map(torch.equal, run(1), run(2)))


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("padding", ragged.PADDINGS)
@pytest.mark.parametrize("mode", MODES)
def test_what_is_beside_the_rows_does_not_matter(mode, padding, kernels, monkeypatch, device):
    module = build(fastrnn, mode, 5, 6, 2)
    if not kernels:
        monkeypatch.setattr(type(module), "_layer", staticmethod(reference.layer))
    valid = ragged.valid(LENGTHS, padding, STEPS)
    input = torch.randn(STEPS, BATCH, 5)
    input[~valid] = float("nan")
    input.requires_grad_()
    output, finals = module(input, lengths=LENGTHS, padding=padding)
    assert output[~valid].count_nonzero() == 0
    (output.sum() + sum(f.sum() for f in flat(finals))).backward()
    assert input.grad[~valid].count_nonzero() == 0
    assert input.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in module.parameters())


@pytest.mark.parametrize("mode", MODES)
def test_no_row_has_a_step(mode, device):
    module = build(fastrnn, mode, 5, 6, 2, bidirectional=True)
    input, hx = torch.randn(3, 2, 5, requires_grad=True), make_states(module, 2)
    lengths = torch.zeros(2, dtype=torch.int64)
    output, finals = module(input, hx, lengths=lengths)
    assert output.count_nonzero() == 0
    assert all(map(torch.equal, flat(finals), flat(hx)))
    output.sum().backward()
    assert input.grad.count_nonzero() == 0
    assert all(p.grad.count_nonzero() == 0 for p in module.parameters())
    empty, _ = module(torch.randn(3, 0, 5), lengths=lengths[:0])
    assert empty.shape == (3, 0, 12)


def test_work_follows_the_lengths(monkeypatch, device):
    rows = []
    original = fastrnn.ops.layer

    def layer(mode: str, input: Tensor, *args: Any, **kwargs: Any) -> Any:
        rows.append(input.shape[0])
        return original(mode, input, *args, **kwargs)

    monkeypatch.setattr(fastrnn.ops, "layer", layer)
    monkeypatch.setattr(fastrnn.GRU, "_layer", staticmethod(layer))
    fastrnn.GRU(5, 6, 2)(torch.randn(STEPS, BATCH, 5), lengths=LENGTHS)
    assert rows == [int(LENGTHS.sum())] * 2


def test_dropout_between_layers_is_that_of_a_packed_sequence(device):
    module = fastrnn.GRU(5, 6, 2, dropout=0.5)
    input, lengths = torch.randn(STEPS, BATCH, 5), LENGTHS.clamp(1)
    torch.manual_seed(3)
    output, _ = module(input, lengths=lengths)
    torch.manual_seed(3)
    packed, _ = module(pack_padded_sequence(input, lengths, enforce_sorted=False))
    assert torch.equal(output, pad_packed_sequence(packed, total_length=STEPS)[0])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_any_integers_will_do(dtype, device):
    module, input = fastrnn.RNN(5, 6), torch.randn(STEPS, BATCH, 5)
    expected, _ = module(input, lengths=LENGTHS)
    actual, _ = module(input, lengths=LENGTHS.to(dtype).repeat_interleave(2)[::2])
    assert torch.equal(actual, expected)


WRONG = {
    "a list": ([1, 2], TypeError, "tensor of integers, got list"),
    "fractions": (torch.ones(2), TypeError, "got dtype torch.float32"),
    "booleans": (torch.ones(2).bool(), TypeError, "got dtype torch.bool"),
    "too few": (torch.ones(1).int(), ValueError, r"each of the 2 rows of input, shape \(2,\)"),
    "a matrix": (torch.ones(2, 1).int(), ValueError, r"got \(2, 1\)"),
    "negative": (torch.tensor([2, -1]), ValueError, "0 to the 3 steps of input, got -1 for row 1"),
    "too long": (torch.tensor([4, 1]), ValueError, "got 4 for row 0"),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("batch_first", [False, True])
def test_wrong_lengths_are_named(wrong, batch_first):
    lengths, error, text = WRONG[wrong]
    module = fastrnn.LSTM(5, 6, batch_first=batch_first)
    input = torch.randn(2, 3, 5) if batch_first else torch.randn(3, 2, 5)
    with pytest.raises(error, match=text):
        module(input, lengths=lengths)


def test_wrong_calls_are_named():
    module, lengths = fastrnn.LSTM(5, 6), torch.tensor([1, 1])
    with pytest.raises(ValueError, match="padding must be 'right' or 'left', got 'top'"):
        module(torch.randn(3, 2, 5), lengths=lengths, padding="top")
    with pytest.raises(ValueError, match="three dimensions, got 2"):
        module(torch.randn(3, 5), lengths=lengths)
    packed = pack_padded_sequence(torch.randn(3, 2, 5), lengths)
    with pytest.raises(ValueError, match="three dimensions, got PackedSequence"):
        module(packed, lengths=lengths)
    with pytest.raises(RuntimeError, match="Expected sequence length to be larger than 0 in RNN"):
        module(torch.randn(0, 2, 5), lengths=torch.zeros(2).int())


@pytest.mark.parametrize("mode", MODES)
def test_second_derivatives(mode):
    module = build(fastrnn, mode, 3, 4, bidirectional=True).double()
    lengths = torch.tensor([3, 0, 1])
    tensors = [torch.randn(3, 3, 3).double(), *flat(make_states(module, 3))]
    call = with_lengths(module, lengths)

    def function(*tensors: Tensor) -> Any:
        output, finals = call(*tensors)
        return output, *flat(finals)

    inputs = [tensor.requires_grad_() for tensor in tensors]
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


def test_function_transforms():
    module = fastrnn.GRU(5, 6).double()
    parameters = dict(module.named_parameters())
    input = torch.randn(BATCH, STEPS, 1, 5).double()

    def loss(parameters: Any, x: Tensor, length: Tensor) -> Tensor:
        output, h_n = torch.func.functional_call(
            module, parameters, (x,), {"lengths": length.reshape(1)}
        )
        return (output.square().sum() + h_n.sum()).tanh()

    each = torch.func.vmap(torch.func.grad(loss), (None, 0, 0))(parameters, input, LENGTHS)
    for b in range(BATCH):
        alone = torch.autograd.grad(loss(parameters, input[b], LENGTHS[b]), parameters.values())
        for gradient, expected in zip(each.values(), alone, strict=True):
            assert distance(gradient[b], expected) < 1e-10


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_compiles_to_one_graph():
    module = fastrnn.LSTM(5, 6, 2, bidirectional=True)
    compiled = torch.compile(lambda x, n: module(x, lengths=n), fullgraph=True, backend="aot_eager")
    for lengths in (LENGTHS, LENGTHS.flip(0)):
        input = torch.randn(STEPS, BATCH, 5)
        expected, _ = module(input, lengths=lengths)
        actual, _ = compiled(input, lengths)
        assert_matches(actual.detach(), expected.detach())
        grads = torch.autograd.grad(actual.square().sum(), module.parameters())
        assert_matches(grads, torch.autograd.grad(expected.square().sum(), module.parameters()))


# torch says once that it has no fast path for projections.
@pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")
@pytest.mark.parametrize("padding", ragged.PADDINGS)
def test_projections(padding, device):
    ours, theirs = pair("LSTM", 5, 6, 2, proj_size=3, bidirectional=True)
    tensors = [torch.randn(STEPS, BATCH, 5), *flat(make_states(theirs, BATCH))]
    assert_matches(
        results(with_lengths(ours, LENGTHS, padding=padding), tensors, ours),
        results(row_by_row(theirs, LENGTHS, padding), tensors, theirs),
    )
