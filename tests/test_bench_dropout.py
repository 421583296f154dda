"""The program that times training with dropout of input and states."""

from __future__ import annotations

import json

import pytest

from benchmarks import dropout
from benchmarks.cases import Shape


def test_rows_and_table(tmp_path, capsys):
    path = tmp_path / "dropout.json"
    options = ["--shapes", "12,5,4,6", "--cells", "GRU", "--threads", "1", "--budget", "0.01"]
    dropout.main([*options, "--json", str(path)])
    results = json.loads(path.read_text())
    assert dropout.markdown(results) == capsys.readouterr().out
    (row,) = results["rows"]
    assert row["cell"] == "GRU" and row["threads"] == 1
    assert set(row["ms"]) == set(row["over_plain"]) == {*dropout.OPTIONS, "loop"}


def test_ways_that_differ_are_not_timed():
    variants = dropout.ways("LSTM", Shape(12, 5, 4, 6))
    dropout.check(variants)
    right = variants["both"]
    variants["both"] = lambda: (*right()[:-1], right()[-1] + 1)
    with pytest.raises(ValueError, match="a gradient is off"):
        dropout.check(variants)
