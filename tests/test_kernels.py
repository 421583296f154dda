"""The kernels below the modules: vector functions, the plan, refusals, and what the linker sees."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tanh_table
import torch

from fastrnn import _C
from fastrnn.reference import MODES

FUNCTIONS = {"sigmoid": lambda x: 1 / (1 + np.exp(-x)), "tanh": np.tanh}
DTYPES = [np.float32, np.float64]


def samples(dtype):
    """Dense where the functions bend, and every magnitude whose result is a normal number."""
    rng = np.random.default_rng(0)
    edge = {np.float32: 87.0, np.float64: 700.0}[dtype]
    tiny = rng.choice([-1, 1], 200_000) * np.exp(rng.uniform(-80, 3, 200_000))
    return np.concatenate(
        [rng.uniform(-12, 12, 400_001), rng.uniform(-edge, edge, 200_000), tiny]
    ).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_activations_are_within_two_ulp(name, dtype, isa):
    x = samples(dtype)
    exact = FUNCTIONS[name](x.astype(np.longdouble))  # 11 bits more than float64
    ulp = np.spacing(np.abs(exact.astype(dtype))).astype(np.longdouble)
    error = np.abs(_C.activation(name, x) - exact) / ulp
    worst = error.argmax()
    assert error[worst] <= 2, f"{name}({x[worst]!r})"


def test_the_table_of_tanh_is_in_step():
    # Machines differ in the last bits of tanh in float64, and so may a rounding of a coefficient.
    shown, wanted = (
        np.array([float(number) for number in re.findall(r"([-+.e\d]+)f\b", text)])
        for text in (tanh_table.split()[1], tanh_table.text())
    )
    np.testing.assert_allclose(
        shown, wanted, rtol=1e-6, atol=1e-9, err_msg="run: python -m tests.tanh_table"
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_activations_at_the_edges(dtype, isa):
    tiny = np.finfo(dtype).smallest_subnormal
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, tiny, -tiny, 1e30, -1e30], dtype)
    tanh, sigmoid = _C.activation("tanh", x), _C.activation("sigmoid", x)
    np.testing.assert_array_equal(tanh, np.tanh(x))
    np.testing.assert_array_equal(np.signbit(tanh[1:]), np.signbit(x[1:]))
    np.testing.assert_array_equal(
        sigmoid, np.array([np.nan, 1, 0, 0.5, 0.5, 0.5, 0.5, 1, 0], dtype)
    )


def test_peak_counts_operations_that_were_done(isa):
    # Dropped sums would seem to take no time: no core does a thousand operations in a nanosecond.
    assert 1e8 < _C.fma_rate() < 1e12


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_tail_equals_the_same_elements_in_whole_vectors(name, dtype, isa):
    x = np.linspace(-3, 3, 64, dtype=dtype)
    whole = _C.activation(name, x)
    for n in range(1, 40):
        np.testing.assert_array_equal(_C.activation(name, x[:n].copy()), whole[:n])


def test_an_unknown_activation_is_refused():
    with pytest.raises(ValueError, match="'sigmoid' or 'tanh', got 'relu'"):
        _C.activation("relu", np.zeros(3, np.float32))


@pytest.mark.parametrize("mode", MODES)
def test_not_a_number_stays_in_its_row(mode, isa):
    batch, hidden, gates = 13, 20, {"LSTM": 4, "GRU": 3}.get(mode, 1)
    input = torch.randn(4, batch, 5)
    input[1, 7, 2] = torch.nan
    hx = torch.zeros(batch, hidden)
    cx = hx if mode == "LSTM" else None
    weights = torch.randn(gates * hidden, 5), torch.randn(gates * hidden, hidden)
    output, *_ = torch.ops.fastrnn._layer_forward(
        input, hx, cx, *weights, None, None, MODES.index(mode), False, False
    )
    assert output[1:, 7].isnan().all()
    assert output[:1].isfinite().all()
    assert output[:, torch.arange(batch) != 7].isfinite().all()


def plan(mode="LSTM", element_bytes=4, vector_bytes=64, l2_bytes=1 << 20, threads=1, **sizes):
    sizes = {"T": 100, "B": 64, "I": 16, "H": 64} | sizes
    machine = {"vector_bytes": vector_bytes, "l2_bytes": l2_bytes, "threads": threads}
    return _C.plan(MODES.index(mode), element_bytes=element_bytes, **sizes, **machine)


def test_plan_keeps_weights_in_cache_while_they_fit():
    fits, too_large = plan(H=128, I=100), plan(H=512, I=256)
    assert fits["row_block"] < 64 <= too_large["row_block"]
    assert plan(H=128, I=100, l2_bytes=256 << 10)["row_block"] == 64


def test_plan_fills_vectors():
    assert [plan("RNN_TANH", H=H)["vectors_per_gate"] for H in (5, 16, 17, 33)] == [1, 1, 2, 4]
    assert plan("LSTM", H=512)["vectors_per_gate"] == 1
    assert [plan(H=H)["rows_per_vector"] for H in (1, 8, 9)] == [2, 2, 1]
    assert plan(H=8, element_bytes=8)["rows_per_vector"] == 1
    assert plan(H=8, vector_bytes=32)["rows_per_vector"] == 1


def test_plan_reads_the_weights_of_a_single_step_where_they_are():
    assert plan(T=1)["single_step"] and not plan(T=2)["single_step"]
    assert plan(T=1, B=4)["in_place"] and not plan(T=1, B=5)["in_place"]


def test_plan_takes_the_input_product_of_a_single_row_first():
    assert plan(T=100, B=2)["projected_steps"] == 0
    assert plan(T=100, B=1, H=128, vector_bytes=32)["projected_steps"] == 64
    assert plan(T=10, B=1, H=128)["projected_steps"] == 10
    assert plan(T=100, B=1, H=100_000, vector_bytes=32)["projected_steps"] == 1


def test_plan_takes_the_input_product_of_a_single_row_ahead_where_registers_are_left():
    row = {"T": 100, "B": 1, "H": 128}
    ahead = {mode: plan(mode, **row) for mode in ("RNN_TANH", "LSTM", "GRU")}
    assert all(each["projects_ahead"] for each in ahead.values())
    assert [each["projected_steps"] for each in ahead.values()] == [8, 8, 12]
    others = {"B": 2}, {"T": 31}, {"H": 40}, {"vector_bytes": 32}, {"element_bytes": 2}
    assert not any(plan(**row | other)["projects_ahead"] for other in others)


def test_plan_takes_the_input_product_first_where_both_products_leave_the_cache():
    large = {"vector_bytes": 32, "l2_bytes": 512 << 10, "B": 32, "I": 1024, "H": 1024}
    assert plan(**large)["projected_steps"] == 8
    assert plan("RNN_TANH", **large)["projected_steps"] == 32
    assert plan(**large | {"T": 3})["projected_steps"] == 3
    assert plan(**large | {"I": 256, "H": 512})["projected_steps"] == 0
    assert plan(**large | {"B": 5000, "I": 16, "H": 16})["projected_steps"] == 0


def test_plan_widens_the_panels_of_a_single_row_where_that_pads_little():
    widths = {
        (mode, H): plan(mode, B=1, H=H)["vectors_per_gate"]
        for mode in ("RNN_TANH", "LSTM", "GRU")
        for H in (16, 40, 64, 512)
    }
    assert [widths["RNN_TANH", H] for H in (16, 40, 64, 512)] == [1, 4, 4, 8]
    assert [widths["LSTM", H] for H in (16, 40, 64, 512)] == [1, 1, 2, 2]
    assert [widths["GRU", H] for H in (16, 40, 64, 512)] == [1, 1, 4, 4]


def test_plan_lets_threads_share_units_where_rows_are_few_and_steps_long():
    assert plan(B=1, H=512, threads=2)["unit_parts"] == 2
    assert plan(B=1, H=32, threads=2)["unit_parts"] == 1
    assert plan(B=2, H=64, threads=2)["unit_parts"] == 1
    assert plan(B=1, H=512, threads=1)["unit_parts"] == 1
    assert plan(T=1, B=64, H=512, threads=4)["unit_parts"] == 4
    assert plan(T=1, B=0, threads=4)["unit_parts"] == 1


def test_plan_lets_threads_share_units_where_each_would_wait_for_all_weights():
    sizes = {"I": 256, "H": 512, "threads": 2}
    assert [plan(B=B, **sizes)["unit_parts"] for B in (2, 6, 7)] == [2, 2, 1]
    from_memory = {"I": 1024, "H": 1024, "threads": 2}
    assert [plan(B=B, **from_memory)["unit_parts"] for B in (32, 64, 65)] == [2, 2, 1]


def test_plan_spares_memory_where_weights_outweigh_gradients():
    assert plan(T=25, B=32, I=1024, H=1024)["backward_steps"] == 25
    assert plan(T=100, B=64, I=100, H=128)["backward_steps"] < 100


def test_plan_gives_a_thread_no_crumbs():
    assert plan(T=1, H=8)["rows_per_thread"] > 64
    assert plan(T=100, H=512)["rows_per_thread"] == 1


# Argument of _layer_forward, and a shape it must not have.
WRONG_SHAPES = {
    "input": (5, 3), "hx": (3, 7), "cx": (2, 6), "weight_ih": (24, 5), "weight_hh": (24, 5),
    "bias_ih": (23,), "bias_hh": (25,),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG_SHAPES)
def test_wrong_shapes_are_refused_before_memory_is_touched(name):
    shapes = {
        "input": (5, 3, 4), "hx": (3, 6), "cx": (3, 6), "weight_ih": (24, 4), "weight_hh": (24, 6),
        "bias_ih": (24,), "bias_hh": (24,),
    }  # fmt: skip
    tensors = {
        key: torch.zeros(shape) for key, shape in (shapes | {name: WRONG_SHAPES[name]}).items()
    }
    with pytest.raises(RuntimeError, match="must"):
        torch.ops.fastrnn._layer_forward(*tensors.values(), MODES.index("LSTM"), False, True)


@pytest.mark.parametrize("mode", [-1, 4])
def test_a_wrong_mode_is_refused(mode):
    zeros = torch.zeros(2, 3, 4), torch.zeros(3, 6), None, torch.zeros(6, 4), torch.zeros(6, 6)
    with pytest.raises(RuntimeError, match="mode must be 0 to 3"):
        torch.ops.fastrnn._layer_forward(*zeros, None, None, mode, False, False)


def run_with_isa(isa):
    code = "from fastrnn import _C; print(_C.cpu_isa())"
    environment = os.environ | {"FASTRNN_CPU_ISA": isa}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )


def test_the_environment_chooses_the_instruction_set():
    for isa in _C.cpu_isas():
        assert run_with_isa(isa).stdout.strip() == isa


def test_an_unknown_instruction_set_is_an_error_that_names_those_there_are():
    result = run_with_isa("sse9")
    assert result.returncode != 0
    assert "ValueError" in result.stderr
    assert "'sse9'" in result.stderr and "baseline" in result.stderr


def test_code_for_wide_vectors_is_local_to_its_file():
    """A weak symbol compiled for AVX may be the copy that the linker keeps for every caller."""
    if not (shutil.which("objdump") and shutil.which("nm")):
        pytest.skip("needs binutils")
    listing = subprocess.run(["nm", "--defined-only", _C.__file__], capture_output=True, text=True)
    weak = {line.split()[2] for line in listing.stdout.splitlines() if line.split()[1] in "WVu"}
    code = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", _C.__file__], capture_output=True, text=True
    )
    functions = re.split(r"\n[0-9a-f]+ <([^>]+)>:\n", code.stdout)
    wide = {
        name
        for name, body in zip(functions[1::2], functions[2::2], strict=True)
        if re.search(r"%[yz]mm", body)
    }
    assert not weak & wide
    if "avx2" in _C.cpu_isas():
        assert wide  # else the listing was not understood
