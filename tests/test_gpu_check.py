"""`python -m benchmarks gpu-check`, as far as it goes without a GPU, and the model it prints."""

import json
from types import SimpleNamespace

import pytest
import torch

from benchmarks import __main__ as program
from benchmarks import gpu_cases, gpu_check, gpu_model, timing
from benchmarks.cases import Shape
from benchmarks.gpu_cases import GpuCase
from fastrnn import devices

TINY = (
    GpuCase("hidden size", "LSTM", "float32", 6, T=4, B=3, I=5, layers=2, bidirectional=True),
    GpuCase("packed", "GRU", "bfloat16", 6, T=4, B=3, I=5, packed=True),
    GpuCase("float64", "RNN", "float64", 6, T=4, B=3, I=5),
)


def timed(there, step):
    """Training is slower than torch.nn, the rest twice as fast."""
    for name in there:
        if step == "backward":
            there[name].prepare()
        getattr(there[name], step)()
    ours = 4.0 if step == "training" else 1.0
    return {"torch.nn": [2.0] * 5, "fastrnn": [ours] * 5}


def spoil(there):
    with torch.no_grad():
        there["fastrnn"].module.weight_hh_l0 += 0.5


@pytest.fixture
def gpu(monkeypatch):
    """A GPU is said to be there; all is computed on the CPU and no time is taken."""
    facts = {"device": "H100", "driver": "1.2"}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(devices, "cuda_refusal", lambda index: None)
    monkeypatch.setattr(gpu_check, "gpu_facts", lambda: facts)
    monkeypatch.setattr(gpu_check, "device_here", lambda: gpu_model.DEVICES["H100"])
    monkeypatch.setattr(gpu_check, "all_cases", lambda: TINY)
    monkeypatch.setattr(gpu_check, "works", lambda case, device: gpu_cases.works(case, "cpu"))
    monkeypatch.setattr(gpu_check, "time_pass", timed)
    settings = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [each.allow_tf32 for each in settings]
    yield monkeypatch
    for each, value in zip(settings, before, strict=True):
        each.allow_tf32 = value


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_prints_the_model_and_ends_with_2(capsys, tmp_path):
    with pytest.raises(SystemExit) as ended:
        program.main(["gpu-check", "--out", str(tmp_path)])
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert "modelled, never measured" in out
    assert all(name in out for name in gpu_model.DEVICES)
    assert "T4        refused: the kernels need compute capability 8.0" in out
    assert err.startswith("Nothing was run: torch ") and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_without_cuda_kernels_it_says_how_to_build_them(gpu):
    gpu.setattr(devices, "cuda_refusal", lambda index: "the kernels are built without CUDA")
    with pytest.raises(SystemExit, match=r"built without CUDA; build them .*FASTRNN_BUILD_CUDA=1"):
        gpu_check.main([])


