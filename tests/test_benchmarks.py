"""How the benchmarks time, check and skip, on tiny work, fake engines and a clock that the test
moves."""

import pytest
import torch
from fake_engines import FAKES, TINY, Fake, Wrong, fake_engine, tiny

from benchmarks import cases, cores, peak, timing, worker
from benchmarks.check import check, expected
from benchmarks.engines import ENGINES, FASTRNN, TORCH, engine


class Clock:
    """Seconds that pass only when a variant works."""

    def __init__(self):
        self.now = 0.0
        self.calls = []

    def __call__(self):
        return self.now

    def variant(self, name, seconds):
        def work():
            self.calls.append(name)
            self.now += seconds

        return work

    def variants(self, **seconds):
        return {name: self.variant(name, each) for name, each in seconds.items()}


def test_interleave_times_every_variant_once_per_iteration_in_changing_order():
    clock = Clock()
    variants = clock.variants(torch=3.0, fastrnn=2.0)
    times = timing.interleave(variants, budget_s=500, min_iterations=1, clock=clock)
    assert times == {"torch": [3.0] * 90, "fastrnn": [2.0] * 90}
    warm_up = 10 * 2
    pairs = list(zip(*[iter(clock.calls[warm_up:])] * 2, strict=True))
    assert {frozenset(pair) for pair in pairs} == {frozenset({"torch", "fastrnn"})}
    assert 20 < pairs.count(("torch", "fastrnn")) < 70


def test_interleave_makes_the_least_number_of_iterations_beyond_the_budget():
    clock = Clock()
    times = timing.interleave(clock.variants(a=5.0), budget_s=1, min_iterations=4, clock=clock)
    assert times == {"a": [5.0] * 4}


def test_interleave_gives_up_on_work_that_takes_many_budgets():
    clock = Clock()
    times = timing.interleave(clock.variants(a=20.0), budget_s=1, min_iterations=9, clock=clock)
    assert times == {"a": [20.0] * 3}


def test_interleave_lets_the_last_variant_settle_and_does_not_count_it():
    clock = Clock()
    slept = []

    def sleep(seconds):
        clock.calls.append("sleep")
        slept.append(seconds)

    limits = {"budget_s": 1, "min_iterations": 2, "settle_s": 0.5}
    times = timing.interleave(clock.variants(a=5.0), **limits, clock=clock, sleep=sleep)
    assert times == {"a": [5.0] * 2}
    assert slept == [0.5] * 2
    assert clock.calls == ["a", "sleep", "a", "a", "sleep", "a", "a"]


def test_ratios_compare_the_times_of_one_iteration():
    # The machine slows down tenfold on the way: every ratio is still about two.
    times = {"torch": [2.0, 4.0, 22.0, 38.0, 40.0], "fastrnn": [1.0, 2.0, 10.0, 20.0, 20.0]}
    assert timing.ratios(times, "torch", "fastrnn") == timing.Spread(2.0, 2.0, 2.0)
    assert timing.Spread.of([1.0, 2.0, 3.0, 4.0, 5.0]) == timing.Spread(2.0, 3.0, 4.0)


@pytest.mark.parametrize("dtype", cases.DTYPES)
@pytest.mark.parametrize("step", cases.PASSES)
@pytest.mark.parametrize("cell", cases.CELLS)
@pytest.mark.parametrize("name", [TORCH, FASTRNN])
def test_workloads_agree_and_compute_all_they_should(name, cell, step, dtype):
    problem = tiny(cell, step, dtype)
    workload = engine(name).make(problem)
    check(problem, workload, expected(problem))
    wanted = {"output", "h_n"} | ({"c_n"} if cell == "LSTM" else set())
    if step == "training":
        weights = {f"{kind}_{side}_l0" for kind in ("weight", "bias") for side in ("ih", "hh")}
        wanted |= weights | {"grad_input"}
    results = workload.results()
    assert set(results) == wanted
    assert all(value.dtype is problem.case.torch_dtype for value in results.values())


@pytest.mark.parametrize("step", cases.PASSES)
@pytest.mark.parametrize("error", [1e-2, float("nan")])
def test_wrong_results_are_refused(step, error):
    problem = tiny(step=step)
    fake = Wrong()
    fake.error = error
    with pytest.raises(ValueError, match=r"GRU .* 3,2,4,5 float32: .* differs from torch\.nn's"):
        check(problem, fake.make(problem), expected(problem))


@pytest.mark.parametrize("missing", ["output", "grad_input", "weight_hh_l0"])
def test_missing_results_are_refused(missing):
    problem = tiny(step="training")
    workload = Fake().make(problem)
    results = workload.results
    workload.results = lambda: {k: v for k, v in results().items() if k != missing}
    with pytest.raises(ValueError, match=f"gives no {missing}"):
        check(problem, workload, expected(problem))


def test_results_of_another_shape_are_refused_though_they_would_broadcast():
    problem = tiny()
    workload = Fake().make(problem)
    workload()
    output = workload.results()["output"]
    workload.results = lambda: {"output": output[None]}
    with pytest.raises(ValueError, match=r"output is of shape \(1, 3, 2, 5\)"):
        check(problem, workload, expected(problem))


def test_training_makes_a_fresh_graph_in_every_call():
    workload = engine(FASTRNN).make(tiny("LSTM", "training"))
    workload()
    first = {name: value.clone() for name, value in workload.results().items()}
    workload()
    for name, value in workload.results().items():
        torch.testing.assert_close(value, first[name], msg=name, rtol=0, atol=0)


