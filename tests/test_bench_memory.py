"""What a layer holds for backward, and the program that measures peaks, on tiny work."""

import json
import sys

import pytest
import torch

from benchmarks import memory
from benchmarks.cases import CELLS, Shape
from benchmarks.memory_step import ENGINES, Step

HELD = {"RNN": 0, "LSTM": 5, "GRU": 4}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("cell", CELLS)
def test_floats_held_for_backward_beside_the_output(cell, dtype):
    step = Step("fastrnn", cell, Shape(7, 3, 5, 11), dtype)
    held = memory.held_for_backward(step)
    assert held == {"beside_output": HELD[cell], "with_output": HELD[cell] + 1}


def test_each_storage_is_counted_once_and_whole():
    step = Step("torch", "RNN", Shape(3, 2, 4, 5), torch.float32)

    def forward():
        base = torch.ones(2, 3, 2, 5, requires_grad=True)  # two outputs' worth
        product = base[0] * base[1]  # saves two views of one storage
        return product * step.input[..., :1] + step.states[0]  # saves the product, and the input

    step.forward = forward
    assert memory.held_for_backward(step) == {"with_output": 3, "beside_output": 3}


def test_results_are_what_every_implementation_must_make():
    step = Step("torch", "LSTM", Shape(3, 2, 4, 5), torch.float64)
    output, (h_n, c_n) = step.module(step.input, step.states)
    output.backward(step.grad_output)
    gradients = [step.input.grad, *(weight.grad for weight in step.module.parameters())]
    bytes_made = sum(tensor.nbytes for tensor in (output, h_n, c_n, *gradients))
    assert memory.results_mib(step) * memory.MIB == bytes_made


@pytest.mark.skipif(sys.platform != "linux", reason="peaks are read from Linux's /proc")
def test_peak_sees_what_torch_cannot_and_what_a_step_frees():
    """A step that takes 24 MiB, frees 16 of them, and keeps 4 behind torch's back."""
    code = """
import json, torch
from benchmarks.memory_step import Step, Shape, measure
step = Step("torch", "RNN", Shape(2, 2, 2, 2), torch.float32)
kept = []
def call():
    kept.append(bytearray(b"x") * (4 << 20))
    output = torch.ones(1 << 20)
    torch.ones(4 << 20).mul_(2)
    return output
Step.__call__ = lambda self: call() if self is step else None
print(json.dumps(measure(step)))
"""
    done = memory.run_python("-c", code)
    assert done["peak"] / memory.MIB == pytest.approx(24, abs=1)
    assert done["kept"] / memory.MIB == pytest.approx(4, abs=1)


@pytest.mark.skipif(sys.platform != "linux", reason="peaks are read from Linux's /proc")
def test_program_measures_reports_and_writes_json(tmp_path, monkeypatch, capsys):
    measured = memory.run_step
    made_up = {"peak": 3 * memory.MIB, "kept": 0}  # a process less: each takes seconds to start

    def run_step(step, threads):
        return made_up if step.engine == "torch" else measured(step, threads)

    monkeypatch.setattr(memory, "run_step", run_step)
    path = tmp_path / "memory.json"
    shape = "20,16,8,32"
    memory.main(["--cells", "GRU", "--shapes", shape, "--repeats", "1", "--json", str(path)])
    results = json.loads(path.read_text())
    assert results["machine"]["threads"] == 1 and results["machine"]["dtype"] == "float32"
    (row,) = results["rows"]
    assert (row["cell"], row["shape"]) == ("GRU", shape)
    assert row["held"]["fastrnn"]["beside_output"] == HELD["GRU"]
    for field in ("held", "peak_mib", "kept_mib"):
        assert set(row[field]) == set(ENGINES)
    least = 4 * 20 * 16 * 32 * (HELD["GRU"] + 1) / memory.MIB
    assert least < row["peak_mib"]["fastrnn"] < least + 2
    assert row["ratio"] == 3 / row["peak_mib"]["fastrnn"]
    assert capsys.readouterr().out.splitlines()[-1] == memory.line(row)


@pytest.mark.parametrize(("fastrnn", "verdict"), [(9.0, "3.0 MiB more"), (6.05, ""), (3.0, "")])
def test_line_says_where_fastrnn_needs_more(fastrnn, verdict):
    held = {engine: {"with_output": 2.0, "beside_output": 1.0} for engine in ENGINES}
    row = {
        "cell": "RNN", "shape": "1,2,3,4", "held": held, "results_mib": 1.5,
        "peak_mib": {"torch": 6.0, "fastrnn": fastrnn},
        "kept_mib": {"torch": 0.0, "fastrnn": 0.5}, "ratio": 6.0 / fastrnn,
    }  # fmt: skip
    assert memory.line(row).endswith("more") == bool(verdict)
    assert verdict in memory.line(row)
