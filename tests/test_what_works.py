"""The README's table of what works is the one that its program makes, and names tests there are."""

from __future__ import annotations

import dataclasses

import pytest
from what_works import ROWS, table

from benchmarks import readme


def test_readme_is_in_step():
    shown = readme.split(readme.README.read_text(), "what-works")[1]
    assert shown == table(), "run: python -m tests.what_works"


def test_each_feature_has_one_row():
    features = [row.feature for row in ROWS]
    assert len(features) == len(set(features)) > 20
    assert all(row.tests for row in ROWS)


@pytest.mark.parametrize("test", ["test_modules.py::test_x", "test_x.py::test_equal_to_torch", ""])
def test_a_row_without_its_test_is_refused(test):
    row = dataclasses.replace(ROWS[0], tests=(*ROWS[0].tests, test))
    with pytest.raises(ValueError, match="does not exist"):
        table((row,))
