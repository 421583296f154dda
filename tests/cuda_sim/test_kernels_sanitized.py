"""The kernels run right under every schedule, and sanitizers have nothing to report."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from . import build, driven
from .driven import ALL_CELLS, FAMILIES, LANES, RIGHT
from .simulator import SCHEDULES

pytestmark = pytest.mark.skipif(build.missing() is not None, reason=str(build.missing()))

# Each family sees each lengths; which mode goes with which does not matter.
LENGTHS = {"lstm": "lengths", "gru": "reverse", "tanh": "even"}


BUILDS = [(ALL_CELLS, kind, "float") for kind in ("plain", "asan", "preempt", "tsan")]
# Half types alone are multiplied on tensor cores, whatever the cell.
BUILDS += [(driven.ONE_CELL, kind, "Half16") for kind in ("plain", "asan", "tsan")]


@pytest.fixture(scope="module")
def programs():
    """Futures by kind and element: all that is built, some while tests run."""
    pool = ThreadPoolExecutor(build.COMPILERS)
    yield {(how[1], how[2]): pool.submit(driven.built, *how) for how in BUILDS}
    pool.shutdown(cancel_futures=True)


@pytest.fixture
def check(programs):
    """Runs a case of driver.cpp, which must be right."""

    def run(kind: str, family: str, mode: str, lanes: str, element: str = "float", **options):
        path = programs[kind, element].result()
        code, text = driven.run(path, family, mode, lanes, LENGTHS[mode], **options)
        assert code == RIGHT, text

    return run


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("mode", LENGTHS)
@pytest.mark.parametrize("family", FAMILIES)
def test_right_in_every_schedule(check, family, mode, lanes, schedule):
    for seed in range(3):
        check("plain", family, mode, lanes, schedule=schedule, seed=seed)


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("mode", LENGTHS)
@pytest.mark.parametrize("family", FAMILIES)
def test_right_where_threads_stop_at_any_basic_block(check, family, mode, lanes):
    for schedule in ("random", "unfair"):
        check("preempt", family, mode, lanes, schedule=schedule, preemption=0.02)


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("mode", LENGTHS)
@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_stale_is_read(check, family, mode, lanes):
    check("plain", family, mode, lanes, read_only=True)


@pytest.mark.parametrize("kind", ["asan", "tsan"])
@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("mode", LENGTHS)
@pytest.mark.parametrize("family", FAMILIES)
def test_sanitizers_report_nothing(check, family, mode, lanes, kind):
    check(kind, family, mode, lanes)


@pytest.mark.parametrize("kind", ["plain", "asan", "tsan"])
@pytest.mark.parametrize("family", FAMILIES)
def test_tensor_core_products(check, family, kind):
    check(kind, family, "tanh", "tile", "Half16", schedule="random")
