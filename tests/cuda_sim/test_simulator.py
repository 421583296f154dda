"""The simulator finds what is wrong in small kernels, and runs right ones right."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from . import build
from .fixtures import library
from .fixtures.library import LAUNCH_FAILURE, SUCCESS, call
from .simulator import SCHEDULES, Simulator

pytestmark = pytest.mark.skipif(build.missing() is not None, reason=str(build.missing()))


@pytest.fixture
def plain():
    """The kernels without mutation, on the default device."""
    simulator = library.kernels()
    simulator.schedule("inorder")
    yield simulator
    simulator.device()
    simulator.check_read_only(False)


@pytest.fixture(params=["plain", "preempt", "portable"])
def any_kind(request):
    return library.kernels(request.param)


def nan(*shape: int) -> np.ndarray:
    return np.full(shape, np.nan, np.float32)


def run_neighbours(simulator: Simulator, blocks: int = 3, threads: int = 96) -> bool:
    """Whether the kernel's result is right."""
    out = nan(3, blocks, threads)
    assert call(simulator, "neighbours", blocks, threads, out) == SUCCESS, simulator.error()
    neighbour = np.roll(np.arange(threads), -1) * 10
    return np.array_equal(out, neighbour + np.arange(3)[:, None, None] + np.zeros((blocks, 1)))


def run_relay(simulator: Simulator, blocks: int = 4, count: int = 8) -> bool:
    rounds = nan(count, blocks)
    assert call(simulator, "relay", blocks, 1, rounds, count) == SUCCESS, simulator.error()
    want = [np.roll(100.0 + np.arange(blocks), -i) + i for i in range(count)]
    return np.array_equal(rounds, want)


def run_warp_pairs(simulator: Simulator) -> bool:
    out = nan(64)
    assert call(simulator, "warp_pairs", out) == SUCCESS, simulator.error()
    return np.array_equal(out, np.arange(64) ^ 1)


RUNS = {"neighbours": run_neighbours, "relay": run_relay, "warp_pairs": run_warp_pairs}


def test_threads_know_their_place(plain):
    out = np.zeros((12, 24), np.uint32)
    assert call(plain, "indices", out) == SUCCESS
    assert np.array_equal(out, 1 + np.arange(24) + 1000 * np.arange(12)[:, None])


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", RUNS)
def test_right_kernels_run_right_in_each_schedule(any_kind, name, schedule):
    for seed in range(5):
        any_kind.schedule(schedule, seed, preemption=0.2, resident_blocks=1 + seed)
        assert RUNS[name](any_kind)
        assert any_kind.error() == ""


def test_shuffles(plain):
    out = np.zeros((5, 32), np.int32)
    assert call(plain, "shuffles", out) == SUCCESS
    lane = np.arange(32)
    assert np.array_equal(out[0], np.full(32, lane.sum()))
    assert np.array_equal(out[1], np.where(lane % 8 >= 3, lane - 3, lane))
    assert np.array_equal(out[2], np.where(lane % 8 < 5, lane + 3, lane))
    assert np.array_equal(out[3], lane // 16 * 16 + 5)
    assert np.array_equal(out[4], np.where(lane < 16, 2 * (lane ^ 1), lane))


BUGS = [
    ("divergent __syncthreads", 0),
    ("a thread exits while others of its block wait", 0),
    ("__syncthreads after another thread of the block has exited", 0),
    ("deadlock: all threads wait", 1),
    ("shuffle from a lane that is not in the mask", 0),
    ("the mask names lanes that have exited or never were", 0),
    ("a lane is not in its own mask", 0),
    ("lanes of a warp disagree on operation, mask or line", 0),
    ("a write behind the end of shared memory", 0),
    ("misaligned address", 0),
    ("a thread exits while others wait in grid.sync", 1),
    ("a lane exits that others of its warp wait for", 0),
]


@pytest.mark.parametrize("number", range(len(BUGS)), ids=[bug for bug, _ in BUGS])
def test_an_error_of_a_kernel_ends_the_launch_and_no_more(plain, number):
    message, cooperative = BUGS[number]
    data = np.zeros(64, np.float32)
    assert call(plain, "wrong", number, cooperative, data) == LAUNCH_FAILURE
    assert plain.error().startswith(message)
    assert run_neighbours(plain)
    assert plain.error() == ""


def test_an_error_says_where_it_is_and_what_others_do(plain):
    call(plain, "wrong", 0, 0, np.zeros(64, np.float32))
    source = (build.ROOT / library.KERNELS).read_text().splitlines()
    lines = [number for number, line in enumerate(source, 1) if line == "        __syncthreads();"]
    assert f"at {library.KERNELS}:{lines[1]} in " in plain.error()
    assert "thread (32, 0, 0) of block (0, 0, 0)\n" in plain.error()
    waiting = f"32 threads of block (0, 0, 0) wait in __syncthreads, line {lines[0]}"
    assert waiting in plain.error()


def test_a_grid_barrier_wants_a_cooperative_launch(plain):
    assert call(plain, "relay", 4, 0, nan(3, 4), 3) == LAUNCH_FAILURE
    assert plain.error().startswith("grid.sync in a launch that is not cooperative")


@pytest.mark.parametrize(
    ("name", "mutation"),
    [
        ("neighbours", library.NO_BARRIER),
        ("neighbours", library.NO_SECOND_BARRIER),
        ("relay", library.NO_GRID_BARRIER),
        ("warp_pairs", library.NO_WARP_BARRIER),
    ],
    ids=["read after write", "write after read", "grid", "warp"],
)
def test_a_missing_barrier_gives_wrong_results_or_a_race(name, mutation):
    simulator = library.kernels("preempt", mutation)
    wrong = 0
    for seed in range(20):
        simulator.schedule("unfair", seed, preemption=0.05)
        wrong += not RUNS[name](simulator)
    assert wrong >= 10
    for schedule in ("inorder", "random"):
        races = build.run(library.program("tsan", mutation), name, schedule)
        assert races.returncode == 66
        assert "data race" in races.stderr
        assert f"{library.KERNELS}:" in races.stderr


def test_schedules_differ():
    simulator = library.kernels("plain", library.NO_BARRIER)
    orders = {}
    for schedule in SCHEDULES:
        simulator.schedule(schedule, seed=3)
        out = nan(3, 1, 64)
        call(simulator, "neighbours", 1, 64, out)
        orders[schedule] = np.isnan(out[0]).tobytes()
    assert len(set(orders.values())) == len(SCHEDULES)


def test_preemption_changes_threads_between_basic_blocks():
    simulator = library.kernels("preempt")
    counts = []
    for preemption in (0.0, 0.3):
        counter = np.zeros(1, np.int32)
        simulator.schedule("random", 1, preemption, resident_blocks=4)
        assert call(simulator, "count", 4, counter) == SUCCESS
        counts.append(counter[0])
    assert counts[0] == 4 * 64
    assert counts[1] < 4 * 64


@pytest.mark.parametrize("kind", ["asan", "tsan"])
@pytest.mark.parametrize("name", RUNS)
def test_sanitizers_find_nothing_in_right_kernels(kind, name):
    for schedule in ("inorder", "unfair"):
        result = build.run(library.program(kind), name, schedule)
        assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("shared_overflow", "use-after-poison"),
        ("behind_the_end", "heap-buffer-overflow"),
        ("wide_load", "requires 16 byte alignment"),
        ("divergent", "cuda_sim: divergent __syncthreads"),
    ],
)
def test_programs_end_at_an_error(name, message):
    result = build.run(library.program("asan"), name)
    assert result.returncode not in (0, 2)
    assert message in result.stderr
    assert f"{library.KERNELS}:" in result.stderr


