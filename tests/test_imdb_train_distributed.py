"""Processes under torchrun train as one process does, and end with a word if one is lost."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import killed_training
import pytest
import torch

import fastrnn
from fastrnn.imdb.distributed import ALONE, Team

pytestmark = [
    pytest.mark.usefixtures("in_empty_folder"),
    pytest.mark.skipif(
        not (torch.distributed.is_available() and torch.distributed.is_gloo_available()),
        reason="needs torch.distributed with gloo",
    ),
]

# 160 training reviews in batches of 53: the last has one review, and a process has none of it.
SETTINGS = (
    "--cell gru --num-words 300 --maxlen 40 --batch-size 53 --batches bucketed --pooling max "
    "--clip-norm 1 --lr 0.01 --patience 100000 --threads 1"
).split()
DROPOUT = "--word-dropout 0.1 --recurrent-dropout 0.2".split()
TORCHRUN = "-m torch.distributed.run --standalone --nproc-per-node=2".split()


def start(data: str, processes: int, *arguments: str) -> subprocess.Popen[str]:
    launcher = TORCHRUN if processes > 1 else []
    command = [*launcher, "-m", "fastrnn.imdb", "train", *SETTINGS, "--data", data]
    return subprocess.Popen(
        [sys.executable, *command, *arguments],
        env=os.environ
        | {
            "PYTHONPATH": str(Path(fastrnn.__file__).parents[1]),
            "FASTRNN_CACHE": str(Path(data).parent / "cache"),
            "OMP_NUM_THREADS": "1",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    try:
        out, err = process.communicate(timeout=240)
    finally:
        process.kill()
    return process.returncode, out, err


def history(folder: str) -> list[dict[str, float]]:
    with Path(folder, "history.csv").open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def test_parts_of_a_batch():
    indices = torch.tensor([5, 3, 8])
    assert [Team(rank, 2).part(indices)[0].tolist() for rank in range(2)] == [[5, 8], [3]]
    shares = [Team(rank, 2).part(indices)[1] for rank in range(2)]
    # Mean losses 3 and 9 of two reviews and of one: the mean of all three is 5.
    assert (3 * shares[0] + 9 * shares[1]) / 2 == pytest.approx(5)
    assert [part.tolist() for part in Team(1, 2).part(indices[:1])[:1]] == [[5]]
    assert Team(1, 2).part(indices[:1])[1] == 0
    own, share = ALONE.part(indices)
    assert (own.tolist(), share) == ([5, 3, 8], 1)


def test_two_processes_train_as_one(data):
    alone = finish(start(data, 1, "--epochs", "3", "--run-dir", "one"))
    team = finish(start(data, 2, "--epochs", "3", "--run-dir", "two"))
    for code, out, err in (alone, team):
        assert code == 0, err
        assert out.count("Reviews:") == out.count("Best epoch") == 1
    assert len(history("two")) == 3
    for ours, wanted in zip(history("two"), history("one"), strict=True):
        for name in ("train_loss", "validation_loss", "validation_accuracy"):
            assert ours[name] == pytest.approx(wanted[name], rel=1e-5)
    scores = [re.search(r"test .*", out).group() for _, out, _ in (alone, team)]
    assert scores[0] == scores[1]


def test_a_mistake_is_told_once(data, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    code, _, err = finish(start(data, 2, "--run-dir", "full"))
    assert code == 1  # torchrun's own
    assert err.count("--run-dir full exists and is not an empty folder") == 1


def processes_of(run: subprocess.Popen[str]) -> dict[int, int]:
    """The process of each rank that torchrun started."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            variables = dict(
                each.split("=", 1) for each in path.read_text().split("\0") if "=" in each
            )
            parent = re.search(r"^PPid:\t(\d+)$", (path.parent / "status").read_text(), re.M)
        except OSError:  # ended meanwhile, or another user's
            continue
        if parent and int(parent.group(1)) == run.pid and "RANK" in variables:
            found[int(variables["RANK"])] = int(path.parent.name)
    return found


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes in /proc")
def test_a_killed_process_ends_all_and_the_run_goes_on_to_the_same_bits(data):
    whole = start(data, 2, *DROPOUT, "--epochs", "60", "--run-dir", "whole")
    code, _, err = finish(whole)
    assert code == 0, err
    command = (*DROPOUT, "--epochs", "60", "--run-dir", "killed")
    run = start(data, 2, *command)
    end = time.monotonic() + 240
    while not Path("killed/history.csv").exists() or len(history("killed")) < 3:
        assert run.poll() is None and time.monotonic() < end
        time.sleep(0.01)
    os.kill(processes_of(run)[1], signal.SIGKILL)
    code, _, err = finish(run)
    assert code == 1
    assert err.count("process 0: another process of this training ended") == 1
    assert "the last complete epoch is in killed/last.pt" in err
    assert 3 <= len(history("killed")) < 60
    code, _, err = finish(start(data, 2, *command, "--resume"))
    assert code == 0, err
    killed_training.assert_same(
        killed_training.outcome(Path("whole")), killed_training.outcome(Path("killed"))
    )
