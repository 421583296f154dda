"""The program that tables all presets, on made-up reviews and one short epoch each."""

from __future__ import annotations

import dataclasses
import json

import pytest
from imdb_training import quick, small_corpus

from benchmarks import imdb_presets
from fastrnn.imdb.presets import PRESETS

BEGIN, END = "<!-- imdb-presets:begin -->\n", "<!-- imdb-presets:end -->"
PAGE = f"# Title\n{BEGIN}old\n{END}\nend\n"


@pytest.fixture
def corpus(monkeypatch):
    """Made-up reviews that pass for real ones, and presets that end soon."""
    found = dataclasses.replace(small_corpus(), synthetic=False, source="/secret/path")
    monkeypatch.setattr(imdb_presets, "load_corpus", lambda data: found)
    monkeypatch.setattr(
        imdb_presets, "configure", lambda name, **given: quick(name, **{"epochs": 1, **given})
    )


def run(tmp_path, *options):
    results, readme = tmp_path / "results.json", tmp_path / "README.md"
    readme.write_text(PAGE)
    imdb_presets.main([*options, "--results", str(results), "--readme", str(readme)])
    return json.loads(results.read_text()), readme.read_text()


def test_runs_every_preset_and_writes_json_and_table(corpus, tmp_path, capsys):
    results, page = run(tmp_path, "--backend", "torch", "--seeds", "7", "8")
    assert [row["preset"] for row in results["rows"]] == list(PRESETS)
    assert (results["backend"], results["seeds"]) == ("torch", [7, 8])
    assert all([run["seed"] for run in row["runs"]] == [7, 8] for row in results["rows"])
    assert "secret" not in json.dumps(results) + page
    lines = [line for line in page.splitlines() if line.startswith("| ")]
    assert lines[1:] == [imdb_presets.line(row) for row in results["rows"]]
    assert lines[1:] == capsys.readouterr().out.splitlines()
    assert len({line.count(" | ") for line in lines}) == 1
    assert page.startswith("# Title\n<!--") and page.endswith("-->\nend\n")
    assert "\nold\n" not in page
    for mark in (BEGIN, END):
        assert page.count(mark) == 1


def test_line_of_known_figures():
    first = {
        "seed": 0,
        "epochs": 12,
        "best_epoch": 9,
        "validation": {"loss": 0.4, "accuracy": 0.80, "f1": 0.7},
        "test": {"loss": 0.5, "accuracy": 0.81, "f1": 0.79},
        "seconds_per_epoch": 0.456,
    }
    second = first | {"epochs": 8, "validation": {"loss": 0.4, "accuracy": 0.82, "f1": 0.7}}
    row = {
        "preset": "lstm",
        "cell": "lstm",
        "recurrent_parameters": {"torch": 832, "keras": 800},
        "parameters": {"torch": 8841, "keras": 8809},
        "reported_validation": 0.8088,
        "runs": [first, second],
    }
    assert imdb_presets.line(row) == (
        "| `lstm` | lstm | 832 / 8,841 | 800 / 8,809 | 12 (9), 8 (9) | 81.0 ± 1.4 | 80.9 | +0.1 "
        "| 81.0 ± 0.0 | 79.0 ± 0.0 | 0.46 |"
    )


@pytest.mark.parametrize("page", ["nothing", BEGIN, PAGE + PAGE])
def test_page_without_its_marks_is_refused_before_the_work(page, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(page)
    with pytest.raises(ValueError, match="imdb-presets:begin"):
        imdb_presets.main(["--data", str(tmp_path / "nowhere"), "--readme", str(readme)])
    assert readme.read_text() == page


def test_made_up_reviews_are_not_tabled(monkeypatch, tmp_path):
    monkeypatch.setattr(imdb_presets, "load_corpus", lambda data: small_corpus())
    with pytest.raises(SystemExit, match="No table of made-up reviews: made up for a test"):
        run(tmp_path)