def test_a_whole_run(gpu, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    gpu.setattr(gpu_check, "run_tests", lambda: {"tests": "passed", "memcheck": "not run"})
    assert gpu_check.main(["--out", str(tmp_path)]) == 0
    results = json.loads((tmp_path / "gpu-check.json").read_text())
    assert results["facts"] == {"device": "H100", "driver": "1.2"}
    assert results["tests"] == {"tests": "passed", "memcheck": "not run"} and not results["notes"]
    assert [(row["case"], row["pass"]) for row in results["rows"]] == [
        (str(case), step) for case in TINY for step in gpu_cases.PASSES
    ]
    for row in results["rows"]:
        assert row["correct"] and 0 <= row["errors"]["fastrnn"] <= row["allowed"]
        assert row["ratio"]["median"] == (0.5 if row["pass"] == "training" else 2.0)
        assert row["modelled"]["label"] == "modelled, never measured"
        assert row["modelled"]["backward"]["plan"]["step_cycles"] > 0
    assert {path.name for path in tmp_path.glob("*.svg")} == {
        "ratio-hidden-size.svg", "ratio-packed.svg", "ratio-float64.svg"
    }  # fmt: skip
    out = capsys.readouterr().out
    assert "Faster than torch.nn: 6 of 9 rows; slower: 3; wrong and not timed: 0 cases." in out
    assert out.count("  slower: ") == 3 and "0.50 (0.50 to 0.50) slower" in out


def test_failed_tests_fail_the_run(gpu, tmp_path):
    pytest.importorskip("matplotlib")
    gpu.setattr(gpu_check, "run_tests", lambda: {"tests": "failed with status 1"})
    assert gpu_check.main(["--out", str(tmp_path)]) == 1
    assert gpu_check.main(["--out", str(tmp_path), "--skip-tests"]) == 0


def test_wrong_results_are_told_and_not_timed(gpu, tmp_path, capsys):
    pytest.importorskip("matplotlib")

    def spoiled(case, device):
        reference, there = gpu_cases.works(case, "cpu")
        spoil(there)
        return reference, there

    gpu.setattr(gpu_check, "works", spoiled)
    gpu.setattr(gpu_check, "time_pass", lambda *_: pytest.fail("timed what is wrong"))
    assert gpu_check.main(["--out", str(tmp_path), "--skip-tests"]) == 1
    out = capsys.readouterr().out
    assert "WRONG: " in out and "wrong and not timed: 3 cases" in out


def test_an_error_leaves_the_other_cases(gpu, tmp_path, capsys):
    pytest.importorskip("matplotlib")

    def fail(there, step):
        raise RuntimeError("out of memory")

    gpu.setattr(gpu_check, "time_pass", fail)
    assert gpu_check.main(["--out", str(tmp_path), "--skip-tests"]) == 1
    notes = json.loads((tmp_path / "gpu-check.json").read_text())["notes"]
    assert notes == [f"{case}: out of memory" for case in TINY]


def test_facts_of_the_gpu(monkeypatch):
    there = SimpleNamespace(
        name="A GPU",
        major=8,
        minor=9,
        multi_processor_count=58,
        shared_memory_per_block_optin=101376,
        shared_memory_per_multiprocessor=102400,
        max_threads_per_multi_processor=1536,
        clock_rate=2_040_000,
        total_memory=2**34,
    )
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: there)
    monkeypatch.setattr(gpu_check.shutil, "which", lambda name: None)
    facts = gpu_check.gpu_facts()
    assert (facts["device"], facts["compute_capability"]) == ("A GPU", "8.9")
    assert {"driver", "cuda_of_torch", "cudnn", "torch", "archs", "commit"} <= set(facts)
    assert gpu_check.device_here() == gpu_model.DEVICES["L4"]


def test_times_are_between_events_of_the_stream(monkeypatch):
    class Event:
        now = 0.0

        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            self.at = Event.now

        def synchronize(self):
            pass

        def elapsed_time(self, later):
            return later.at - self.at  # in milliseconds

    class Work:
        def prepare(self):
            Event.now += 1000  # not to be counted

        def backward(self):
            Event.now += 40

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    times = gpu_check.time_pass({"torch.nn": Work()}, "backward")
    assert set(times["torch.nn"]) == {0.04} and len(times["torch.nn"]) >= 3


@pytest.mark.parametrize("found", [None, "/bin/compute-sanitizer"])
def test_tests_and_sanitizers_run_where_they_are(found, monkeypatch):
    calls = []

    def call(command, cwd, env):
        assert env["FAIL_WITHOUT_CUDA"] == "1"
        calls.append(command)
        return 9 if "racecheck" in command else 0

    monkeypatch.setattr(gpu_check.subprocess, "call", call)
    monkeypatch.setattr(gpu_check.shutil, "which", lambda name: found)
    ends = gpu_check.run_tests()
    assert ends["tests"] == "passed"
    assert len(calls) == (4 if found else 1)
    assert ends["racecheck"] == (
        "failed with status 9" if found else "not run, compute-sanitizer is not on PATH"
    )


