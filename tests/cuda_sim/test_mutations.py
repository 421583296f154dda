"""Bugs planted in the CUDA kernels are found: each by the checks that the table names.

What the kernels themselves pass is in test_kernels_sanitized.py, with the same checks.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from . import build, driven
from .build import Mutation
from .driven import ONE_CELL, SIMULATOR_ERROR, WRONG
from .simulator import SCHEDULES

pytestmark = pytest.mark.skipif(build.missing() is not None, reason=str(build.missing()))

RECURRENCE, NUMBER = "csrc/cuda/recurrence.cuh", "csrc/cuda/number.cuh"
PASSES, MULTIPLY = "csrc/cuda/passes.cuh", "csrc/cuda/multiply.cuh"

# The build in which each check runs. "wrong": some schedule gives a wrong result. "error": the
# simulator stops. "read only": what went through the read-only cache has changed.
KINDS = {
    "wrong": "plain",
    "error": "plain",
    "read only": "plain",
    "asan": "asan",
    "ubsan": "asan",
    "tsan": "tsan",
}
SAYS = {
    "asan": "AddressSanitizer",
    "ubsan": "runtime error",
    "tsan": "data race",
    "read only": "stale read-only cache",
}


@dataclass(frozen=True)
class Bug:
    """A mutation, the families and lanes that have it, and the checks that find it in each."""

    mutation: Mutation
    cases: tuple[tuple[str, str], ...]
    found_by: tuple[str, ...]
    element: str = "float"


def pairs(*families: str, lanes: str = "depth") -> tuple[tuple[str, str], ...]:
    return tuple((family, lanes) for family in families)


BUGS = {
    "no barrier after staging": Bug(
        Mutation(
            RECURRENCE,
            "stage_weights(first, columns);\n        __syncthreads();",
            "stage_weights(first, columns);",
        ),
        pairs("grid", "launch"),
        ("wrong", "tsan"),
    ),
    "no barrier after the first staging": Bug(
        Mutation(
            RECURRENCE,
            "    __syncthreads();\n  }\n\n  __device__ void step",
            "  }\n\n  __device__ void step",
        ),
        pairs("block"),
        ("wrong", "tsan"),
    ),
    "no grid-wide barrier": Bug(
        Mutation(RECURRENCE, "cooperative_groups::this_grid().sync()", "__syncthreads()"),
        pairs("grid") + pairs("grid", lanes="tile"),
        ("wrong", "tsan"),
    ),
    "one buffer of the left operand": Bug(
        Mutation(RECURRENCE, "other_left = {data, left_stride};", "other_left = left;"),
        pairs("block") + pairs("block", lanes="tile"),
        ("wrong", "tsan"),
    ),
    "no barrier at the end of a step": Bug(
        Mutation(RECURRENCE, "if (tiling.scope == Scope::kBlock) __syncthreads();", ""),
        pairs("block") + pairs("block", lanes="tile"),
        ("wrong", "tsan"),
    ),
    "no barrier before the next chunk": Bug(
        Mutation(RECURRENCE, "if (tiling.scope != Scope::kBlock) __syncthreads();", ""),
        pairs("grid", "launch"),
        ("wrong", "tsan"),
    ),
    "a barrier for some warps": Bug(
        Mutation(
            RECURRENCE,
            "if (tiling.scope == Scope::kBlock) __syncthreads();",
            "if (threadIdx.x < 32) __syncthreads();",
        ),
        pairs("block", "grid", "launch"),
        ("error",),
    ),
    "some warps leave early": Bug(
        Mutation(RECURRENCE, "(begin, block.row))", "(begin, block.row + threadIdx.x / 32))"),
        pairs("launch"),
        ("error",),
    ),
    "a shuffle for some lanes": Bug(
        Mutation(MULTIPLY, "sum += __shfl", "if (lane_index() < 16) sum += __shfl"),
        pairs("block", "grid", "launch"),
        ("error",),
    ),
    "a row behind shared memory": Bug(
        Mutation(RECURRENCE, "r < rows; r += warps", "r <= rows; r += warps"),
        pairs("block", "grid", "launch"),
        ("asan",),
    ),
    "reads behind a row": Bug(
        Mutation(NUMBER, "if (i < n) pack.at[i]", "pack.at[i]"),
        pairs("block", "grid", "launch"),
        ("asan",),
    ),
    "writes behind the rows": Bug(
        Mutation(PASSES, "if (row >= steps.rows(t)) return false;", ""),
        pairs("block", "grid", "launch"),
        ("asan",),
    ),
    "units that there are not": Bug(
        Mutation(RECURRENCE, " && unit_of(pair) < pass.units()", ""),
        pairs("grid", "launch") + pairs("block", lanes="tile"),
        ("asan",),
    ),
    "wide loads without alignment": Bug(
        Mutation(NUMBER, " && reinterpret_cast<uintptr_t>(from) % sizeof(Pack<E>) == 0", ""),
        pairs("block", "grid", "launch"),
        ("error",),
    ),
    "packs from a stale cache": Bug(
        Mutation(NUMBER, "__ldcg(reinterpret_cast<const uint4*>", "__ldg((const uint4*)"),
        pairs("grid", lanes="tile"),
        ("read only",),
    ),
    "elements from a stale cache": Bug(
        Mutation(NUMBER, "return __ldcg(from);", "return __ldg(from);"),
        pairs("grid"),
        ("read only",),
    ),
    "halves of a fragment exchanged": Bug(
        Mutation(MULTIPLY, "{two(weight), two(weight + 8)}", "{two(weight + 8), two(weight)}"),
        pairs("block", "grid", "launch", lanes="tile"),
        ("wrong",),
        "Half16",
    ),
    "a fragment without alignment": Bug(
        Mutation(MULTIPLY, "two(weight + 8)}", "two(weight + 7)}"),
        pairs("block", "grid", "launch", lanes="tile"),
        ("ubsan",),
        "Half16",
    ),
}


def build_kinds(bug: Bug) -> dict[str, Path]:
    """One after the other, since all are built from the same mutated copy."""
    kinds = sorted({KINDS[check] for check in bug.found_by})
    return {kind: driven.built(ONE_CELL, kind, bug.element, bug.mutation) for kind in kinds}


@pytest.fixture(scope="module")
def programs():
    """All that is built, some while tests run."""
    pool = ThreadPoolExecutor(build.COMPILERS)
    futures: dict[str, Future[dict[str, Path]]] = {
        name: pool.submit(build_kinds, bug) for name, bug in BUGS.items()
    }
    yield futures
    pool.shutdown(cancel_futures=True)


def is_wrong_somewhere(path: Path, family: str, lanes: str) -> bool:
    return any(
        driven.run(path, family, "tanh", lanes, "even", schedule, seed)[0] == WRONG
        for schedule in SCHEDULES
        for seed in range(10)
    )


@pytest.mark.parametrize(
    ("name", "family", "lanes", "check"),
    [
        pytest.param(name, *case, check, id="-".join((name, *case, check)))
        for name, bug in BUGS.items()
        for case in bug.cases
        for check in bug.found_by
    ],
)
def test_a_planted_bug_is_found(programs, name, family, lanes, check):
    path = programs[name].result()[KINDS[check]]
    if check == "wrong":
        assert is_wrong_somewhere(path, family, lanes)
        return
    lengths = "lengths" if check == "error" else "even"
    code, text = driven.run(path, family, "tanh", lanes, lengths, read_only=check == "read only")
    if path.suffix == ".so":
        assert code == SIMULATOR_ERROR, text
    else:
        assert code != 0
    assert SAYS.get(check, "") in text