def test_inference_keeps_no_graph():
    workload = engine(TORCH).make(tiny("RNN"))
    workload()
    assert not workload.results()["output"].requires_grad


def test_a_problem_has_the_same_numbers_each_time_and_leaves_the_generator_alone():
    state = torch.get_rng_state()
    first, second = tiny(), tiny()
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.input, second.input)
    for name, weight in first.weights.items():
        assert torch.equal(weight, second.weights[name]), name


def test_shape_reads_what_it_writes():
    assert cases.Shape.parse("3,2,4,5") == TINY
    assert str(TINY) == "3,2,4,5"


def test_operations_and_bytes_of_a_case_worked_by_hand():
    lstm = cases.Case("LSTM", "inference", cases.Shape(T=2, B=3, I=5, H=7))
    assert lstm.flop == 2 * (2 * 3) * (4 * 7) * (5 + 7)
    assert lstm.bytes == 4 * (2 * 3 * 5 + 2 * 3 * 7 + 4 * 7 * (5 + 7) + 2 * 4 * 7)
    training = cases.Case("LSTM", "training", lstm.shape, "bfloat16")
    assert training.flop == 3 * lstm.flop
    assert training.bytes == lstm.bytes


def test_sweeps_vary_one_size_through_the_base():
    for axis in cases.SWEEPS:
        shapes = cases.suite(axis)
        assert cases.SWEEP_BASE in shapes
        for shape in shapes:
            others = set("TBIH") - {axis}
            assert all(getattr(shape, name) == getattr(cases.SWEEP_BASE, name) for name in others)


def test_engines_that_cannot_run_are_left_out_with_the_reason(monkeypatch):
    monkeypatch.setattr(worker, "engine", fake_engine)
    started, found = worker.start(list(FAKES), threads=3)
    assert set(FAKES) - set(started) == {"Keras JAX", "torch.compile"}
    assert "a-package-that-is-not-there is not installed" in found["Keras JAX"]["unavailable"]
    assert "[bench]" in found["Keras JAX"]["unavailable"]
    assert found["torch.compile"]["unavailable"] == "Unavailable: does not start on 3"
    assert found["torch.nn"] == {"version": f"torch {torch.__version__}"}


@pytest.mark.parametrize("step", cases.PASSES)
def test_engines_that_fail_a_case_become_notes_and_the_others_are_timed(monkeypatch, step):
    monkeypatch.setattr(worker, "engine", fake_engine)
    started, _ = worker.start(list(FAKES), threads=1)
    limits = {"budget_s": 0, "min_iterations": 2}
    row = worker.measure(started, tiny(step=step, cell="LSTM").case, limits)
    inference = step == "inference"
    timed = {"torch.nn", "fastrnn", "OpenVINO"} | ({"ONNX Runtime"} if inference else set())
    assert set(row["ms"]) == timed
    assert set(row["torch_over"]) == timed - {"torch.nn"}
    assert set(row["over_fastrnn"]) == timed - {"fastrnn"}
    assert row["notes"].pop("OpenVINO") == "ran as it is"
    assert "differs from torch.nn's" in row["notes"].pop("oneDNN")
    assert row["notes"].pop("JAX scan") == "RuntimeError: no such kernel"
    assert row["notes"] == ({} if inference else {"ONNX Runtime": "does inference only"})


@pytest.mark.parametrize("name", [TORCH, FASTRNN])
def test_a_table_without_both_sides_is_refused(monkeypatch, name):
    monkeypatch.setitem(FAKES, name, Wrong)
    engines = {each: FAKES[each]() for each in (TORCH, FASTRNN)}
    with pytest.raises(RuntimeError, match=f"not timed: {name}: ValueError: GRU"):
        worker.measure(engines, tiny().case, {"budget_s": 0, "min_iterations": 2})


def test_every_engine_has_its_file():
    assert set(ENGINES) == set(FAKES)
    for name in ENGINES:
        assert engine(name).packages


def test_cores_are_picked_before_their_second_threads(tmp_path):
    # Two cores with two threads each: 0 and 1 are one core, 2 and 3 the other.
    for processor in range(4):
        folder = tmp_path / f"cpu{processor}" / "topology"
        folder.mkdir(parents=True)
        first = processor // 2 * 2
        text = f"{first}-{first + 1}\n" if processor < 2 else f"{first},{first + 1}\n"
        (folder / "thread_siblings_list").write_text(text)
    picked = [cores.pick({0, 1, 2, 3}, count, tmp_path) for count in (1, 2, 3, 4)]
    assert picked == [{0}, {0, 2}, {0, 1, 2}, {0, 1, 2, 3}]
    assert cores.pick({1, 3}, 2, tmp_path) == {1, 3}
    assert cores.pick({5, 7}, 1, tmp_path) == {5}


def test_stream_rate_counts_three_arrays(monkeypatch):
    monkeypatch.setattr(peak, "STREAM_ELEMENTS", 1000)
    monkeypatch.setattr(peak.time, "perf_counter", iter(range(100)).__next__)
    assert peak.stream_rate() == 3 * 4 * 1000


def test_flop_rate_adds_the_threads_up(monkeypatch):
    from fastrnn import _C

    monkeypatch.setattr(_C, "fma_rate", lambda bfloat16: 5.0 if bfloat16 else 2.5)
    assert (peak.flop_rate(3), peak.flop_rate(2, bfloat16=True)) == (7.5, 10.0)
