"""Two processes train as one does on the same batches: DistributedDataParallel and FSDP2."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import distributed_training
import pytest
import torch
from tolerances import assert_matches

import fastrnn

WORLD_SIZE = 2

pytestmark = pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()),
    reason="needs torch.distributed with gloo",
)


def start(rank: int, folder: Path) -> subprocess.Popen[str]:
    paths = [Path(fastrnn.__file__).parents[1], Path(__file__).parent]
    arguments = [rank, WORLD_SIZE, folder / "store", folder / f"{rank}.pt"]
    return subprocess.Popen(
        [sys.executable, distributed_training.__file__, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths))},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[Any, Any]]:
    """What each process wrote. They meet by a file, not by a port that another may have."""
    folder = tmp_path_factory.mktemp("distributed")
    processes = [start(rank, folder) for rank in range(WORLD_SIZE)]
    try:
        for process in processes:
            output, _ = process.communicate(timeout=240)
            assert process.returncode == 0, output
    finally:
        for process in processes:
            process.kill()
    return [torch.load(folder / f"{rank}.pt") for rank in range(WORLD_SIZE)]


@pytest.mark.parametrize("case", distributed_training.CASES, ids="-".join)
def test_two_processes_equal_one(case, results):
    _, mode = case
    expected_losses, expected_state = distributed_training.train("alone", mode, 0, 1)
    assert len(set(expected_losses)) == 4
    parts = [result[case][0] for result in results]
    losses = [sum(part) / WORLD_SIZE for part in zip(*parts, strict=True)]
    assert losses == pytest.approx(expected_losses, rel=1e-5)
    for result in results:
        assert_matches(result[case][1], expected_state)
