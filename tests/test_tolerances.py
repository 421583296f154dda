from __future__ import annotations

import pytest
import torch
from tolerances import TOLERANCES, assert_matches, distance

ONES = torch.ones(3)


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_boundary(dtype):
    expected = torch.tensor([1.0, -4.0], dtype=torch.float64)
    allowed = 4 * TOLERANCES[dtype].fraction
    step = torch.tensor([allowed, 0.0], dtype=torch.float64)
    assert_matches((expected + 0.9 * step).to(dtype), expected)
    with pytest.raises(AssertionError, match="off by"):
        assert_matches((expected + 1.5 * step).to(dtype), expected)


@pytest.mark.parametrize(
    ("actual", "expected"),
    [
        (ONES, torch.ones(3, 1)),
        (ONES, 2 * ONES),
        (ONES, torch.zeros(3)),
        (torch.full((3,), float("nan")), ONES),
        (ONES, torch.full((3,), float("nan"))),
        (torch.full((3,), float("inf")), ONES),
        (None, ONES),
        (ONES, None),
        ((ONES,), (ONES, ONES)),
        ((ONES, ONES), (ONES, 2 * ONES)),
        ({"a": ONES}, {"b": ONES}),
        ({"a": ONES}, {"a": 2 * ONES}),
        (1.0, 1.0),
    ],
)
def test_differences_are_found(actual, expected):
    with pytest.raises(AssertionError):
        assert_matches(actual, expected)


def test_equal_results_pass():
    tree = {"output": ONES, "states": [ONES, (torch.zeros(2), None)], "empty": torch.ones(0)}
    assert_matches(tree, tree)


def test_given_fraction_replaces_the_table():
    assert_matches(ONES * 1.05, ONES, fraction=0.1)
    with pytest.raises(AssertionError):
        assert_matches(ONES * (1 + 5e-6), ONES, fraction=1e-6)


def test_distance_is_relative_to_the_largest():
    assert distance(torch.tensor([0.5, 10.0]), torch.tensor([0.0, 10.0])) == pytest.approx(0.05)
    assert distance(torch.zeros(2), torch.zeros(2)) == 0
