"""The benchmark programs on tiny work, and the sums they do on a clock that the test moves."""

import json

import pytest
import torch

from benchmarks import __main__ as program
from benchmarks import cases, readme, report, timing

TINY = cases.Shape(3, 2, 4, 5)


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


def test_ratios_compare_the_times_of_one_iteration():
    # The machine slows down tenfold on the way: every ratio is still about two.
    times = {"torch": [2.0, 4.0, 22.0, 38.0, 40.0], "fastrnn": [1.0, 2.0, 10.0, 20.0, 20.0]}
    assert timing.ratios(times) == timing.Spread(2.0, 2.0, 2.0)
    assert timing.Spread.of([1.0, 2.0, 3.0, 4.0, 5.0]) == timing.Spread(2.0, 3.0, 4.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("step", cases.PASSES)
@pytest.mark.parametrize("cell", cases.CELLS)
def test_workloads_agree_and_compute_all_they_should(cell, step, dtype):
    case = cases.Case(cell, step, TINY, dtype)
    made = cases.workloads(case)
    cases.check(case, made)
    wanted = {"output", "h_n"} | ({"c_n"} if cell == "LSTM" else set())
    if step == "training":
        weights = {f"{kind}_{side}_l0" for kind in ("weight", "bias") for side in ("ih", "hh")}
        wanted |= weights | {"grad_input"}
    for workload in made.values():
        results = workload.results()
        assert set(results) == wanted
        assert all(value.dtype is dtype for value in results.values())


@pytest.mark.parametrize("step", cases.PASSES)
@pytest.mark.parametrize("error", [1e-2, float("nan")])
def test_wrong_implementation_is_refused(step, error):
    case = cases.Case("GRU", step, TINY)
    made = cases.workloads(case)
    with torch.no_grad():
        made["fastrnn"].module.bias_hh_l0.add_(error)
    with pytest.raises(ValueError, match=f"GRU {step} 3,2,4,5: .* of fastrnn differs from torch's"):
        cases.check(case, made)


def test_training_makes_a_fresh_graph_in_every_call():
    workload = cases.workloads(cases.Case("LSTM", "training", TINY))["fastrnn"]
    workload()
    first = {name: value.clone() for name, value in workload.results().items()}
    workload()
    for name, value in workload.results().items():
        torch.testing.assert_close(value, first[name], msg=name, rtol=0, atol=0)


def test_inference_keeps_no_graph():
    workload = cases.workloads(cases.Case("RNN", "inference", TINY))["torch"]
    workload()
    assert not workload.results()["output"].requires_grad


def test_shape_reads_what_it_writes():
    assert cases.Shape.parse("3,2,4,5") == TINY
    assert str(TINY) == "3,2,4,5"


@pytest.mark.parametrize("text", ["1,2,3", "1,2,3,0", "1,2,3,x", "1,2,3,4,5"])
def test_wrong_shape_is_refused_by_the_command_line(text, capsys):
    with pytest.raises(SystemExit):
        program.arguments(["--shapes", text])
    assert "argument --shapes" in capsys.readouterr().err


def row(cell, step, median):
    ratio = {"low": median - 0.25, "median": median, "high": median + 0.25}
    ms = {"torch": 1.23456 * median, "fastrnn": 1.23456}
    return {
        "cell": cell, "pass": step, "shape": "3,2,4,5", "iterations": 9, "ms": ms, "ratio": ratio
    }  # fmt: skip


RESULTS = {
    "machine": {
        "cpu": "A CPU", "cores": 2, "isa": "avx2", "threads": 1, "dtype": "float32",
        "torch": "2.13.0", "fastrnn": "0.1.0", "commit": "abc", "date": "2026-01-31",
        "load_average": 0.25,
    },
    "rows": [row("GRU", "inference", 2000.0), row("GRU", "training", 0.5)],
}  # fmt: skip


def test_markdown_shows_losses_as_plainly_as_wins():
    facts, _, _, _, line = report.markdown(RESULTS).splitlines()
    assert facts.startswith("A CPU, 2 cores, avx2, 1 thread, float32; torch 2.13.0, fastrnn 0.1.0")
    assert line == (
        "| 3,2,4,5 | GRU | 2469 | 1.23 | 2000.00 (1999.75 to 2000.25) "
        "| 0.617 | 1.23 | 0.50 (0.25 to 0.75) slower |"
    )


PAGE = "before\n<!-- a:begin -->\n{}<!-- a:end -->\nafter\n"


def test_table_goes_between_its_marks_and_nowhere_else(tmp_path):
    page = tmp_path / "README.md"
    page.write_text(PAGE.format("old\n"))
    readme.put(page, "a", "new\nlines\n")
    assert page.read_text() == PAGE.format("new\nlines\n")
    assert readme.split(page.read_text(), "a")[1] == "new\nlines\n"


@pytest.mark.parametrize(
    "text",
    ["", "<!-- a:end -->\n<!-- a:begin -->\n", PAGE * 2, PAGE.replace("a:", "b:")],
    ids=["none", "reversed", "twice", "another"],
)
def test_page_without_the_marks_is_left_alone(tmp_path, text):
    page = tmp_path / "README.md"
    page.write_text(text)
    with pytest.raises(ValueError, match="once each"):
        readme.put(page, "a", "new\n")
    assert page.read_text() == text


def test_program_times_reports_and_reads_its_own_results(tmp_path, monkeypatch, capsys):
    page, kept, asked = (tmp_path / name for name in ("README.md", "kept.json", "asked.json"))
    page.write_text(readme.README.read_text())
    monkeypatch.setattr(readme, "README", page)
    monkeypatch.setattr(program, "README_RESULTS", kept)
    monkeypatch.setattr(program, "interleave", few_iterations)
    program.main(["--quick", "--shapes", str(TINY), "--readme", "--json", str(asked)])
    results = json.loads(asked.read_text())
    assert kept.read_text() == asked.read_text()
    assert len(results["rows"]) == len(cases.CELLS) * len(cases.PASSES)
    assert results["machine"]["threads"] == 1
    assert readme.split(page.read_text(), program.TABLE)[1] == report.markdown(results)

    printed = capsys.readouterr().out.splitlines()
    program.main(["--from", str(asked)])
    assert capsys.readouterr().out.splitlines() == printed[-len(results["rows"]) - 1 :]


def few_iterations(variants, **_):
    return timing.interleave(variants, budget_s=0, min_iterations=2)


def test_readme_table_is_made_from_the_results_kept_beside_the_program():
    shown = readme.split(readme.README.read_text(), program.TABLE)[1]
    if program.README_RESULTS.exists():
        assert shown == report.markdown(json.loads(program.README_RESULTS.read_text()))
    else:
        assert shown == "Not measured yet.\n"
