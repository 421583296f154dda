"""Every engine that is installed computes what torch.nn computes, started as the program starts
it: in one process, which the engines' own warnings and native libraries cannot harm."""

import subprocess

import pytest
from fake_engines import TINY

from benchmarks import __main__ as program
from benchmarks.engines import ENGINES, engine

DTYPES = ("float32", "bfloat16")
# What no machine has, by engine and dtype.
NEVER = {("ONNX Runtime", "bfloat16")}
# What takes instructions that not every machine has.
SOMETIMES = {("oneDNN", "bfloat16"), ("OpenVINO", "bfloat16")}


def chosen(cell, step, dtype, **_):
    if dtype == "bfloat16":
        return (cell, step) == ("LSTM", "inference")
    return (cell, step) != ("RNN", "training")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("engines")
    options = program.arguments(["--suites", "shapes", "--shapes", str(TINY)])
    every = program.plan(options, threads=1)
    # XLA compiles each for a second or more.
    cases = [each for each in every if chosen(**each["case"])]
    job = {
        "threads": 1,
        "engines": list(ENGINES),
        "cases": cases,
        "limits": {"budget_s": 0, "min_iterations": 2},
        "until": None,
    }
    code, entries = program.spawn(job, folder)
    assert code == 0
    results = {"rows": [], "notes": [], "engines": {}, "peaks": {}}
    assert program.merge(results, 1, entries) == len(cases) == 6
    return results


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ENGINES)
def test_engine_does_all_it_says(found, name, dtype):
    why = found["engines"][name].get("unavailable")
    if why and "is not installed" in why:
        pytest.skip(why)
    assert not why
    for row in (row for row in found["rows"] if row["dtype"] == dtype):
        if row["pass"] not in engine(name).passes or (name, dtype) in NEVER:
            assert name not in row["ms"]
        elif (name, dtype) not in SOMETIMES or name in row["ms"]:
            assert row["ms"][name] > 0, row["notes"].get(name)
        else:
            assert "bf" in row["notes"][name] or "descriptor" in row["notes"][name]


def test_torch_compile_says_what_it_compiled(found):
    for row in found["rows"]:
        assert "compiled" in row["notes"]["torch.compile"]


def test_onednn_tells_a_missing_compiler(monkeypatch, tmp_path):
    from benchmarks.engines import Unavailable, onednn

    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(onednn.shutil, "which", lambda name: None)
    with pytest.raises(Unavailable, match="install g"):
        onednn.build(tmp_path)


def test_onednn_is_compiled_once_for_each_source(monkeypatch, tmp_path):
    from benchmarks.engines import onednn

    try:
        engine("oneDNN").version()
    except Exception as error:
        pytest.skip(str(error))
    commands = []

    def compiles(command, **_):
        commands.append(command)
        onednn.Path(command[command.index("-o") + 1]).write_text("a library")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(onednn.subprocess, "run", compiles)
    first = onednn.build(tmp_path)
    assert onednn.build(tmp_path) == first
    assert len(commands) == 1
    other = tmp_path / "other.cpp"
    other.write_text("// another")
    monkeypatch.setattr(onednn, "SOURCE", other)
    assert onednn.build(tmp_path) != first
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix == ".so") == sorted(
        [first.name, onednn.build(tmp_path).name]
    )


def test_onednn_bias_is_joined_and_split_as_the_reset_gate_needs():
    import torch

    from benchmarks.engines import onednn

    bias_ih, bias_hh = torch.arange(6.0), 10 * torch.arange(6.0)  # gates z, r, n of two units
    joined = onednn.join_bias(bias_ih, bias_hh, "GRU")
    assert joined.tolist() == [0, 11, 22, 33, 4, 5, 40, 50]
    grad_ih, grad_hh = onednn.split_bias(joined, "GRU")
    assert grad_ih.tolist() == [0, 11, 22, 33, 4, 5]
    assert grad_hh.tolist() == [0, 11, 22, 33, 40, 50]
    assert onednn.join_bias(bias_ih, bias_hh, "RNN").tolist() == (bias_ih + bias_hh).tolist()
