"""The program that times fastrnn on one thread and on several."""

from __future__ import annotations

import argparse
import json

import pytest
import torch

from benchmarks import scaling
from benchmarks.cases import Shape


def test_rows_and_table(tmp_path, capsys):
    path = tmp_path / "scaling.json"
    options = ["--shapes", "12,5,4,6", "12,5,4,6x2", "--cells", "GRU", "--budget", "0.01"]
    scaling.main([*options, "--threads", "1", "--json", str(path)])
    results = json.loads(path.read_text())
    assert scaling.markdown(results) == capsys.readouterr().out
    assert [row["stack"] for row in results["rows"]] == ["12,5,4,6", "12,5,4,6 x2"]
    assert all(set(row["training"]["ms"]) == {"one", "all"} for row in results["rows"])


def test_what_is_slower_is_named():
    spread = {"low": 0.8, "median": 0.9, "high": 1.0}
    step = {"ms": {"one": spread, "all": spread}, "gain": spread}
    row = {"stack": "1,1,1,1", "cell": "RNN", "inference": step, "training": step}
    facts = scaling.machine(torch.float32)
    text = scaling.markdown({"machine": facts, "threads": 2, "rows": [row]})
    assert text.count("0.90 (0.80 to 1.00) slower") == 2


def test_other_bits_are_not_timed():
    with pytest.raises(ValueError, match="2 threads give other bits"):
        scaling.check(lambda: (torch.tensor(torch.get_num_threads()),), 2)


def test_stacks_are_read():
    assert scaling.Stack.parse("1,2,3,4x3") == scaling.Stack(Shape(1, 2, 3, 4), 3)
    for text, message in (
        ("1,2,3", "four positive sizes"),
        ("1,2,3,4xb", "layers"),
        ("1,2,3,4x0", "layers"),
    ):
        with pytest.raises(argparse.ArgumentTypeError, match=message):
            scaling.Stack.parse(text)
