"""What the benchmarks write: README table, page, plots, JSON; and the program around it."""

import itertools
import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import torch
from fake_engines import FAKES, TINY, fake_engine

from benchmarks import __main__ as program
from benchmarks import cases, page, readme, report, tables, worker

pytest.importorskip("matplotlib")


def spread(median):
    return {"low": median - 0.25, "median": median, "high": median + 0.25}


def row(step, to_torch, *, shape="3,2,4,5", threads=1, dtype="float32", suites=("shapes",)):
    """fastrnn takes 2 ms, the other rival 3 ms in inference and half a millisecond in training."""
    rival = 3.0 if step == "inference" else 0.5
    case = cases.Case("GRU", step, cases.Shape.parse(shape), dtype, threads)
    return {
        "cell": "GRU", "pass": step, "shape": shape, "dtype": dtype, "threads": threads,
        "iterations": 9, "flop": case.flop, "bytes": case.bytes, "suites": list(suites),
        "ms": {"torch.nn": 2 * to_torch, "fastrnn": 2.0, "oneDNN": rival},
        "torch_over": {"fastrnn": spread(to_torch), "oneDNN": spread(2 * to_torch / rival)},
        "over_fastrnn": {"torch.nn": spread(to_torch), "oneDNN": spread(rival / 2)},
        "notes": {"oneDNN": "kernels <ref>"},
    }  # fmt: skip


def results(*rows):
    return {
        "machine": {
            "cpu": "A CPU", "cores": 2, "isa": "avx2", "torch": "2.13.0", "fastrnn": "0.1.0",
            "commit": "abc", "date": "2026-01-31", "load_average": 0.25,
        },
        "engines": {
            "torch.nn": {"version": "torch 2"}, "fastrnn": {"version": "fastrnn 0"},
            "oneDNN": {"version": "onednn-devel 3"}, "OpenVINO": {"unavailable": "not installed"},
        },
        "peaks": {"1": {"flop_per_s": 1e9, "bytes_per_s": 1e9}},
        "notes": [],
        "failed": False,
        "rows": list(rows),
    }  # fmt: skip


def swept(axis):
    return [
        row(step, 1.5, shape=str(shape), suites=[axis])
        for shape in cases.suite(axis)[:2]
        for step in cases.PASSES
    ]


KNOWN = results(row("inference", 1000.0), row("training", 0.5), row("inference", 3.0, threads=2))


def test_markdown_shows_losses_as_plainly_as_wins():
    facts, _, titles, _, line = tables.markdown(KNOWN).splitlines()
    assert facts.startswith("A CPU, 2 cores, avx2; torch 2.13.0, fastrnn 0.1.0 at abc, 2026-01-31")
    assert facts.endswith(
        "One thread, float32. Rivals: torch.nn (torch 2), oneDNN (onednn-devel 3). "
        "Left out: OpenVINO."
    )
    assert line == (
        "| 3,2,4,5 | GRU | 2000 | 2 | 1000.00 (999.75 to 1000.25) | oneDNN 1.50 (1.25 to 1.75) "
        "| 1 | 2 | 0.50 (0.25 to 0.75) slower | oneDNN 0.25 (0.00 to 0.50) slower |"
    )
    assert titles.count("|") == line.count("|")


def test_markdown_of_one_pass_alone_keeps_its_columns():
    *_, titles, _, line = tables.markdown(results(row("training", 2.0))).splitlines()
    assert titles.count("|") == line.count("|")


def test_torch_is_a_rival_too():
    assert report.best_rival(row("inference", 1.25)) == "torch.nn"
    assert report.best_rival(row("inference", 2.0)) == "oneDNN"


def test_page_marks_each_loss_and_counts_them():
    text = page.html(KNOWN, {})
    first, second = re.findall(r"fastrnn is behind torch\.nn in (.*?)\.\n", text, re.DOTALL)
    assert " ".join(first.split()) == "1 of 2 rows, and behind the best of all rivals in 1"
    assert " ".join(second.split()) == "0 of 1 rows, and behind the best of all rivals in 0"
    assert text.count('<td class="behind">') == 2
    assert "<h2>1 thread, float32</h2>" in text and "<h2>2 threads, float32</h2>" in text
    assert "kernels &lt;ref&gt;" in text
    share = 100 * KNOWN["rows"][0]["flop"] / 2e-3 / 1e9
    assert f"<td>{share:.1f}</td>" in text
    assert "matplotlib" not in text