def test_the_read_only_cache_wants_memory_that_stays(plain):
    data, out = np.zeros(64, np.float32), nan(32)
    assert call(plain, "update", data) == SUCCESS  # unnoticed without asking
    plain.check_read_only(True)
    for name in ("update", "write_then_read_only"):
        data = nan(64)
        data[:32] = 5
        assert call(plain, name, data) == LAUNCH_FAILURE
        assert plain.error().startswith("stale read-only cache")
        assert f"at {library.KERNELS}:" in plain.error()
    for _ in range(2):
        data = np.arange(33, dtype=np.float32)[1:]  # no multiple of 16 bytes
        assert call(plain, "read_only", data, out) == SUCCESS, plain.error()
        assert np.array_equal(out, np.roll(data, -1))


REFUSED = [
    ((1, 1025, 0, 0, 0), library.INVALID_CONFIGURATION, "1025 threads"),
    ((0, 32, 0, 0, 0), library.INVALID_CONFIGURATION, "0 blocks"),
    ((1, 32, 65536, 0, 0), library.INVALID_VALUE, "65536 bytes of shared memory"),
    ((1, 32, 0, 100001, 0), library.INVALID_VALUE, "the device allows 100000"),
    ((9, 1024, 4096, 0, 1), library.COOPERATIVE_LAUNCH_TOO_LARGE, "runs 8 at once"),
]


@pytest.mark.parametrize(("shape", "error", "message"), REFUSED, ids=[r[2] for r in REFUSED])
def test_what_a_device_refuses(plain, shape, error, message):
    plain.device(multiprocessors=4, shared_per_block=100000)
    assert call(plain, "shape", *shape, nan(1)) == error
    assert message in plain.error()


def test_what_a_device_allows(plain):
    out = nan(3, 8, 1024)
    plain.device(multiprocessors=4, shared_per_block=100000, shared_per_multiprocessor=202048)
    assert call(plain, "shape", 8, 1024, 100000, 100000, 1, out) == SUCCESS, plain.error()
    blocks, major = ctypes.c_int(), ctypes.c_int()
    occupancy = plain.library.cudaOccupancyMaxActiveBlocksPerMultiprocessor
    assert occupancy(ctypes.byref(blocks), None, 96, ctypes.c_size_t(20000)) == SUCCESS
    assert blocks.value == min(2048 // 96, 202048 // 21024)
    plain.device(compute_capability=80)
    assert plain.library.cudaDeviceGetAttribute(ctypes.byref(major), 75, 0) == SUCCESS
    assert major.value == 8


def test_an_unknown_schedule_is_refused(plain):
    with pytest.raises(ValueError, match="schedule 'fair' is none of"):
        plain.schedule("fair")
