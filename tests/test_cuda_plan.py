"""The plans of the CUDA kernels: they fit the GPU, cover the layer, and choose the right family."""

import itertools

import pytest

from benchmarks.gpu_model import DEVICES
from fastrnn import _C

MODES = {"tanh": (0, 1), "relu": (1, 1), "LSTM": (2, 4), "GRU": (3, 3)}
TILES = {"tile": (16, 8), "depth": (2, 2)}
SUPPORTED = {name: device.limits for name, device in DEVICES.items() if name != "T4"}
BATCHES = (1, 3, 32, 257)
HIDDEN = (1, 8, 33, 100, 256, 1000, 4096)


def padded(size):
    """Bytes from row to row: 16 more than a multiple of all banks."""
    return -(-size // 128) * 128 + 16


def make(limits, mode=3, element_bytes=4, backward=False, T=100, B=32, H=256):
    return _C.cuda_plan(mode, element_bytes, backward, T, B, H, **limits)


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("element_bytes", [2, 4, 8])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("device", SUPPORTED)
def test_plans_fit_and_cover(device, mode, element_bytes, backward):
    limits = SUPPORTED[device]
    index, gates = MODES[mode]
    for B, H in itertools.product(BATCHES, HIDDEN):
        plan = make(limits, index, element_bytes, backward, B=B, H=H)
        where = f"B={B}, H={H}: {plan}"
        tile_rows, tile_units = TILES[plan["lanes"]]
        assert plan["rows"] % tile_rows == 0 and plan["units"] % tile_units == 0, where
        assert plan["warps"] == plan["rows"] // tile_rows * (plan["units"] // tile_units), where
        # 64 K registers leave so many threads 255, 168 or 128 each.
        assert 1 <= plan["warps"] <= {2: 16, 4: 12, 8: 8}[element_bytes], where
        assert 0 < plan["shared_bytes"] <= limits["shared_bytes"], where
        # All rows and units, and no block without any.
        for blocks, size, count in (("row_blocks", "rows", B), ("unit_blocks", "units", H)):
            assert (plan[blocks] - 1) * plan[size] < count <= plan[blocks] * plan[size], where
        depth, chunk = H * gates if backward else H, plan["depth_chunk"]
        assert chunk == depth or (64 <= chunk < depth and chunk & (chunk - 1) == 0), where
        # What the kernel lays out: the left operand, twice where it takes turns, and the weights.
        left = plan["rows"] * padded(chunk * element_bytes) * (2 if plan["scope"] == "block" else 1)
        columns = chunk if plan["scope"] == "launch" else depth
        products = 1 if backward else gates
        weights = products * plan["units"] * padded(columns * element_bytes)
        assert plan["shared_bytes"] == left + weights, where
        if plan["scope"] == "block":
            assert plan["unit_blocks"] == 1 and chunk == depth, where
        if plan["scope"] == "grid":  # all blocks must run at once
            assert plan["row_blocks"] * plan["unit_blocks"] <= limits["multiprocessors"], where
        assert plan["step_cycles"] > 0 and "modelled" in plan["reason"], where


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize(
    ("H", "element_bytes", "scope"),
    [(8, 2, "block"), (8, 8, "block"), (256, 2, "grid"), (8192, 2, "launch"), (8192, 8, "launch")],
)
@pytest.mark.parametrize("device", SUPPORTED)
def test_families(device, H, element_bytes, scope, backward):
    assert make(SUPPORTED[device], 3, element_bytes, backward, H=H)["scope"] == scope


def test_larger_shared_memory_keeps_larger_weights_on_the_chip():
    scopes = {name: make(SUPPORTED[name], H=1024)["scope"] for name in ("A100", "H100")}
    assert scopes == {"A100": "launch", "H100": "grid"}


def test_the_same_question_has_the_same_answer():
    for device in SUPPORTED.values():
        assert make(device) == make(device)


def test_older_gpus_are_refused_with_the_reason():
    with pytest.raises(ValueError, match=r"8\.0 \(Ampere\) or newer, this GPU has 7\.5"):
        make(DEVICES["T4"].limits)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        *(({name: size}, "must be positive") for name in "TBH" for size in (0, -1)),
        ({"H": 2**24 + 1}, "no more than 2\\^24"),
        ({"element_bytes": 1}, "2, 4 or 8 bytes, got 1"),
        ({"mode": 4}, "mode must be 0 to 3"),
        ({"mode": -1}, "mode must be 0 to 3"),
    ],
)
def test_wrong_sizes_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        make(SUPPORTED["H100"], **wrong)


def test_too_little_shared_memory_is_refused():
    with pytest.raises(ValueError, match="no plan fits 100 bytes of shared memory"):
        make({**SUPPORTED["H100"], "shared_bytes": 100})