def test_page_and_plots_open_from_disk(tmp_path):
    found = results(*KNOWN["rows"], *swept("H"))
    text = page.write(tmp_path, found).read_text()
    files = {path.stem: path.read_text() for path in (tmp_path / "plots").glob("*.svg")}
    kinds = ("time-H", "share-H", "roofline")
    assert set(files) == {f"{kind}-float32-threads-1" for kind in kinds}
    for svg in files.values():
        ElementTree.fromstring(svg)
        assert svg in text
    outside = re.findall(r'(?:src|href)="([^"]+)"', text)
    assert all(link.startswith("#") for link in outside)


def test_the_same_results_give_the_same_plot():
    from benchmarks import plots

    first, second = (plots.over_size(swept("B"), "B", "title") for _ in range(2))
    assert first == second


def test_plots_show_the_engines_and_where_they_stand():
    from benchmarks import plots

    rows = [each for each in swept("H") if each["pass"] == "training"]
    assert plots.series(rows, "H", None) == {
        "torch.nn": [(8, 3.0), (16, 3.0)], "fastrnn": [(8, 2.0), (16, 2.0)],
        "oneDNN": [(8, 0.5), (16, 0.5)],
    }  # fmt: skip
    peaks = {"1": {"flop_per_s": rows[0]["flop"] / 2e-3, "bytes_per_s": 1e9}}
    assert plots.series(rows[:1], "H", peaks)["fastrnn"] == [(8, pytest.approx(100.0))]


def test_page_without_matplotlib_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(page.importlib.util, "find_spec", lambda name: None)
    assert "No plots: matplotlib is not installed" in page.write(tmp_path, KNOWN).read_text()
    assert not (tmp_path / "plots").exists()


PAGE = "before\n<!-- a:begin -->\n{}<!-- a:end -->\nafter\n"


def test_table_goes_between_its_marks_and_nowhere_else(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(PAGE.format("old\n"))
    readme.put(path, "a", "new\nlines\n")
    assert path.read_text() == PAGE.format("new\nlines\n")
    assert readme.split(path.read_text(), "a")[1] == "new\nlines\n"


@pytest.mark.parametrize(
    "text",
    ["", "<!-- a:end -->\n<!-- a:begin -->\n", PAGE * 2, PAGE.replace("a:", "b:")],
    ids=["none", "reversed", "twice", "another"],
)
def test_page_without_the_marks_is_left_alone(tmp_path, text):
    path = tmp_path / "README.md"
    path.write_text(text)
    with pytest.raises(ValueError, match="once each"):
        readme.put(path, "a", "new\n")
    assert path.read_text() == text


def test_sweeps_and_threads_have_tables_of_their_own():
    one = [*swept("H"), *swept("T"), row("training", 2.0)]
    text = tables.markdown(results(*one), suites=("T", "H"))
    shapes = [line.split(" | ")[0] for line in text.splitlines()[4:]]
    assert shapes == [f"| {shape}" for axis in "TH" for shape in cases.suite(axis)[:2]]
    two = results(*one, row("training", 4.0, threads=2))
    assert "2 threads, float32" in tables.markdown(two, all_threads=True)
    assert tables.markdown(two, all_threads=True).count("4.00") == 1
    assert tables.markdown(results(*one), all_threads=True) == "Not measured yet.\n"


@pytest.mark.parametrize("text", ["1,2,3", "1,2,3,0", "1,2,3,x", "1,2,3,4,5"])
def test_wrong_shape_is_refused_by_the_command_line(text, capsys):
    with pytest.raises(SystemExit):
        program.arguments(["--shapes", text])
    assert "argument --shapes" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["0", "-1", "many", "100000"])
def test_wrong_number_of_threads_is_refused_by_the_command_line(text, capsys):
    with pytest.raises(SystemExit):
        program.arguments([f"--threads={text}"])
    assert "must be 'all' or a number from 1 to" in capsys.readouterr().err


