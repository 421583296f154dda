"""A model of the CUDA kernels' steps on known GPUs: what a plan moves, computes and waits for.

Nothing here was ever measured. The cycles are those by which csrc/cuda/plan.cpp ranks plans; the
counts follow from the plan. The input product and the products of gradients are torch's, and not in
it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.cases import GATES, Shape
from fastrnn import _C, reference

LABEL = "modelled, never measured"
REGISTERS = 65536  # of a multiprocessor, on all of these
RESERVED_BYTES = 1024  # of shared memory for each block, by CUDA itself
TILES = {"tile": (16, 8), "depth": (2, 2)}
MODES = {"RNN": "RNN_TANH", "LSTM": "LSTM", "GRU": "GRU"}


@dataclass(frozen=True)
class Device:
    """A GPU as NVIDIA's tables have it.

    Attributes:
        limits: what plans depend on, as `_C.cuda_plan` takes it.
        shared_bytes: of a multiprocessor.
        threads: that a multiprocessor holds at once.
        ghz: clock when busy, about.
    """

    limits: dict[str, int]
    shared_bytes: int
    threads: int
    ghz: float


def _device(
    multiprocessors: int, block_kib: int, kib: int, capability: int, threads: int, ghz: float
) -> Device:
    limits = {
        "multiprocessors": multiprocessors,
        "shared_bytes": 1024 * block_kib,
        "compute_capability": capability,
    }
    return Device(limits, 1024 * kib, threads, ghz)


DEVICES = {
    "A100": _device(108, 163, 164, 80, 2048, 1.41),
    "H100": _device(132, 227, 228, 90, 2048, 1.83),
    "B200": _device(148, 227, 228, 100, 2048, 1.9),
    "RTX 4090": _device(128, 99, 100, 89, 1536, 2.52),
    "L4": _device(58, 99, 100, 89, 1536, 2.04),
    "T4": _device(40, 64, 64, 75, 1024, 1.59),
}
SHAPES = tuple(Shape(100, 32, H, H) for H in (32, 128, 512, 2048))


@dataclass(frozen=True)
class Step:
    """One step of one recurrence on all blocks.

    Attributes:
        multiply_adds: that the layer needs; done_multiply_adds: with those of the tiles' edges.
        shared_read_bytes: operands from shared memory to registers, once for each warp.
        staged_bytes: from the second-level cache to shared memory.
        state_bytes: inputs and results of the cells, from and to global memory at least once.
        block_barriers: of each block.
        grid_barriers: of all blocks.
        launches: of a kernel; block plans and grid plans have one for all steps.
        blocks_per_multiprocessor: that fit at once if each thread has as many registers as the
            kernel may use.
        us: the modelled cycles at the device's clock.
    """

    multiply_adds: int
    done_multiply_adds: int
    shared_read_bytes: int
    staged_bytes: int
    state_bytes: int
    block_barriers: int
    grid_barriers: int
    launches: int
    blocks_per_multiprocessor: int
    us: float


def plan(cell: str, shape: Shape, element_bytes: int, backward: bool, device: Device) -> Any:
    """The kernels' plan of one direction of one layer.

    Raises:
        ValueError: there are no kernels for this device, with the reason.
    """
    mode = reference.MODES.index(MODES[cell])
    return _C.cuda_plan(mode, element_bytes, backward, shape.T, shape.B, shape.H, **device.limits)


def step(
    plan: dict[str, Any],
    cell: str,
    shape: Shape,
    element_bytes: int,
    backward: bool,
    device: Device,
) -> Step:
    """Counts what a step of a plan does."""
    gates, scope = GATES[cell], plan["scope"]
    products, depth = (1, gates * shape.H) if backward else (gates, shape.H)
    tile_rows, tile_units = TILES[plan["lanes"]]
    blocks = plan["row_blocks"] * plan["unit_blocks"]
    warps, chunks = blocks * plan["warps"], -(-depth // plan["depth_chunk"])
    staged_rows = {"block": 0, "grid": plan["rows"], "launch": plan["rows"]}[scope]
    if scope == "launch":
        staged_rows += products * plan["units"]
    return Step(
        multiply_adds=shape.B * gates * shape.H * shape.H,
        done_multiply_adds=warps * tile_rows * tile_units * products * depth,
        shared_read_bytes=warps * (tile_rows + products * tile_units) * depth * element_bytes,
        staged_bytes=blocks * staged_rows * depth * element_bytes,
        state_bytes=shape.B * shape.H * state_bytes(cell, element_bytes, backward),
        block_barriers=1 if scope == "block" else 2 * chunks,
        grid_barriers=int(scope == "grid"),
        launches=int(scope == "launch"),
        blocks_per_multiprocessor=occupancy(plan, element_bytes, device),
        us=plan["step_cycles"] / (1e3 * device.ghz),
    )


def state_bytes(cell: str, element_bytes: int, backward: bool) -> int:
    """What training reads and writes for each pair of row and unit beside the products."""
    gates, sums = GATES[cell], {"RNN": 1, "LSTM": 4, "GRU": 4}[cell]
    saved = {"RNN": 0, "LSTM": 5, "GRU": 4}[cell]
    wide = 2 * max(element_bytes, 4)  # in and out, in the dtype that is computed in
    if backward:
        # The gradient of the output, what forward kept or else the output, the state before, and
        # the gradients of all sums out.
        elements = 1 + max(saved, 1) + (saved > 0) + sums
        return elements * element_bytes + wide * (2 if cell == "LSTM" else 1)
    # Input sums, GRU's state before, and out what is kept and the output; LSTM's c.
    elements = gates + (cell == "GRU") + saved + 1
    return elements * element_bytes + (wide if cell == "LSTM" else 0)


def occupancy(plan: dict[str, Any], element_bytes: int, device: Device) -> int:
    """Blocks that a multiprocessor holds at once."""
    threads = 32 * plan["warps"]
    registers = {2: 128, 4: 168, 8: 255}[element_bytes]
    of_warp = -(-32 * registers // 256) * 256  # registers are given out by 256
    return int(
        min(
            device.shared_bytes // (plan["shared_bytes"] + RESERVED_BYTES),
            REGISTERS // (of_warp * plan["warps"]),
            device.threads // threads,
        )
    )


def rows(
    devices: dict[str, Device],
    shapes: Iterable[Shape] = SHAPES,
    cells: Iterable[str] = ("LSTM", "GRU"),
    sizes: Iterable[int] = (2, 4),
) -> list[dict[str, Any]]:
    """The model of each device, cell, shape, size of element and direction."""
    found: list[dict[str, Any]] = []
    for name, device in devices.items():
        for cell in cells:
            for shape in shapes:
                for size in sizes:
                    for backward in (False, True):
                        key = {
                            "device": name, "cell": cell, "shape": str(shape),
                            "element_bytes": size, "backward": backward,
                        }  # fmt: skip
                        try:
                            chosen = plan(cell, shape, size, backward, device)
                        except ValueError as error:
                            found.append({**key, "refused": str(error)})
                            continue
                        counted = step(chosen, cell, shape, size, backward, device)
                        found.append({**key, "plan": chosen, "step": asdict(counted)})
    return found


HEADER = (
    f"{'device':10}{'cell':5}{'T,B,I,H':17}{'bytes':>5} {'pass':9}{'plan':7}{'blocks':>14}"
    f"{'warps':>6}{'per SM':>7}{'KiB':>6}{'MFMA':>8}{'useful':>7}{'shared MB':>10}{'L2 MB':>8}"
    f"{'us a step':>10}"
)


def lines(rows: Iterable[dict[str, Any]]) -> list[str]:
    """The table in plain text; a refused device has one line."""
    found = [f"One step of the recurrence, {LABEL}:", HEADER]
    for row in rows:
        if "refused" in row:
            text = f"{row['device']:10}refused: {row['refused']}"
            if text not in found:
                found.append(text)
            continue
        plan, step = row["plan"], row["step"]
        useful = step["multiply_adds"] / step["done_multiply_adds"]
        blocks = f"{plan['row_blocks']} x {plan['unit_blocks']}"
        found.append(
            f"{row['device']:10}{row['cell']:5}{row['shape']:17}{row['element_bytes']:5} "
            f"{'backward' if row['backward'] else 'forward':9}{plan['scope']:7}{blocks:>14}"
            f"{plan['warps']:6}{step['blocks_per_multiprocessor']:7}"
            f"{plan['shared_bytes'] / 1024:6.0f}{step['done_multiply_adds'] / 1e6:8.2f}"
            f"{useful:7.0%}{step['shared_read_bytes'] / 1e6:10.2f}"
            f"{(step['staged_bytes'] + step['state_bytes']) / 1e6:8.2f}{step['us']:10.2f}"
        )
    return found
