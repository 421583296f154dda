"""The program that runs the presets with goals."""

from __future__ import annotations

import json

import pytest

from benchmarks import imdb_goals, readme
from fastrnn.imdb.presets import GOALS


def made_up(preset, way, seed, data, cache):
    first = not cache.exists()
    cache.mkdir(exist_ok=True)
    return {
        "preset": preset,
        "options": list(way),
        "seed": seed,
        "seconds": 123.4 if first else 2.5 + seed,
        "tokenises": first,
        "test": {"accuracy": 0.8 + seed / 1000},
        "epochs": 1,
        "seconds_per_epoch": 0.5,
        "threads": 1,
    }


def test_each_goal_is_run_and_stands_in_the_readme():
    assert set(imdb_goals.WAYS) == set(GOALS)
    table = readme.split(readme.README.read_text(), "imdb-goals")[1]
    for preset in GOALS:
        assert f"| `{preset}` |" in table


def test_rows_and_table(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(imdb_goals, "train", made_up)
    path = tmp_path / "goals.json"
    imdb_goals.main(["--data", "x", "--presets", "quick", "--seeds", "0", "2", "--json", str(path)])
    results = json.loads(path.read_text())
    assert imdb_goals.markdown(results) == capsys.readouterr().out
    runs = [(run["seed"], run["tokenises"], tuple(run["options"])) for run in results["runs"]]
    torch = ("--backend", "torch")
    assert runs[:2] == [(0, True, ()), (0, False, torch)]
    assert sorted(runs[2:]) == [(2, False, ()), (2, False, torch)]
    rows = imdb_goals.markdown(results).splitlines()[-2:]
    assert rows == [
        "| `quick` | 1 | 80.10 ± 0.14 | 0.5 | 4.5 | 123 |",
        "| `quick --backend torch` | 1 | 80.10 ± 0.14 | 0.5 | 2.5 to 4.5 |  |",
    ]


def test_the_command_is_run(data, tmp_path):
    cache = tmp_path / "cache"
    for tokenises in (True, False):
        run = imdb_goals.train("quick", ("--backend", "torch"), 7, data, cache)
        assert (run["seed"], run["epochs"], run["tokenises"]) == (7, 1, tokenises)
        assert run["seconds"] > run["seconds_per_epoch"] > 0
    with pytest.raises(SystemExit, match=r"this failed with 2: .* --preset quick --epochs 0"):
        imdb_goals.train("quick", ("--epochs", "0"), 0, data, cache)