def test_quick_gives_way_to_what_is_asked_for(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    options = program.arguments(["--quick"])
    assert (options.threads, options.dtypes, options.suites) == ([1], ["float32"], ["shapes"])
    assert options.shapes == cases.QUICK_SHAPES
    options = program.arguments(["--quick", "--threads", "all", "--dtypes", "bfloat16"])
    assert (options.threads, options.dtypes) == ([2], ["bfloat16"])
    assert program.arguments([]).threads == [1, 2]


def test_a_shape_of_two_suites_is_timed_once():
    options = program.arguments(["--cells", "GRU", "--dtypes", "float32"])
    plan = program.plan(options, threads=1)
    shapes = [entry["case"]["shape"] for entry in plan if entry["case"]["step"] == "training"]
    assert len(shapes) == len(set(shapes))
    suites = {entry["case"]["shape"]: entry["suites"] for entry in plan}
    assert suites[str(cases.SWEEP_BASE)] == list(cases.SWEEPS)


def in_process(command, *, cwd, env):
    """What the child would do, with fake engines; it sees the environment as it was given."""
    assert command[:3] == [sys.executable, "-m", "benchmarks.worker"]
    in_process.seen.append((len(os.sched_getaffinity(0)), env.get("KERAS_BACKEND")))
    return worker.run(json.loads(Path(command[3]).read_text()))


@pytest.fixture
def fakes(monkeypatch, tmp_path):
    """The program in this process, on fake engines; its README and results are copies."""
    path, kept = tmp_path / "README.md", tmp_path / "kept.json"
    path.write_text(readme.README.read_text())
    features = tmp_path / "features.md"
    features.write_text(readme.FEATURES.read_text())
    monkeypatch.setattr(readme, "README", path)
    monkeypatch.setattr(readme, "FEATURES", features)
    monkeypatch.setattr(program, "README_RESULTS", kept)
    monkeypatch.setattr(program, "LIMITS", {"budget_s": 0, "min_iterations": 2})
    monkeypatch.setattr(worker, "engine", fake_engine)
    monkeypatch.setattr(worker.peak, "STREAM_ELEMENTS", 1000)
    monkeypatch.setattr(program.subprocess, "call", in_process)
    in_process.seen = []
    return tmp_path


def test_program_times_reports_and_reads_its_own_results(fakes, capsys):
    out = fakes / "out"
    given = ["--suites", "shapes", "--shapes", str(TINY), "--threads", "1", "--cells", "LSTM"]
    program.main([*given, "--readme", "--out", str(out)])
    found = json.loads((out / "results.json").read_text())
    assert (fakes / "kept.json").read_text() == (out / "results.json").read_text()
    kinds = [(row["dtype"], row["pass"]) for row in found["rows"]]
    assert kinds == list(itertools.product(["float32", "bfloat16"], cases.PASSES))
    assert set(found["engines"]) == set(FAKES)
    assert found["peaks"]["1"]["flop_per_s"] > 0
    assert in_process.seen == [(1, "jax")]
    for table, asked in program.TABLES.items():
        shown = readme.split(program.page_of(table).read_text(), table)[1]
        if table in ("benchmarks", "bfloat16"):
            assert f"One thread, {asked.get('dtype', 'float32')}." in shown
            assert shown == tables.markdown(found, **asked)
        else:
            assert shown == "Not measured yet.\n"

    printed = capsys.readouterr().out.splitlines()
    again = fakes / "again"
    program.main(["--from", str(out / "results.json"), "--out", str(again)])
    assert capsys.readouterr().out.splitlines()[:-1] == printed[printed.index(report.HEADER) : -1]
    for name in ("results.json", "index.html"):
        assert (again / name).read_text() == (out / name).read_text()


def test_a_worker_that_dies_leaves_what_it_measured(fakes, monkeypatch, capsys):
    def dies(command, **given):
        monkeypatch.setattr(worker, "cases", lambda job: iter(list(every(job))[:1]))
        in_process(command, **given)
        return -11

    every = worker.cases
    monkeypatch.setattr(program.subprocess, "call", dies)
    given = ["--suites", "shapes", "--shapes", str(TINY), "--threads", "1", "--cells", "GRU"]
    with pytest.raises(SystemExit, match="see the notes"):
        program.main([*given, "--dtypes", "float32", "--out", str(fakes / "out")])
    found = json.loads((fakes / "out" / "results.json").read_text())
    assert len(found["rows"]) == 1
    assert found["notes"] == ["1 thread: 1 cases were not begun, the process ended with status -11"]
    assert found["notes"][0] in capsys.readouterr().out
    assert found["notes"][0] in (fakes / "out" / "index.html").read_text()


def test_an_interrupt_keeps_what_was_measured_and_starts_nothing_more(fakes, monkeypatch):
    def interrupted(command, **given):
        in_process(command, **given)
        raise KeyboardInterrupt

    monkeypatch.setattr(program.subprocess, "call", interrupted)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    given = ["--suites", "shapes", "--shapes", str(TINY), "--cells", "GRU", "--dtypes", "float32"]
    with pytest.raises(SystemExit, match="see the notes"):
        program.main([*given, "--out", str(fakes / "out")])
    found = json.loads((fakes / "out" / "results.json").read_text())
    assert [row["threads"] for row in found["rows"]] == [1, 1]
    assert found["notes"] == [
        "2 threads: 2 cases were not begun, the process ended with status 130"
    ]


def test_a_run_goes_on_where_another_ended(fakes, monkeypatch):
    out = fakes / "out"
    given = ["--cells", "GRU", "--dtypes", "float32", "--threads", "1", "--out", str(out)]
    monkeypatch.setitem(cases.SWEEPS, "T", (3,))
    monkeypatch.setattr(cases, "SWEEP_BASE", TINY)
    program.main([*given, "--suites", "shapes", "--shapes", str(TINY)])
    first = json.loads((out / "results.json").read_text())
    again = [*given, "--resume", "--shapes", str(TINY), "4,2,4,5"]
    program.main([*again, "--suites", "shapes", "T"])
    found = json.loads((out / "results.json").read_text())
    assert [row["shape"] for row in found["rows"]] == 2 * ["3,2,4,5"] + 2 * ["4,2,4,5"]
    assert [row["ms"] for row in found["rows"][:2]] == [row["ms"] for row in first["rows"]]
    assert found["rows"][0]["suites"] == ["shapes", "T"]
    assert found["notes"] == [] and found["machine"] == first["machine"]


def test_results_of_another_state_are_not_mixed_in(fakes, monkeypatch):
    out, given = fakes / "out", ["--quick", "--resume"]
    with pytest.raises(SystemExit, match=r"nothing to resume: .*results\.json does not exist"):
        program.main([*given, "--out", str(out)])
    report.save(out / "results.json", results())
    monkeypatch.setattr(report, "machine_facts", lambda: {**results()["machine"], "commit": "def"})
    with pytest.raises(SystemExit, match="of commit abc, this is def: they can't go into one"):
        program.main([*given, "--out", str(out)])


def test_a_wrong_fastrnn_is_loud_and_the_rest_is_measured(fakes, monkeypatch, capsys):
    def wrong_once(engines, case, limits):
        if case.step == "training":
            raise RuntimeError(f"{case} not timed: fastrnn: wrong")
        return measure(engines, case, limits)

    measure = worker.measure
    monkeypatch.setattr(worker, "measure", wrong_once)
    given = ["--suites", "shapes", "--shapes", str(TINY), "--threads", "1", "--cells", "GRU"]
    given += ["--dtypes", "float32", "--engines", "OpenVINO"]
    with pytest.raises(SystemExit, match="see the notes"):
        program.main([*given, "--out", str(fakes / "out")])
    found = json.loads((fakes / "out" / "results.json").read_text())
    assert [row["pass"] for row in found["rows"]] == ["inference"]
    assert set(found["engines"]) == {"torch.nn", "fastrnn", "OpenVINO"}
    assert found["notes"] == ["GRU training 3,2,4,5 float32 not timed: fastrnn: wrong"]
    assert found["notes"][0] in capsys.readouterr().out


def test_quick_ends_in_time_and_says_what_is_missing(fakes, monkeypatch):
    monkeypatch.setattr(program, "QUICK_S", -1)
    program.main(["--quick", "--out", str(fakes / "out")])
    found = json.loads((fakes / "out" / "results.json").read_text())
    assert found["rows"] == []
    assert found["notes"] == ["1 thread: 24 cases were not begun, the time was over"]


@pytest.mark.parametrize(("table", "asked"), program.TABLES.items())
def test_tables_are_made_from_the_results_kept_beside_the_program(table, asked):
    shown = readme.split(program.page_of(table).read_text(), table)[1]
    if program.README_RESULTS.exists():
        assert shown == tables.markdown(json.loads(program.README_RESULTS.read_text()), **asked)
    else:
        assert shown == "Not measured yet.\n"


def test_no_rival_is_imported_before_it_is_asked_for():
    rivals = ["jax", "keras", "onnx", "onnxruntime", "openvino", "matplotlib"]
    code = (
        "import sys, benchmarks.__main__, benchmarks.engines as e; list(map(e.engine, e.ENGINES)); "
        f"print([name for name in {rivals} if name in sys.modules])"
    )
    printed = subprocess.check_output([sys.executable, "-c", code], cwd=program.ROOT, text=True)
    assert printed == "[]\n"
