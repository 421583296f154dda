"""The program that times training on rows of different lengths."""

from __future__ import annotations

import json

import pytest
import torch

from benchmarks import lengths
from benchmarks.cases import Shape

SMALL = Shape(12, 5, 4, 6)


def test_rows_and_table(tmp_path, capsys):
    path = tmp_path / "lengths.json"
    options = ["--shape", "12,5,4,6", "--cells", "GRU", "--budget", "0.01", "--json", str(path)]
    lengths.main(options)
    results = json.loads(path.read_text())
    assert lengths.markdown(results) == capsys.readouterr().out
    assert [row["cell"] for row in results["rows"]] == ["GRU"] * len(lengths.FRACTIONS)
    for row in results["rows"]:
        assert set(row["ms"]) == {"padded", "lengths", "packed", "torch packed"}
        assert set(row["over_lengths"]) == set(row["ms"]) - {"lengths"}


@pytest.mark.parametrize("fraction", lengths.FRACTIONS)
def test_lengths_are_what_the_table_says(fraction):
    drawn = lengths.draw_lengths(lengths.SHAPE, fraction)
    assert drawn.shape == (lengths.SHAPE.B,)
    assert drawn.min() >= 1 and drawn.max() == lengths.SHAPE.T
    assert drawn[1:].max() <= lengths.SHAPE.T * fraction
    assert torch.equal(drawn, lengths.draw_lengths(lengths.SHAPE, fraction))


def test_ways_that_differ_are_not_timed():
    variants = lengths.ways("LSTM", SMALL, lengths.draw_lengths(SMALL, 1.0))
    lengths.check(variants)
    right = variants["lengths"]
    variants["lengths"] = lambda: (*right()[:-1], right()[-1] + 1)
    with pytest.raises(ValueError, match="lengths: a gradient is off"):
        lengths.check(variants)
