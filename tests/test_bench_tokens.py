"""The program that times token ids."""

from __future__ import annotations

import json

import pytest
import torch

from benchmarks import tokens
from benchmarks.cases import PASSES, Shape

SMALL = (tokens.Case(Shape(5, 4, 3, 6), 9), tokens.Case(Shape(5, 4, 9, 6), 9))


def test_rows_and_table(tmp_path, capsys):
    path = tmp_path / "tokens.json"
    tokens.main(["--cells", "GRU", "--budget", "0.01", "--json", str(path)], SMALL)
    results = json.loads(path.read_text())
    printed = capsys.readouterr().out
    assert printed.startswith(tokens.markdown(results))
    assert printed.splitlines()[-1] == (tokens.slower(results) or ["nothing"])[-1]
    assert [(row["one_hot"], row["pass"]) for row in results["rows"]] == [
        (hot, step) for hot in (False, True) for step in PASSES
    ]
    for row in results["rows"]:
        assert set(row["over_ids"]) == {"vectors", "torch"}


def test_slower_rows_are_named():
    over = {"vectors": {"median": 0.5}, "torch": {"median": 2.0}}
    row = {"shape": "1,2,3,4", "cell": "GRU", "pass": "training", "over_ids": over}
    assert tokens.slower({"rows": [row]}) == [
        "1,2,3,4 GRU training: vectors takes 0.50 of its time"
    ]


def test_ids_are_tokens_and_the_same_each_time():
    ids = tokens.draw_ids(SMALL[0])
    assert ids.shape == (5, 4) and 0 <= ids.min() and ids.max() < 9
    assert torch.equal(ids, tokens.draw_ids(SMALL[0]))


def test_ways_that_differ_are_not_timed():
    variants = tokens.ways("LSTM", SMALL[0], "training")
    tokens.check(variants)
    right = variants["ids"]
    variants["ids"] = lambda: (*right()[:-1], right()[-1] + 1)
    with pytest.raises(ValueError, match="ids: a result is off"):
        tokens.check(variants)
