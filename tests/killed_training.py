"""Trains with SIGKILLs at random moments, and compares with a run that nothing ended.

`python tests/killed_training.py --kills 20` is the long form of test_imdb_train_resume.py.
Every process is called by the same command, which begins the run or goes on with it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import select
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import fastrnn
from fastrnn.imdb.checkpoint import load_checkpoint
from fastrnn.imdb.synthetic import synthetic_reviews, write_folders

# All that draws random numbers, remembers something from step to step, or depends on the step.
SETTINGS = (
    "--cell gru --num-words 300 --maxlen 40 --layers 2 --dropout 0.2 --input-dropout 0.2 "
    "--word-dropout 0.1 --batches bucketed --pooling max-mean --bidirectional --optimizer adamw "
    "--lr 0.01 --schedule linear --warmup-steps 10 --clip-norm 1 --patience 1000 --threads 1"
).split()
SLICE = 0.3
"""Seconds of training in which a kill falls."""


def start(data: Path, folder: Path, epochs: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "fastrnn.imdb", "train", *SETTINGS, "--epochs", str(epochs)]
    return subprocess.Popen(
        [*command, "--data", str(data), "--run-dir", str(folder), "--resume"],
        env=os.environ
        | {
            "PYTHONPATH": str(Path(fastrnn.__file__).parents[1]),
            "FASTRNN_CACHE": str(data.parent / "cache"),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(data: Path, folder: Path, epochs: int) -> None:
    process = start(data, folder, epochs)
    output, _ = process.communicate()
    assert process.returncode == 0, output


def epochs_told(folder: Path) -> int:
    """Epochs in a run's history."""
    history = folder / "history.csv"
    return len(history.read_text().splitlines()) - 1 if history.exists() else 0


def kill_once(data: Path, folder: Path, epochs: int, early: bool, moment: float) -> bool:
    """Kills a process a while after it began to train, or to read; tells if it was alive."""
    before = epochs_told(folder)
    process = start(data, folder, epochs)
    assert process.stdout is not None
    try:
        assert select.select([process.stdout], [], [], 300)[0], "the program says nothing"
        while not early and process.poll() is None:  # until it has written an epoch of its own
            early = epochs_told(folder) > before
            time.sleep(0.002)
        time.sleep(moment)
        alive = process.poll() is None
        assert alive or process.returncode == 0, process.stdout.read()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    return alive


def outcome(folder: Path) -> dict[str, Any]:
    """All of a finished run that does not tell of time."""
    result = json.loads((folder / "result.json").read_text())
    del result["seconds_per_epoch"]
    best, last = (load_checkpoint(folder / name) for name in ("best.pt", "last.pt"))
    assert last.snapshot is not None
    history = [epoch[:-1] for epoch in last.snapshot.history]
    return {
        "result": result,
        "history": history,
        "best": best.model,
        "last": last.model,
        "optimizer": last.snapshot.optimizer,
        "generators": last.snapshot.generators,
        "files": sorted(path.name for path in folder.iterdir()),
    }


def assert_same(first: Any, second: Any) -> None:
    """Compares values and, bit for bit, tensors."""
    assert type(first) is type(second)
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        for name in first:
            assert_same(first[name], second[name])
    elif isinstance(first, torch.Tensor):
        assert torch.equal(first, second)
    else:
        assert first == second


def compare(root: Path, kills: int, epochs: int, seed: int = 0) -> list[int]:
    """Compares a run with so many kills with one without; returns where the kills struck.

    Raises:
        AssertionError: the two differ, or the run ended before all kills were done.
    """
    data = root / "aclImdb"
    write_folders(synthetic_reviews(train=200, test=100), data)
    finish(data, root / "whole", epochs)
    moments, struck = random.Random(seed), []
    for number in range(kills):
        early = number % 5 == 0  # before an epoch, or before anything is written
        moment = moments.uniform(0, SLICE)
        assert kill_once(data, root / "killed", epochs, early, moment), "the run is over too soon"
        last = root / "killed" / "last.pt"
        struck.append(load_checkpoint(last).epoch if last.exists() else 0)
    finish(data, root / "killed", epochs)
    assert_same(outcome(root / "whole"), outcome(root / "killed"))
    return struck


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        epochs = compare(Path(folder), options.kills, options.epochs, options.seed)
    print(
        f"{options.kills} kills, after epochs {epochs} of {options.epochs}: weights, optimizer, "
        f"generators, history and result are those of the run without, to the bit "
        f"({time.perf_counter() - began:.0f} s)"
    )
