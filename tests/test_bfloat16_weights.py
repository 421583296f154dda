"""Hidden weights that a single row reads as bfloat16: rounded where float32, else exact."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from cases import GATES, MODES, build
from tolerances import assert_matches

import fastrnn
from fastrnn import _C, ops

LAYOUTS = [{}, {"num_layers": 2, "bidirectional": True, "batch_first": True}, {"bias": False}]
# Weights beyond the first-level cache, a whole number of panels and not.
HIDDEN = [128, 125]


@pytest.fixture
def medium() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    yield
    torch.set_float32_matmul_precision(before)


def infer(module: Any, input: Any, hx: Any = None) -> Any:
    with torch.no_grad():
        return module(input, hx)


def rounded(module: Any) -> Any:
    """A float64 module of the same weights, the hidden ones rounded to bfloat16."""
    names = ("num_layers", "bidirectional", "batch_first", "bias")
    layout = {name: getattr(module, name) for name in names}
    result = build(fastrnn, module.mode, module.input_size, module.hidden_size, **layout).double()
    result.load_state_dict(
        {
            name: value.bfloat16().double() if "weight_hh" in name else value.double()
            for name, value in module.state_dict().items()
        }
    )
    return result


def plan(mode: str, hidden: int, bfloat16_weights: bool = True, **change: Any) -> bool:
    sizes = {"T": 9, "B": 1, "I": 5, "H": hidden, "element_bytes": 4} | _C.machine() | change
    code = MODES.index(mode)
    return bool(_C.plan(code, **sizes, bfloat16_weights=bfloat16_weights)["bfloat16_weights"])


@pytest.mark.parametrize("steps", [9, 50])
@pytest.mark.parametrize("hidden", HIDDEN)
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("mode", MODES)
def test_only_the_hidden_weights_are_rounded(mode, layout, hidden, steps, isa, medium):
    module = build(fastrnn, mode, 7, hidden, **layout)
    input = torch.randn((1, steps, 7) if module.batch_first else (steps, 1, 7))
    found = infer(module, input)
    assert_matches(found, infer(rounded(module), input.double()))
    assert plan(mode, hidden)
    assert not torch.equal(found[0], module(input)[0])


@pytest.mark.parametrize("mode", MODES)
def test_one_layer_of_an_unbatched_input(mode, medium):
    """The path of `ops.layer`, and states that are not zero."""
    module, input, hx = build(fastrnn, mode, 7, 128), torch.randn(9, 7), torch.randn(1, 128)
    states, wide = ((hx, 2 * hx), (hx.double(), 2 * hx.double())) if mode == "LSTM" else (hx, hx)
    found = infer(module, input, states)
    exact = infer(rounded(module), input.double(), wide if mode == "LSTM" else hx.double())
    assert_matches(found, exact)


@pytest.mark.parametrize("mode", MODES)
def test_no_other_call_is_rounded(mode, isa, medium):
    module = build(fastrnn, mode, 7, 128)
    small = build(fastrnn, mode, 7, 40)
    wide = build(fastrnn, mode, 7, 128).double()
    calls = [
        lambda: module(torch.ones(9, 1, 7)),  # with gradients
        lambda: infer(module, torch.ones(9, 2, 7)),
        lambda: infer(module, torch.ones(1, 1, 7)),
        lambda: infer(small, torch.ones(9, 1, 7)),
        lambda: infer(wide, torch.ones(9, 1, 7).double()),
    ]
    found = [call() for call in calls]
    torch.set_float32_matmul_precision("high")
    assert_matches(found, [call() for call in calls], 0.0)


@pytest.mark.parametrize("mode", MODES)
def test_both_packings_are_kept_apart(mode):
    module, input = build(fastrnn, mode, 7, 128), torch.randn(9, 1, 7)
    results = {}
    for precision in ("highest", "medium", "high", "medium"):
        torch.set_float32_matmul_precision(precision)
        try:
            results.setdefault(precision, infer(module, input)[0])
            assert torch.equal(infer(module, input)[0], results[precision])
        finally:
            torch.set_float32_matmul_precision("highest")
    assert torch.equal(results["highest"], results["high"])
    assert not torch.equal(results["highest"], results["medium"])


@pytest.mark.parametrize("mode", MODES)
def test_threads_do_not_change_the_bits(mode, isa, medium):
    module, input = build(fastrnn, mode, 64, 260, bidirectional=True), torch.randn(30, 1, 64)
    once = infer(module, input)
    for threads in (2, 3):
        torch.set_num_threads(threads)
        assert_matches(infer(module, input), once, 0.0)


@pytest.mark.parametrize("mode", MODES)
def test_models_of_bfloat16_have_the_bits_of_their_batches(mode, isa):
    module, input = build(fastrnn, mode, 7, 128).bfloat16(), torch.randn(9, 2, 7).bfloat16()
    assert plan(mode, 128)
    assert torch.equal(infer(module, input[:, :1])[0], infer(module, input)[0][:, :1])
    assert torch.equal(module(input[:, :1])[0], module(input)[0][:, :1])


@pytest.mark.parametrize("mode", MODES)
def test_special_numbers_keep_their_kind(mode, isa, medium):
    """The largest float32 rounds to infinity, as in torch; zero times it is not a number."""
    module, input = build(fastrnn, mode, 7, 128), torch.randn(2, 1, 7)
    with torch.no_grad():
        for value in (torch.nan, torch.inf, torch.finfo(torch.float32).max):
            module.weight_hh_l0[3, 5] = value
            found, exact = infer(module, input)[0], infer(rounded(module), input.double())[0]
            assert torch.equal(found.isnan(), exact.isnan())
            assert torch.equal(found.isinf(), exact.isinf())


@pytest.mark.parametrize("mode", MODES)
def test_the_plan_rounds_where_weights_are_many_and_rows_one(mode):
    assert plan(mode, 512)
    assert not plan(mode, 512, bfloat16_weights=False)
    for change in ({"B": 2}, {"B": 0}, {"T": 1}):
        assert not plan(mode, 512, **change)
    for hidden in range(1, 200):
        few = GATES[mode] * hidden**2 <= ops._FEW_WEIGHTS
        for vector_bytes in (16, 32, 64):
            assert not (few and plan(mode, hidden, vector_bytes=vector_bytes))


def test_explain_tells(medium):
    module, input = fastrnn.LSTM(128, 128), torch.randn(100, 1, 128)
    assert "bfloat16" not in str(fastrnn.explain(module, input))
    with torch.no_grad():
        assert "read as bfloat16, rounded" in str(fastrnn.explain(module, input))
        assert "bfloat16" not in str(fastrnn.explain(module, input.expand(-1, 2, -1)))
        torch.set_float32_matmul_precision("high")
        assert "bfloat16" not in str(fastrnn.explain(module, input))
    exact = fastrnn.explain(module.bfloat16(), input.bfloat16())
    of_pairs = "products are of bfloat16"  # where all weights are
    assert (of_pairs if _C.multiplies_bfloat16() else "read as bfloat16: half") in str(exact)


def test_the_setting_of_the_backend_alone_counts_too():
    """torch.get_float32_matmul_precision raises then."""
    assert not ops.rounds_products()
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"  # type: ignore[attr-defined]
    try:
        assert ops.rounds_products()
    finally:
        torch.set_float32_matmul_precision("highest")
    assert not ops.rounds_products()


def test_compiled_in_one_graph_with_the_setting_of_the_trace(medium):
    torch.compiler.reset()
    module, input = fastrnn.GRU(7, 128), torch.randn(9, 1, 7)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    assert_matches(infer(compiled, input), infer(module, input), 0.0)
    torch.set_float32_matmul_precision("highest")
    torch.compiler.reset()
    assert_matches(infer(compiled, input), infer(module, input), 0.0)


@pytest.mark.parametrize("mode", MODES)
def test_opcheck(mode):
    module, input = build(fastrnn, mode, 7, 128), torch.randn(9, 1, 7)
    weights = [weight.detach() for weight in module._flat_weights]
    code = MODES.index(mode)
    torch.library.opcheck(
        torch.ops.fastrnn._inference.default, (input, [], weights, code, 1, False, False, True)
    )
    hx = torch.zeros(1, 128)
    torch.library.opcheck(
        torch.ops.fastrnn._layer_forward.default,
        (input, hx, hx if mode == "LSTM" else None, *weights, code, False, False, True),
    )
