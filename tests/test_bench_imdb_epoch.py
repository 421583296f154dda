"""The program that times the IMDB epoch: on tiny work, and on figures that the test makes up."""

import importlib.util
import json

import pytest

from benchmarks import imdb_epoch
from benchmarks.imdb_loops import Job, run
from benchmarks.timing import Spread

TINY = {"threads": 1, "sequences": 130, "epochs": 2}


def test_job_runs_in_a_process_of_its_own():
    found = imdb_epoch.run_job(Job("fastrnn", ("GRU",), **TINY))
    ours = run(Job("fastrnn", ("GRU",), **TINY))
    assert found["GRU"]["losses"] == ours["GRU"]["losses"]
    assert len(found["GRU"]["seconds"]) == TINY["epochs"]


def test_torch_and_fastrnn_learn_the_same_in_the_same_loop():
    jobs = {name: Job(name, ("RNN", "LSTM", "GRU"), **TINY) for name in ("torch", "fastrnn")}
    results = {name: run(job) for name, job in jobs.items()}
    imdb_epoch.check_losses(results)
    for cell, result in results["fastrnn"].items():
        losses = result["losses"]
        assert losses == pytest.approx(results["torch"][cell]["losses"], abs=1e-5)
        assert (len(result["seconds"]), len(result["cpu_seconds"]), len(losses)) == (2, 2, 3)
        assert all(0 < cpu for cpu in result["cpu_seconds"])
        assert len(set(losses)) == 3, "nothing was learnt"


def result(seconds, loss=0.5):
    losses = [loss] * (1 + len(seconds))
    return {"GRU": {"seconds": seconds, "cpu_seconds": [0.25] * len(seconds), "losses": losses}}


@pytest.mark.parametrize("loss", [0.52, float("nan")])
def test_engines_that_learn_differently_are_not_compared(loss):
    with pytest.raises(ValueError, match=r"GRU: fastrnn's loss of epoch 1 is .*, torch.nn's 0.5"):
        imdb_epoch.check_losses({"torch": result([1.0]), "fastrnn": result([1.0], loss)})


def test_ratios_are_of_the_same_round():
    # The machine slows down tenfold in the second round.
    rounds = [
        {"torch": result([3.0, 4.0, 9.0]), "fastrnn": result([2.0]), "floor": result([1.0])},
        {"torch": result([40.0]), "fastrnn": result([20.0]), "floor": result([10.0])},
    ]
    row = imdb_epoch.make_row("GRU", 1, rounds)
    assert row["cpu_seconds"] == {"torch": 0.25, "fastrnn": 0.25, "floor": 0.25}
    assert row["seconds"]["torch"] == vars(Spread(13.0, 22.0, 31.0))
    assert row["ratio"] == {
        "torch": vars(Spread(2.0, 2.0, 2.0)),
        "floor": vars(Spread(0.5, 0.5, 0.5)),
    }


def test_lines_name_the_rivals_that_win_but_not_the_floor():
    rounds = [
        {"torch": result([3.0]), "fastrnn": result([2.0]), "keras-jax": result([1.0])}
        | {"floor": result([0.5])}
    ] * 2
    torch, ours, keras, floor = imdb_epoch.lines(imdb_epoch.make_row("GRU", 2, rounds))
    assert (
        torch.split() == "2 GRU torch 3.000 (3.000 to 3.000) 0.250 1.500 (1.500 to 1.500)".split()
    )
    assert ours.split() == "2 GRU fastrnn 2.000 (2.000 to 2.000) 0.250".split()
    assert keras.split()[-6:] == "(0.500 to 0.500) fastrnn is slower".split()
    assert floor.endswith("0.250 (0.250 to 0.250)")


def test_program_runs_what_is_installed_and_says_what_is_not(tmp_path, monkeypatch, capsys):
    found = importlib.util.find_spec
    missing = lambda name: None if name == "jax" else found(name)  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", missing)
    monkeypatch.setattr(imdb_epoch, "run_job", run)  # in this process: torch takes long to import
    path = tmp_path / "epoch.json"
    options = "--cells RNN --threads 1 --rounds 2 --epochs 1 --sequences 130".split()
    imdb_epoch.main([*options, "--json", str(path)])
    results = json.loads(path.read_text())
    assert results["skipped"] == ["keras-jax"]
    assert results["job"] == {"sequences": 130, "batch": 64, "epochs": 1}
    (row,) = results["rows"]
    assert set(row["seconds"]) == {"torch", "fastrnn", "floor"}
    assert all(0 < spread["median"] < 60 for spread in row["seconds"].values())
    printed = capsys.readouterr().out
    assert "Not run, its packages are missing: keras-jax" in printed
    assert printed.splitlines()[-3:] == imdb_epoch.lines(row)
