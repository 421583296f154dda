"""The kernels run right under every schedule, and sanitizers have nothing to report."""

from __future__ import annotations

import pytest

from . import build, driven
from .driven import ALL_CELLS, FAMILIES, LANES, RIGHT
from .simulator import SCHEDULES

pytestmark = pytest.mark.skipif(build.missing() is not None, reason=str(build.missing()))

# Each family sees each lengths; which mode goes with which does not matter.
LENGTHS = {"lstm": "lengths", "gru": "reverse", "tanh": "even"}


def check(kind: str, element: str, family: str, mode: str, lanes: str, **options) -> None:
    path = driven.built(ALL_CELLS[element], kind, element)
    code, text = driven.run(path, family, mode, lanes, LENGTHS[mode], **options)
    assert code == RIGHT, text


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("mode", LENGTHS)
@pytest.mark.parametrize("family", FAMILIES)
def test_right_in_every_schedule(family, mode, lanes, schedule):
    for seed in range(3):
        check("plain", "float", family, mode, lanes, schedule=schedule, seed=seed)


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("mode", LENGTHS)
@pytest.mark.parametrize("family", FAMILIES)
def test_right_where_threads_stop_at_any_basic_block(family, mode, lanes):
    for schedule in ("random", "unfair"):
        check("preempt", "float", family, mode, lanes, schedule=schedule, preemption=0.02)


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("mode", LENGTHS)
@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_stale_is_read(family, mode, lanes):
    check("plain", "float", family, mode, lanes, read_only=True)


@pytest.mark.parametrize("kind", ["asan", "tsan"])
@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("mode", LENGTHS)
@pytest.mark.parametrize("family", FAMILIES)
def test_sanitizers_report_nothing(family, mode, lanes, kind):
    check(kind, "float", family, mode, lanes)


@pytest.mark.parametrize("kind", ["plain", "asan", "tsan"])
@pytest.mark.parametrize("family", FAMILIES)
def test_tensor_core_products(family, kind):
    """Half types alone have them; that the cell is another changes nothing in them."""
    path = driven.built(driven.ONE_CELL, kind, "Half16")
    code, text = driven.run(path, family, "tanh", "tile", "lengths", schedule="random")
    assert code == RIGHT, text