def test_cases_lie_on_both_sides_of_each_limit():
    cases = gpu_cases.all_cases()
    assert len({str(case) for case in cases}) == len(cases)
    for backward in (False, True):
        for cell in ("RNN", "LSTM", "GRU"):
            for dtype in ("float32", "float16"):
                kinds = {c.cudnn(backward) for c in cases if (c.cell, c.dtype) == (cell, dtype)}
                assert len(kinds) >= 2, (cell, dtype, backward)
    assert {case.B for case in cases} >= {1, 127, 128, 256}
    assert {case.T for case in cases} >= {25, 1000}


@pytest.mark.parametrize(
    ("options", "forward", "backward"),
    [
        (("GRU", "float16", 128), "persistent, small H", "persistent, small H"),
        (("GRU", "float16", 192), "persistent, small H", "standard"),
        (("GRU", "float16", 256), "standard", "standard"),
        (("LSTM", "float16", 1024), "persistent", "persistent"),
        (("LSTM", "bfloat16", 1024), "standard", "standard"),
        (("RNN", "float32", 384), "persistent, small H", "standard"),
        (("LSTM", "float64", 128), "standard", "standard"),
    ],
)
def test_the_algorithm_that_torch_asks_for(options, forward, backward):
    case = GpuCase("hidden size", *options)
    assert (case.cudnn(False), case.cudnn(True)) == (forward, backward)


def test_small_cases_have_each_plan_on_each_device():
    for case in gpu_cases.small_cases():
        shape, size = Shape(case.T, case.B, case.I, case.H), case.torch_dtype.itemsize
        plan = gpu_model.plan(case.cell, shape, size, False, gpu_model.DEVICES["H100"])
        assert plan["scope"] == case.why, case


def test_interleave_prepares_each_call():
    calls = []
    variants = {name: (lambda name=name: calls.append(name)) for name in "ab"}
    prepare = lambda name: calls.append(f"prepare {name}")  # noqa: E731
    timing.interleave(variants, budget_s=0, min_iterations=2, prepare=prepare)
    assert calls[::2] == [f"prepare {name}" for name in calls[1::2]]


@pytest.mark.parametrize("backward", [False, True])
def test_the_model_counts_what_a_step_does(backward):
    device, shape = gpu_model.DEVICES["H100"], Shape(100, 32, 64, 512)
    plan = gpu_model.plan("GRU", shape, 4, backward, device)
    step = gpu_model.step(plan, "GRU", shape, 4, backward, device)
    assert plan["scope"] == "grid"
    assert step.multiply_adds == step.done_multiply_adds == 32 * 3 * 512 * 512
    # Each of 64 blocks of units reads all of the left operand.
    depth = 512 * (3 if backward else 1)
    assert step.staged_bytes == plan["unit_blocks"] * 32 * depth * 4
    assert (step.grid_barriers, step.launches) == (1, 0)
    assert step.us == pytest.approx(plan["step_cycles"] / 1830)
    assert step.blocks_per_multiprocessor >= 1


def test_the_model_counts_the_bytes_of_cells():
    # LSTM: 4 sums in, 5 kept and h out, c in and out; back: gradient of h, 5 kept, c before, 4 sums
    # out, the gradients of h and c in and out.
    assert gpu_model.state_bytes("LSTM", 2, backward=False) == 10 * 2 + 2 * 4
    assert gpu_model.state_bytes("LSTM", 2, backward=True) == 11 * 2 + 4 * 4
    assert gpu_model.state_bytes("RNN", 8, backward=False) == 2 * 8
    assert gpu_model.state_bytes("RNN", 8, backward=True) == 3 * 8 + 2 * 8


def test_small_cases_are_compared(gpu, capsys):
    few = [case for case in gpu_cases.small_cases() if case.why != "launch"]
    gpu.setattr(gpu_cases, "small_cases", lambda: few)
    assert gpu_cases.check_small("cpu") == 0
    assert capsys.readouterr().out.count("\n") == len(few) == 8
    gpu.setattr(gpu_cases, "TOLERANCES", dict.fromkeys(gpu_cases.TOLERANCES, 0.0))
    assert gpu_cases.check_small("cpu") == len(few)
